#include "dtrain/config/config.hpp"
#include "dtrain/core/error.hpp"
#include "dtrain/core/number.hpp"
#include "dtrain/core/terminal.hpp"
#include "dtrain/data/dataset.hpp"
#include "dtrain/data/source.hpp"
#include "dtrain/evaluate/cost_surface.hpp"
#include "dtrain/evaluate/drawing.hpp"
#include "dtrain/evaluate/evaluation.hpp"
#include "dtrain/evaluate/path.hpp"
#include "dtrain/io/checkpoint.hpp"
#include "dtrain/io/file.hpp"
#include "dtrain/io/file_kind.hpp"
#include "dtrain/kernels/instruction_set.hpp"
#include "dtrain/model/data_source.hpp"
#include "dtrain/model/evaluator.hpp"
#include "dtrain/model/saved_network.hpp"
#include "dtrain/run/progress.hpp"

#include "program.hpp"
#include "watch.hpp"
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using namespace dtrain;

constexpr const char* usage =
    R"(usage: dtrain-eval CHECKPOINT [--data SET | --images IDX [--labels IDX]] [options], or dtrain-eval RUN --watch

Prints accuracy, cost and confusion matrix of a checkpoint on a data set.
CHECKPOINT may also be the output folder of a run, or a folder of checkpoints: then the newest valid one is used.

  --best         uses the checkpoint of a run with the best score, checkpoints/best.h5
  --data SET     the data set whose test set is used: a folder of IDX files, or an HDF5 file (default: the data set of
                 the checkpoint's config)
  --images IDX   IDX file of samples, instead of a test set
  --labels IDX   IDX file of their labels; without it, prints for each image the predicted class and its activation
  --show N       draws the first N samples with their predicted classes instead; NO_COLOR turns greys and colours off
  --wrong        with --show: draws the N worst mistakes
  --record FILE  also writes outputs, activations, mistakes and the cost surface to the HDF5 file FILE
  --surface N    with --record: grid size of the cost surface, 5 to 500 (default: 25; 0 disables it)
  --watch        follows the log of a run, which need not have begun, until the run is complete or you press Ctrl-C:
                 draws its curves in the terminal after every epoch; elsewhere prints one line per epoch
  --help         prints this text
  --version      prints the version

exit codes: 0 done, 2 bad command line, 3 bad data, 4 bad checkpoint, 6 cannot write output
)";

struct Arguments {
    std::filesystem::path checkpoint, data, images, labels, record;
    bool best = false;
    std::int64_t show = 0;
    bool wrong = false;
    std::int64_t surface = 25;
    bool watch = false;
    bool help = false;
    bool version = false;

    [[nodiscard]] bool labelled() const { return images.empty() || !labels.empty(); }
};

core::Error usage_error(const std::string& problem) {
    return {core::ExitCode::bad_config, fmt::format("{}\n{}", problem, usage)};
}

std::int64_t parse_number(const std::string& option, const std::string& text) {
    const std::int64_t number = core::parse_number<std::int64_t>(text).value_or(-1);
    if (option == "--show" && number < 1) {
        throw usage_error(fmt::format("--show {}: expected a number of samples, at least 1", text));
    }
    if (option == "--surface" && number != 0 && (number < 5 || number > 500)) {
        throw usage_error(fmt::format("--surface {}: expected a grid size from 5 to 500, or 0 for no surface", text));
    }
    return number;
}

