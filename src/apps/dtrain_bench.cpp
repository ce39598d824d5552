#include "dtrain/bench/measurements.hpp"
#include "dtrain/core/number.hpp"
#include "dtrain/io/file.hpp"
#include "dtrain/model/fingerprint.hpp"
#include "dtrain/train/description.hpp"

#include "program.hpp"
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <span>
#include <string>

namespace {

using namespace dtrain;
using bench::Spread;

constexpr const char* usage =
    R"(usage: [mpirun -np N] dtrain-bench CONFIG [--section.key=value ...] [--steps N] [--json FILE]

Times the training steps of a config, phase by phase. Compares the engines and the precisions of matrix products, and the
reducers with a bare MPI_Allreduce.
Results are medians over blocks of steps. The program writes only FILE.

  --section.key=value  overrides a key of the config, for example --training.batch_size=256
  --steps N            training steps per block (default: as many as take 0.3 s)
  --blocks N           number of blocks (default: 9)
  --steps-only         times only the steps: neither the peaks, nor other products, nor the exchanges
  --json FILE          writes the results to FILE
  --help               prints this text
  --version            prints the version

GFLOP/s counts the matrix products of the forward and backward pass: one multiply-add is 2 FLOPs. The gradient of the
network's input is not computed and not counted. The peak is the speed of OpenBLAS' sgemm of 2048 x 2048 matrices on
all ranks at once, measured between the blocks. The peak of bfloat16 is that of the kernels in use, without rounding.

exit codes: 0 done, 2 bad command line or config, 3 bad data, 5 training diverged, 6 cannot write output, 7 a rank died
)";

struct Options {
    std::int64_t steps = 0;
    std::int64_t blocks = 9;
    bool steps_only = false;
    std::string json;
};

/// Removes the options of this program from `words`.
Options parse(apps::Words& words) {
    Options options;
    options.steps_only = apps::take(words, "--steps-only");
    const auto wrong = [](const std::string& problem) {
        return core::Error(core::ExitCode::bad_config, fmt::format("{}\n{}", problem, usage));
    };
    for (auto word = words.begin(); word != words.end();) {
        const std::size_t equals = word->find('=');
        const std::string name = word->substr(0, equals);
        if (name != "--steps" && name != "--blocks" && name != "--json") {
            ++word;
            continue;
        }
        std::string value;
        if (equals != std::string::npos) {
            value = word->substr(equals + 1);
        } else if (word + 1 != words.end() && !(word + 1)->starts_with("--")) {
            word = words.erase(word);
            value = *word;
        }
        word = words.erase(word);
        if (value.empty()) {
            throw wrong(name + " needs a value");
        }
        if (name == "--json") {
            options.json = value;
            continue;
        }
        const auto number = core::parse_number<std::int64_t>(value);
        if (!number || *number < 1) {
            throw wrong(fmt::format("{} {}: expected a whole number of at least 1", name, value));
        }
        (name == "--steps" ? options.steps : options.blocks) = *number;
    }
    return options;
}

struct NamedPhase {
    core::Phase phase;
    const char* name;
};
constexpr std::array<NamedPhase, 6> phases{{{core::Phase::data, "data"},
                                            {core::Phase::forward, "forward"},
                                            {core::Phase::backward, "backward"},
                                            {core::Phase::reduce, "reduce"},
                                            {core::Phase::update, "update"},
                                            {core::Phase::wait, "wait"}}};

struct Results {
    bench::StepMeasurement steps;
    std::vector<bench::Alternative> alternatives;
    std::vector<bench::ExchangeMeasurement> exchanges;
};

void print(const config::Config& config, const train::Replica& replica, const Results& results) {
    const auto& [steps, alternatives, exchanges] = results;
    const auto range = [](const Spread& s, double unit, int digits) {
        return fmt::format("{:.{}f} ({:.{}f} to {:.{}f})", s.median / unit, digits, s.min / unit, digits, s.max / unit,
                           digits);
    };
    const auto rate = [&range](const Spread& s) { // with the digits of dtrain's epoch lines
        return s.median >= 1e6 ? range(s, 1e6, 2) + " M" : s.median >= 1e3 ? range(s, 1e3, 1) + " k" : range(s, 1, 0);
    };
    fmt::print("{}\n{}\n", train::describe(replica.plan()), train::describe(replica.dataset()));
    fmt::print("measured    {} blocks of {} steps\n", steps.blocks, steps.steps_per_block);
    fmt::print("speed       {} samples/s, {:.1f} us per full step\n", rate(steps.samples_per_second),
               static_cast<double>(replica.sampler().batch_samples(0)) / steps.samples_per_second.median * 1e6);
    fmt::print("arithmetic  {} GFLOP/s in products\n", range(steps.flops, 1e9, 1));
    if (steps.peak) {
        fmt::print("peak        {} GFLOP/s, sgemm on all ranks at once ({})\n", range(steps.peak->flops, 1e9, 1),
                   steps.peak->name);
        fmt::print("fraction    {} of the peak\n", range(steps.peak->fraction, 1, 3));
        fmt::print("bfloat16    {} GFLOP/s, products on all ranks at once ({}); the {} steps of this config have {} of "
                   "it\n",
                   range(steps.bfloat16_peak->flops, 1e9, 1), steps.bfloat16_peak->name, config.training.precision,
                   range(steps.bfloat16_peak->fraction, 1, 3));
    }
    for (const bench::Alternative& other : alternatives) {
        fmt::print("{:<11} {} samples/s with {} = {}; this config is {} times as fast\n", "compared",
                   rate(other.samples_per_second), other.key, other.value, range(other.ratio, 1, 3));
    }
    fmt::print("memory      {:.1f} MB resident, max over ranks\n", steps.resident_bytes / 1e6);
    fmt::print("\nphase          us per step  slowest rank\n");
    for (const NamedPhase& phase : phases) {
        const bench::PhaseCost& cost = steps.phases[static_cast<std::size_t>(phase.phase)];
        fmt::print("{:<12} {:>13.2f}  {:>5} ({:.2f})\n", phase.name, cost.seconds * 1e6, cost.slowest_rank,
                   cost.slowest_seconds * 1e6);
    }
    if (exchanges.empty()) {
        return;
    }
    fmt::print("\nexchange of {} floats        us  bus GB/s  speed-up over MPI_Allreduce\n",
               replica.network().layout().arena_size());
    for (const bench::ExchangeMeasurement& exchange : exchanges) {
        fmt::print("{:<20} {:>18.1f}  {:>8.2f}  {:.1f}\n", exchange.name, exchange.seconds.median * 1e6,
                   exchange.bus_bandwidth / 1e9, exchanges.front().seconds.median / exchange.seconds.median);
    }
}

