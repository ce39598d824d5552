#include "keys.hpp"

#include "dtrain/core/number.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string_view>

namespace dtrain::config {
namespace {

constexpr Verdict verdict(bool good) {
    return good ? Verdict::ok : Verdict::wrong;
}

template <std::integral T>
Verdict whole(std::string_view text, T low, T high, T& result) {
    const auto number = core::parse_number<T>(text);
    result = number.value_or(result);
    return verdict(number && result >= low && result <= high);
}

Verdict real_within(std::string_view text, double low, double high, double& result) {
    const auto number = core::parse_number<double>(text);
    result = number.value_or(result);
    return verdict(number && result >= low && result <= high);
}
constexpr double above_zero = std::numeric_limits<double>::denorm_min();
constexpr double below_one = 1 - std::numeric_limits<double>::epsilon() / 2;

template <typename Text>
Verdict non_empty(std::string_view text, Text& result) {
    result = text;
    return verdict(!text.empty());
}

/// "N unit" with any spaces or tabs between the two words.
Verdict interval(std::string_view text, Interval& result) {
    struct Unit {
        std::string_view singular;
        std::string_view plural;
        Interval::Unit unit;
        std::int64_t factor;
    };
    static constexpr std::array units{
        Unit{"epoch", "epochs", Interval::Unit::epochs, 1},    Unit{"step", "steps", Interval::Unit::steps, 1},
        Unit{"second", "seconds", Interval::Unit::seconds, 1}, Unit{"minute", "minutes", Interval::Unit::seconds, 60},
        Unit{"hour", "hours", Interval::Unit::seconds, 3600},
    };
    const std::size_t gap = text.find_first_of(" \t");
    if (gap == std::string_view::npos)
        return Verdict::wrong;
    const std::string_view word = text.substr(text.find_first_not_of(" \t", gap));
    std::int64_t count = 0;
    if (whole<std::int64_t>(text.substr(0, gap), 1, 1'000'000'000, count) != Verdict::ok)
        return Verdict::wrong;
    for (const Unit& unit : units)
        if (word == unit.singular || word == unit.plural) {
            result = {.count = count * unit.factor, .unit = unit.unit};
            return Verdict::ok;
        }
    return Verdict::wrong;
}

using Text = std::string_view;
constexpr std::int64_t max_samples = std::int64_t{1} << 40;
constexpr std::int64_t max_batch = std::numeric_limits<std::int32_t>::max();

// clang-format off
constexpr std::array table{
    Key{"data", "source", "idx", "the name of a data source",
        [](Config& c, Text v) { return non_empty(v, c.data.source); }},
    Key{"data", "directory", "data/mnist", "a directory",
        [](Config& c, Text v) { return non_empty(v, c.data.directory); }, Kind::path},
    Key{"data", "file", "data/data.h5", "a file",
        [](Config& c, Text v) { return non_empty(v, c.data.file); }, Kind::path},
    Key{"data", "train_samples", "0", "0 (all) or a whole number from 1 to 1099511627776",
        [](Config& c, Text v) { return whole<std::int64_t>(v, 0, max_samples, c.data.train_samples); }},
    Key{"data", "test_samples", "0", "0 (all) or a whole number from 1 to 1099511627776",
        [](Config& c, Text v) { return whole<std::int64_t>(v, 0, max_samples, c.data.test_samples); }},
    Key{"data", "validation_samples", "0", "a whole number from 0 to 1099511627776",
        [](Config& c, Text v) { return whole<std::int64_t>(v, 0, max_samples, c.data.validation_samples); }},
    Key{"data", "readers", "0", "0 (all ranks) or a whole number from 1 to 1000000",
        [](Config& c, Text v) { return whole<int>(v, 0, 1000000, c.data.readers); }},

    Key{"augment", "shift", "0", "a number of pixels from 0 to 10000",
        [](Config& c, Text v) { return real_within(v, 0, 10000, c.augment.shift); }},
    Key{"augment", "rotate", "0", "a number of degrees from 0 to 180",
        [](Config& c, Text v) { return real_within(v, 0, 180, c.augment.rotate); }},
    Key{"augment", "scale", "0", "a number from 0 to 0.9",
        [](Config& c, Text v) { return real_within(v, 0, 0.9, c.augment.scale); }},
    Key{"augment", "shear", "0", "a number from 0 to 10",
        [](Config& c, Text v) { return real_within(v, 0, 10, c.augment.shear); }},
    Key{"augment", "elastic_alpha", "0", "a number of pixels from 0 to 10000",
        [](Config& c, Text v) { return real_within(v, 0, 10000, c.augment.elastic_alpha); }},
    Key{"augment", "elastic_sigma", "4", "a number of pixels from 0.1 to 100",
        [](Config& c, Text v) { return real_within(v, 0.1, 100, c.augment.elastic_sigma); }},

    Key{"model", "layers", "dense 16 sigmoid, dense 16 sigmoid, dense 10 sigmoid", "a list of layers",
        [](Config& c, Text v) { return non_empty(v, c.model.layers); }},
    Key{"model", "cost", "quadratic", "the name of a cost",
        [](Config& c, Text v) { return non_empty(v, c.model.cost); }},
    Key{"model", "seed", "1", "a whole number from 0 to 18446744073709551615", [](Config& c, Text v) {
        return whole<std::uint64_t>(v, 0, std::numeric_limits<std::uint64_t>::max(), c.model.seed);
    }},
    Key{"model", "initial", "random", "random, a checkpoint or the output folder of a run", [](Config& c, Text v) {
        c.model.initial = v == "random" ? std::nullopt : std::optional<std::filesystem::path>(v);
        return verdict(!v.empty());
    }, Kind::path},

    Key{"training", "epochs", "30", "a whole number from 0 to 1000000",
        [](Config& c, Text v) { return whole<std::int64_t>(v, 0, 1'000'000, c.training.epochs); }},
    Key{"training", "batch_size", "32", "all or a whole number from 1 to 2147483647", [](Config& c, Text v) {
        c.training.batch_size = 0;
        return v == "all" ? Verdict::ok : whole<std::int64_t>(v, 1, max_batch, c.training.batch_size);
    }},
    Key{"training", "micro_batch", "0",
        "0 (all samples of the rank if there are at most 512, otherwise 256) or a whole number from 8 to 2147483647",
        [](Config& c, Text v) {
        std::int64_t& x = c.training.micro_batch;
        return verdict(whole<std::int64_t>(v, 0, max_batch, x) == Verdict::ok && (x == 0 || x >= 8));
    }},
    Key{"training", "precision", "float32", "the name of a number format",
        [](Config& c, Text v) { return non_empty(v, c.training.precision); }},
    Key{"training", "optimizer", "sgd", "the name of an optimizer",
        [](Config& c, Text v) { return non_empty(v, c.training.optimizer); }},
    Key{"training", "learning_rate", "3.0", "a number greater than 0 and at most 1000000",
        [](Config& c, Text v) { return real_within(v, above_zero, 1e6, c.training.learning_rate); }},
    Key{"training", "momentum", "0.9", "a number from 0 to less than 1",
        [](Config& c, Text v) { return real_within(v, 0, below_one, c.training.momentum); }},
    Key{"training", "weight_decay", "0", "a number from 0 to 1000000",
        [](Config& c, Text v) { return real_within(v, 0, 1e6, c.training.weight_decay); }},
    Key{"training", "clip_norm", "0", "0 (off) or a number from 0.000000001 to 1000000", [](Config& c, Text v) {
        double& x = c.training.clip_norm;
        return verdict(real_within(v, 0, 1e6, x) == Verdict::ok && (x == 0 || x >= 1e-9));
    }},
    Key{"training", "schedule", "constant", "the name of a schedule",
        [](Config& c, Text v) { return non_empty(v, c.training.schedule); }},
    Key{"training", "warmup_epochs", "0", "a number from 0 to 1000000",
        [](Config& c, Text v) { return real_within(v, 0, 1e6, c.training.warmup_epochs); }},
    Key{"training", "decay_epochs", "10", "a number greater than 0 and at most 1000000",
        [](Config& c, Text v) { return real_within(v, above_zero, 1e6, c.training.decay_epochs); }},
    Key{"training", "decay_factor", "0.1", "a number greater than 0 and at most 1",
        [](Config& c, Text v) { return real_within(v, above_zero, 1, c.training.decay_factor); }},
    Key{"training", "patience", "0", "0 (train all epochs) or a whole number of epochs from 1 to 1000000",
        [](Config& c, Text v) { return whole<std::int64_t>(v, 0, 1'000'000, c.training.patience); }},

    Key{"parallel", "logical_shards", "8", "a whole number from 1 to 65536",
        [](Config& c, Text v) { return whole(v, 1, 65536, c.parallel.logical_shards); }},
    Key{"parallel", "reducer", "auto", "the name of a reducer",
        [](Config& c, Text v) { return non_empty(v, c.parallel.reducer); }},
    Key{"parallel", "compression", "none", "none or bfloat16", [](Config& c, Text v) {
        c.parallel.compressed = v == "bfloat16";
        return verdict(v == "none" || v == "bfloat16");
    }},
    Key{"parallel", "products", "exact", "the name of an engine for matrix products",
        [](Config& c, Text v) { return non_empty(v, c.parallel.products); }},
    Key{"parallel", "threads", "1", "a whole number from 1 to 1024",
        [](Config& c, Text v) { return whole(v, 1, 1024, c.parallel.threads); }},
    Key{"parallel", "stall_timeout", "60", "0 (off) or a number of seconds from 1 to 86400", [](Config& c, Text v) {
        double& x = c.parallel.stall_timeout_seconds;
        return verdict(real_within(v, 0, 86400, x) == Verdict::ok && (x == 0 || x >= 1));
    }},
    Key{"parallel", "sync_every", "1", "a whole number of steps from 1 to 1000000000",
        [](Config& c, Text v) { return whole<std::int64_t>(v, 1, 1'000'000'000, c.parallel.sync_every); }},
    Key{"parallel", "ranks_per_node", "0", "0 (all ranks of a machine) or a whole number from 1 to 1000000",
        [](Config& c, Text v) { return whole(v, 0, 1'000'000, c.parallel.ranks_per_node); }},
    Key{"parallel", "check_every", "500", "0 (never) or a whole number of steps from 1 to 1000000000",
        [](Config& c, Text v) { return whole<std::int64_t>(v, 0, 1'000'000'000, c.parallel.check_every); }},

    Key{"output", "directory", "runs/mnist", "a directory",
        [](Config& c, Text v) { return non_empty(v, c.output.directory); }, Kind::path},
    Key{"output", "checkpoint_every", "1 epoch",
        "N epochs, N steps, N seconds, N minutes or N hours, where N is a whole number from 1 to 1000000000",
        [](Config& c, Text v) { return interval(v, c.output.checkpoint_every); }},
    Key{"output", "keep_checkpoints", "3", "0 (all) or a whole number from 1 to 1000000",
        [](Config& c, Text v) { return whole(v, 0, 1'000'000, c.output.keep_checkpoints); }},
    Key{"output", "keep_best", "true", "true or false", [](Config& c, Text v) {
        c.output.keep_best = v == "true";
        return verdict(v == "true" || v == "false");
    }},
    Key{"output", "resume", "auto", "auto or never", [](Config& c, Text v) {
        c.output.resume = v == "auto";
        return verdict(v == "auto" || v == "never");
    }},
};
// clang-format on

struct Renamed {
    std::string_view before;
    std::string_view now;
};
constexpr std::array renamed{
    Renamed{"parallel.blas_threads", "parallel.threads"},
    Renamed{"parallel.node_ranks", "parallel.ranks_per_node"},
};

} // namespace

std::span<const Key> keys() {
    return table;
}

std::string_view current_name(std::string_view name) {
    const auto* const found = std::ranges::find(renamed, name, &Renamed::before);
    return found == renamed.end() ? name : found->now;
}

} // namespace dtrain::config