Arguments parse(int argc, char** argv) {
    Arguments arguments;
    bool surface_given = false;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        const auto value = [&](const char* what) -> std::string {
            if (++i == argc) {
                throw usage_error(fmt::format("{} needs {}", word, what));
            }
            return argv[i];
        };
        if (word == "--help" || word == "-h") {
            arguments.help = true;
        } else if (word == "--version") {
            arguments.version = true;
        } else if (word == "--data") {
            arguments.data = value("a folder or a file");
        } else if (word == "--images") {
            arguments.images = value("a file");
        } else if (word == "--labels") {
            arguments.labels = value("a file");
        } else if (word == "--record") {
            arguments.record = value("a file");
        } else if (word == "--show") {
            arguments.show = parse_number(word, value("a number"));
        } else if (word == "--surface") {
            arguments.surface = parse_number(word, value("a number"));
            surface_given = true;
        } else if (word == "--best") {
            arguments.best = true;
        } else if (word == "--watch") {
            arguments.watch = true;
        } else if (word == "--wrong") {
            arguments.wrong = true;
        } else if (word.starts_with("-")) {
            throw apps::unknown_option(word, usage);
        } else if (!arguments.checkpoint.empty()) {
            throw usage_error(fmt::format("{}: expected one checkpoint only", word));
        } else {
            arguments.checkpoint = word;
        }
    }
    const auto require = [&](bool good, const char* problem) {
        if (!good && !arguments.help && !arguments.version) {
            throw usage_error(problem);
        }
    };
    require(!arguments.checkpoint.empty(), "no checkpoint given");
    require(!arguments.watch || argc == 3, "--watch takes the output folder of a run and no other option");
    require(arguments.data.empty() || arguments.images.empty(), "--data and --images exclude each other");
    require(arguments.labels.empty() || !arguments.images.empty(), "--labels needs --images");
    require(!arguments.wrong || arguments.show > 0, "--wrong needs --show");
    require(!arguments.wrong || arguments.labelled(), "--wrong needs --labels with --images");
    require(arguments.record.empty() || arguments.labelled(), "--record needs --labels with --images");
    require(!surface_given || !arguments.record.empty(), "--surface needs --record");
    return arguments;
}

/// A checkpoint, its network and the samples to evaluate.
struct Subject {
    const io::Checkpoint& checkpoint;
    const config::Config& config;
    nn::Network<float>& network;
    const core::Buffer<float>& parameters;
    const data::Split& split;
};

/// Makes all of the data set at `path` that of the config.
void use_data(config::Config& config, const std::filesystem::path& path) {
    config.data = {};
    std::error_code unknown; // ignored: opening the data reports errors
    if (std::filesystem::is_directory(path, unknown)) {
        config.data.source = "idx";
        config.data.directory = path;
    } else {
        config.data.source = "hdf5";
        config.data.file = path;
    }
}

/// Loads the samples that the command line names, or else a set of the checkpoint's config. Throws core::Error if they
/// do not fit the network.
data::Split load(const Arguments& arguments, data::Set set, const config::Config& config,
                 const io::Checkpoint& checkpoint, std::size_t classes) {
    const bool given = !arguments.images.empty();
    const std::unique_ptr<data::Source> source = model::make_source(config);
    const data::Origin origin = source->origin();
    std::optional<data::Split> split;
    try {
        split = given ? data::load_split(arguments.images, arguments.labels, classes)
                      : data::load_set(*source, set, classes);
    } catch (const core::Error& error) {
        if (error.code() == core::ExitCode::bad_config) { // the config in the checkpoint is wrong, or memory too small
            checkpoint.fail(error.what());
        }
        if (!given && arguments.data.empty() && error.code() == core::ExitCode::bad_data) {
            throw core::Error(error.code(), fmt::format("{}. The config in the checkpoint has {} = {}: if the data "
                                                        "were moved, use --data",
                                                        error.what(), origin.key, origin.value));
        }
        throw;
    }
    if (split->sample_shape != checkpoint.info().sample_shape) {
        throw core::Error(core::ExitCode::bad_data, fmt::format("{}: samples are {}, but the network needs {}",
                                                                given ? arguments.images.string() : origin.value,
                                                                nn::to_string(split->sample_shape),
                                                                nn::to_string(checkpoint.info().sample_shape)));
    }
    return std::move(*split);
}

void print_confusion(const std::vector<std::int64_t>& counts, std::size_t classes) {
    fmt::print("confusion matrix (rows: true class, columns: predicted class)\n      ");
    for (std::size_t j = 0; j < classes; ++j) {
        fmt::print("{:>6}", j);
    }
    for (std::size_t i = 0; i < classes; ++i) {
        fmt::print("\n{:>6}", i);
        for (std::size_t j = 0; j < classes; ++j) {
            fmt::print("{:>6}", counts[i * classes + j]);
        }
    }
    fmt::print("\n");
}