nlohmann::ordered_json json(const Spread& spread) {
    return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

std::string to_json(const config::Config& config, const mpi::Communicator& communicator, const train::Replica& replica,
                    const Results& results) {
    const auto& [steps, alternatives, exchanges] = results;
    const std::uint64_t fingerprint = model::fingerprint(replica.network().layout(), replica.parameters());
    nlohmann::ordered_json root{{"dtrain_version", DTRAIN_VERSION},
                                {"ranks", communicator.size()},
                                {"nodes", replica.plan().nodes()},
                                {"logical_shards", config.parallel.logical_shards},
                                {"layers", config.model.layers},
                                {"batch_size", replica.sampler().batch_samples(0)},
                                {"parameters", replica.network().layout().parameter_count()},
                                {"flops_per_sample", replica.network().training_flops()},
                                {"arithmetic", replica.plan().products().arithmetic_name()},
                                {"blocks", steps.blocks},
                                {"steps_per_block", steps.steps_per_block},
                                {"samples_per_second", json(steps.samples_per_second)},
                                {"flops", json(steps.flops)},
                                {"resident_bytes", steps.resident_bytes},
                                {"fingerprint", fmt::format("{:016x}", fingerprint)}};
    if (steps.peak) {
        root["sgemm"] = steps.peak->name;
        root["peak_flops"] = json(steps.peak->flops);
        root["fraction_of_peak"] = json(steps.peak->fraction);
        root["bfloat16"] = {{"unit", steps.bfloat16_peak->name},
                            {"peak_flops", json(steps.bfloat16_peak->flops)},
                            {"fraction_of_peak", json(steps.bfloat16_peak->fraction)}};
    }
    for (const bench::Alternative& other : alternatives) {
        root["alternatives"][other.key][other.value] = {{"samples_per_second", json(other.samples_per_second)},
                                                        {"ratio", json(other.ratio)}};
    }
    for (const NamedPhase& phase : phases) {
        const bench::PhaseCost& cost = steps.phases[static_cast<std::size_t>(phase.phase)];
        root["phases"][phase.name] = {{"seconds", cost.seconds},
                                      {"slowest_rank", cost.slowest_rank},
                                      {"slowest_rank_seconds", cost.slowest_seconds}};
    }
    for (const bench::ExchangeMeasurement& exchange : exchanges) {
        root["exchanges"][exchange.name] = {{"floats", replica.network().layout().arena_size()},
                                            {"seconds", json(exchange.seconds)},
                                            {"bus_bandwidth", exchange.bus_bandwidth}};
    }
    return root.dump(2) + "\n";
}

/// Whether this program wrote the file.
bool is_bench_result(const std::filesystem::path& file) {
    std::ifstream in(file);
    const nlohmann::json root = nlohmann::json::parse(in, nullptr, false);
    return root.is_object() && root.contains("dtrain_version") && root.contains("samples_per_second");
}

core::ExitCode execute(apps::Words words, const mpi::Communicator& communicator) {
    Options options;
    mpi::together(communicator, [&] {
        options = parse(words);
        // The file is replaced as a whole, so it must not be a device or a file of another program.
        if (communicator.is_root() && std::filesystem::exists(options.json) &&
            !std::filesystem::is_regular_file(options.json)) {
            throw core::Error(core::ExitCode::bad_output,
                              fmt::format("cannot write {}: it is not a regular file", options.json));
        }
        if (communicator.is_root() && std::filesystem::exists(options.json) && !is_bench_result(options.json)) {
            throw core::Error(core::ExitCode::bad_output,
                              fmt::format("{} exists and is not a result file of dtrain-bench: --json replaces only "
                                          "result files. Choose another name, or remove the file",
                                          options.json));
        }
    });
    const config::Config config = apps::load_config(words, usage, communicator);
    train::Plan plan(config, communicator);
    train::Replica replica(plan);
    replica.initialise();
    Results results;
    results.steps = bench::measure_steps(replica, {options.blocks, options.steps, !options.steps_only}, communicator);
    if (!options.steps_only) {
        results.alternatives =
            bench::compare_products(replica, {options.blocks, results.steps.steps_per_block}, config, communicator);
        results.exchanges = bench::measure_exchanges(replica.network().layout().arena_size(), config, communicator);
    }
    mpi::together(communicator, [&] {
        if (communicator.is_root()) {
            print(config, replica, results);
            if (!options.json.empty()) {
                const std::string text = to_json(config, communicator, replica, results);
                io::replace_file(options.json, std::as_bytes(std::span(text)));
            }
        }
    });
    return core::ExitCode::ok;
}

} // namespace

int main(int argc, char** argv) {
    return dtrain::apps::run_program(argc, argv, "dtrain-bench", usage, execute);
}
