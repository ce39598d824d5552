#include "dtrain/config/config.hpp"
#include "dtrain/core/error.hpp"
#include "dtrain/core/gemm.hpp"
#include "dtrain/data/dataset.hpp"
#include "dtrain/io/checkpoint.hpp"
#include "dtrain/train/data_source.hpp"
#include "dtrain/train/evaluator.hpp"
#include "dtrain/train/trainer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using namespace dtrain;

constexpr const char* usage = R"(usage: dtrain-eval CHECKPOINT [--images IDX [--labels IDX]]

Prints accuracy, cost and confusion matrix of a checkpoint on a data set; the test set of its config by default.
With --images alone prints the predicted class of each image and the activation of that class.
)";

struct Arguments {
    std::filesystem::path checkpoint, images, labels;
    bool help = false;
};

Arguments parse(int argc, char** argv) {
    Arguments arguments;
    const auto wrong = [](const std::string& problem) {
        return core::Error(core::ExitCode::bad_config, fmt::format("{}\n{}", problem, usage));
    };
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word == "--help" || word == "-h") {
            arguments.help = true;
        } else if (word == "--images" || word == "--labels") {
            if (++i == argc) {
                throw wrong(word + " needs a file");
            }
            (word == "--images" ? arguments.images : arguments.labels) = argv[i];
        } else if (word.starts_with("-")) {
            throw wrong("unknown option " + word);
        } else if (!arguments.checkpoint.empty()) {
            throw wrong("one checkpoint, please: " + word);
        } else {
            arguments.checkpoint = word;
        }
    }
    if (!arguments.help && arguments.checkpoint.empty()) {
        throw wrong("no checkpoint given");
    }
    if (!arguments.labels.empty() && arguments.images.empty()) {
        throw wrong("--labels goes with --images");
    }
    return arguments;
}

void print_confusion(const std::vector<std::int64_t>& counts, std::size_t classes) {
    fmt::print("confusion matrix (rows: label, columns: prediction)\n      ");
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

data::Split load_samples(const Arguments& arguments, const config::Config& config, std::size_t classes,
                         const io::Checkpoint& checkpoint) {
    if (!arguments.images.empty()) {
        return data::load_split(arguments.images, arguments.labels, static_cast<int>(classes));
    }
    try {
        return train::load_test_set(config, classes);
    } catch (const core::Error& error) {
        if (error.code() == core::ExitCode::bad_config) {
            checkpoint.fail(error.what());
        }
        throw;
    }
}

void run(const Arguments& arguments) {
    const io::Checkpoint checkpoint(arguments.checkpoint);
    const config::Config config = train::config_of(checkpoint);
    core::set_product_threads(config.parallel.blas_threads);
    nn::Network<float> network = train::network_of(checkpoint);
    const core::Buffer<float> parameters(network.layout().arena_size());
    std::vector<io::TensorView> tensors;
    for (const nn::Tensor& tensor : network.layout().tensors()) {
        tensors.push_back({"/model/" + tensor.name, tensor.shape, tensor.in(parameters.values())});
    }
    checkpoint.read(tensors);

    const bool labelled = arguments.images.empty() || !arguments.labels.empty();
    const std::int64_t limit = arguments.images.empty() ? config.data.test_samples : 0;
    const std::size_t classes = network.outputs();
    const data::Split split = load_samples(arguments, config, classes, checkpoint);
    if (split.sample_shape != checkpoint.info().sample_shape) {
        throw core::Error(core::ExitCode::bad_data,
                          fmt::format("{}: samples are {}, the network takes {}",
                                      arguments.images.empty() ? "test set" : arguments.images.string(),
                                      nn::to_string(split.sample_shape),
                                      nn::to_string(checkpoint.info().sample_shape)));
    }
    network.reserve(nn::Extent::of(train::evaluation_rows, 1)); // now that the samples bear out the size
    train::Evaluator evaluator(network, config.model.cost, split);
    double cost = 0;
    std::int64_t correct = 0;
    std::vector<std::int64_t> confusion(classes * classes);
    const std::int64_t samples = limit == 0 ? split.total : std::min(limit, split.total);
    evaluator.visit(parameters.values(), {0, samples}, [&](std::int64_t first, core::MatrixView<const float> outputs) {
        for (std::size_t n = 0; n < outputs.rows; ++n) {
            const std::size_t predicted = train::predicted_class(outputs.row(n));
            const std::size_t sample = static_cast<std::size_t>(first) + n;
            if (!labelled) {
                fmt::print("{} {} {:.6f}\n", sample, predicted, outputs.row(n)[predicted]);
                continue;
            }
            const std::size_t label = split.labels.data()[sample];
            ++confusion[label * classes + predicted];
            correct += label == predicted ? 1 : 0;
        }
        cost += labelled ? evaluator.cost(first, outputs) : 0;
    });
    if (labelled) {
        const auto total = static_cast<double>(samples);
        fmt::print("checkpoint {} after epoch {}, step {}\n", arguments.checkpoint.string(), checkpoint.info().epoch,
                   checkpoint.info().step);
        fmt::print("samples    {}\naccuracy   {:.2f} % ({} of {})\ncost       {:.6f}\n", samples,
                   100 * static_cast<double>(correct) / total, correct, samples, cost / total);
        print_confusion(confusion, classes);
    }
}

} // namespace

int main(int argc, char** argv) {
    try {
        const Arguments arguments = parse(argc, argv);
        if (arguments.help) {
            fmt::print("{}", usage);
        } else {
            run(arguments);
        }
        return 0;
    } catch (const core::Error& error) {
        fmt::print(stderr, "dtrain-eval: {}\n", error.what());
        return static_cast<int>(error.code());
    } catch (const std::exception& error) {
        fmt::print(stderr, "dtrain-eval: {}\n", error.what());
        return static_cast<int>(core::ExitCode::bad_checkpoint);
    }
}