/// What the user named, or else the name of the training's data set.
std::string name_of_data(const Arguments& arguments, const io::CheckpointInfo& info) {
    return !arguments.images.empty() ? arguments.images.string()
           : !arguments.data.empty() ? arguments.data.string()
                                     : info.dataset;
}

void print_evaluation(const Arguments& arguments, const io::CheckpointInfo& info,
                      const evaluate::Evaluation& evaluation) {
    fmt::print("checkpoint {} after epoch {}, step {}\n", arguments.checkpoint.string(), info.epoch, info.step);
    fmt::print("data set   {}\n", name_of_data(arguments, info));
    fmt::print("samples    {}\naccuracy   {:.2f} % ({} of {})\ncost       {:.6f}\n", evaluation.samples(),
               100 * evaluation.accuracy(), evaluation.correct, evaluation.samples(), evaluation.cost);
    print_confusion(evaluation.confusion(), evaluation.classes);
}

void print_predictions(const evaluate::Evaluation& evaluation) {
    for (std::size_t n = 0; n < evaluation.predictions.size(); ++n) {
        const auto predicted = static_cast<std::size_t>(evaluation.predictions[n]);
        fmt::print("{} {} {:.6f}\n", n, predicted, evaluation.outputs[n * evaluation.classes + predicted]);
    }
}

void show(const Arguments& arguments, const Subject& subject, const evaluate::Evaluation& evaluation) {
    const std::vector<float> scores = evaluate::class_scores(evaluation, subject.config.model.cost);
    const auto most = static_cast<std::size_t>(std::min(arguments.show, evaluation.samples()));
    std::vector<std::int64_t> shown(most);
    std::iota(shown.begin(), shown.end(), 0);
    if (arguments.wrong) {
        shown = evaluate::worst_mistakes(evaluation, scores, most);
        fmt::print("{} of {} samples have a wrong predicted class{}\n\n", evaluation.samples() - evaluation.correct,
                   evaluation.samples(), shown.empty() ? "" : ", the worst first");
    }
    const bool colour = evaluate::output_takes_colour();
    std::vector<float> values(subject.split.sample_size);
    for (const std::int64_t sample : shown) {
        const auto n = static_cast<std::size_t>(sample);
        evaluate::Prediction prediction{sample, std::nullopt, evaluation.predictions[n],
                                        std::span(scores).subspan(n * evaluation.classes, evaluation.classes)};
        if (!evaluation.labels.empty()) {
            prediction.label = evaluation.labels[n];
        }
        subject.split.fetch(sample, values);
        fmt::print("{}\n", evaluate::side_by_side(evaluate::draw_sample(values, subject.split.sample_shape, colour),
                                                  evaluate::draw_prediction(prediction, colour)));
    }
}

/// The surface of the cost on the samples that the command line names, or else on the training set.
evaluate::CostSurface surface_of(const Arguments& arguments, const Subject& subject, bool given) {
    const auto warn = [](std::string_view text) { core::print_error("dtrain-eval: warning: {}\n", text); };
    const std::vector<evaluate::PathPoint> path =
        evaluate::read_path(arguments.checkpoint, subject.checkpoint, subject.network, warn);
    const auto measure = [&](const data::Split& split) {
        run::WorkProgress progress("cost surface");
        return evaluate::measure_surface(subject.network, subject.config.model.cost, split, path,
                                         static_cast<std::size_t>(arguments.surface), subject.config.model.seed,
                                         [&](std::size_t done, std::size_t all) { progress.update(done, all); });
    };
    if (given) {
        return measure(subject.split);
    }
    return measure(load(arguments, data::Set::train, subject.config, subject.checkpoint, subject.network.outputs()));
}

void record(const Arguments& arguments, const Subject& subject, const evaluate::Evaluation& evaluation, bool given) {
    std::optional<evaluate::CostSurface> surface;
    if (arguments.surface > 0) {
        surface = surface_of(arguments, subject, given);
    }
    const evaluate::Evaluated evaluated{subject.checkpoint.info(),
                                        arguments.checkpoint.string(),
                                        name_of_data(arguments, subject.checkpoint.info()),
                                        subject.config.model.cost,
                                        subject.network,
                                        subject.parameters.values(),
                                        subject.split,
                                        given ? arguments.images.string() : "training"};
    io::replace_file(arguments.record,
                     evaluate::encode_evaluation(evaluated, evaluation, surface ? &*surface : nullptr));
}

/// Sets `path` to the best checkpoint of the run or the folder of checkpoints at `path`, if `path` exists.
void find_best(std::filesystem::path& path) {
    std::error_code unknown; // ignored: opening the file reports errors
    if (!std::filesystem::exists(path, unknown)) {
        return;
    }
    if (!std::filesystem::is_directory(path, unknown)) {
        throw core::Error(core::ExitCode::bad_checkpoint,
                          fmt::format("{}: --best needs the folder of a run, but this is a file", path.string()));
    }
    for (const std::filesystem::path& folder : {path / "checkpoints", path}) {
        const std::filesystem::path best = io::CheckpointFolder(folder).best_file();
        if (std::filesystem::exists(best, unknown)) {
            path = best;
            return;
        }
    }
    throw core::Error(core::ExitCode::bad_checkpoint,
                      fmt::format("{}: no best.h5 in this folder. dtrain writes it after the first epoch, unless "
                                  "output.keep_best = false",
                                  path.string()));
}

void execute(Arguments arguments) {
    if (arguments.best) {
        find_best(arguments.checkpoint);
    }
    const io::Checkpoint checkpoint = io::open_checkpoint(
        arguments.checkpoint, [](std::string_view text) { core::print_error("dtrain-eval: warning: {}\n", text); });
    config::Config config = model::config_of(checkpoint);
    if (!arguments.data.empty()) {
        use_data(config, arguments.data);
    }
    const auto products = model::products_of(checkpoint);
    nn::Network<float> network = model::network_of(checkpoint, *products);
    const core::Buffer<float> parameters = model::parameters_of(checkpoint, network);

    const bool given = !arguments.images.empty();
    if (!arguments.record.empty()) {
        if (std::filesystem::exists(arguments.record) && io::kind_of(arguments.record) != io::FileKind::evaluation) {
            throw core::Error(core::ExitCode::bad_output,
                              fmt::format("{} exists and is not an evaluation file: --record replaces only evaluation "
                                          "files. Choose another name, or remove the file",
                                          arguments.record.string()));
        }
        io::require_replaceable(arguments.record);
    }
    const data::Split split = load(arguments, data::Set::test, config, checkpoint, network.outputs());
    network.reserve(nn::Extent::of(model::evaluation_rows, 1)); // after the samples have confirmed the sizes
    const Subject subject{checkpoint, config, network, parameters, split};
    const bool few = arguments.show > 0 && !arguments.wrong && arguments.record.empty();
    const evaluate::Evaluation evaluation =
        evaluate::evaluate(network, parameters.values(), config.model.cost, split,
                           few ? std::min(arguments.show, split.total) : split.total);
    if (!arguments.record.empty()) {
        record(arguments, subject, evaluation, given);
    }
    if (arguments.show > 0) {
        show(arguments, subject, evaluation);
    } else if (arguments.labelled()) {
        print_evaluation(arguments, checkpoint.info(), evaluation);
    } else {
        print_predictions(evaluation);
    }
}

} // namespace

int main(int argc, char** argv) {
    try {
        const Arguments arguments = parse(argc, argv);
        if (arguments.version) {
            fmt::print("dtrain {}\n", apps::version());
        } else if (arguments.help) {
            fmt::print("{}", usage);
        } else if (arguments.watch) {
            apps::watch(arguments.checkpoint);
        } else {
            kernels::use_table(kernels::choose_table());
            execute(arguments);
        }
        apps::finish_output();
        return 0;
    } catch (...) {
        const core::Error error = core::current_error();
        core::print_error("dtrain-eval: {}\n", error.what());
        // This program has no ranks to lose: an unexpected error most likely comes from the file.
        return static_cast<int>(error.code() == core::ExitCode::rank_lost ? core::ExitCode::bad_checkpoint
                                                                          : error.code());
    }
}
