#include "dtrain/config/config.hpp"

#include "messages.hpp"
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::config {
namespace {

constexpr std::string_view default_text = R"([data]
source = idx
directory = data/mnist
file = data/data.h5
train_samples = 0
test_samples = 0
validation_samples = 0
readers = 0

[augment]
shift = 0
rotate = 0
scale = 0
shear = 0
elastic_alpha = 0
elastic_sigma = 4

[model]
layers = dense 16 sigmoid, dense 16 sigmoid, dense 10 sigmoid
cost = quadratic
seed = 1
initial = random

[training]
epochs = 30
batch_size = 32
micro_batch = 0
precision = float32
optimizer = sgd
learning_rate = 3.0
momentum = 0.9
weight_decay = 0
clip_norm = 0
schedule = constant
warmup_epochs = 0
decay_epochs = 10
decay_factor = 0.1
patience = 0

[parallel]
logical_shards = 8
reducer = auto
compression = none
products = exact
threads = 1
stall_timeout = 60
sync_every = 1
ranks_per_node = 0
check_every = 500

[output]
directory = runs/mnist
checkpoint_every = 1 epoch
keep_checkpoints = 3
keep_best = true
resume = auto
)";

/// The same keys with other values. No two keys of one type have the same value, so a swapped field shows.
constexpr std::string_view other_text = R"([data]
source = synthetic
directory = some where/else
file = some/file.h5
train_samples = 101
test_samples = 102
validation_samples = 113
readers = 114

[augment]
shift = 2
rotate = 15.5
scale = 0.5
shear = 0.25
elastic_alpha = 34
elastic_sigma = 3.5

[model]
layers = dense 3 relu
cost = cross_entropy
seed = 103
initial = other/run

[training]
epochs = 104
batch_size = 105
micro_batch = 1050
precision = bfloat16
optimizer = adam
learning_rate = 0.7
momentum = 0.125
weight_decay = 0.375
clip_norm = 0.625
schedule = cosine
warmup_epochs = 1.5
decay_epochs = 2.25
decay_factor = 0.75
patience = 114

[parallel]
logical_shards = 106
reducer = mpi
compression = bfloat16
products = openblas
threads = 107
stall_timeout = 2.5
sync_every = 112
ranks_per_node = 108
check_every = 109

[output]
directory = out
checkpoint_every = 110 steps
keep_checkpoints = 111
keep_best = false
resume = never
)";

/// The values of the fields, in the format of the two texts.
std::string fields_of(const Config& c) {
    const auto& [count, unit] = c.output.checkpoint_every;
    const char* const units = unit == Interval::Unit::epochs  ? "epoch"
                              : unit == Interval::Unit::steps ? "steps"
                                                              : "seconds";
    return fmt::format("[data]\nsource = {}\ndirectory = {}\nfile = {}\ntrain_samples = {}\ntest_samples = "
                       "{}\nvalidation_samples = {}\nreaders = {}\n",
                       c.data.source, c.data.directory.string(), c.data.file.string(), c.data.train_samples,
                       c.data.test_samples, c.data.validation_samples, c.data.readers) +
           fmt::format("\n[augment]\nshift = {:g}\nrotate = {:g}\nscale = {:g}\nshear = {:g}\nelastic_alpha = {:g}\n"
                       "elastic_sigma = {:g}\n",
                       c.augment.shift, c.augment.rotate, c.augment.scale, c.augment.shear, c.augment.elastic_alpha,
                       c.augment.elastic_sigma) +
           fmt::format("\n[model]\nlayers = {}\ncost = {}\nseed = {}\ninitial = {}\n", c.model.layers, c.model.cost,
                       c.model.seed, c.model.initial ? c.model.initial->string() : "random") +
           fmt::format("\n[training]\nepochs = {}\nbatch_size = {}\nmicro_batch = {}\nprecision = {}\noptimizer = "
                       "{}\nlearning_rate = {:.1f}\n"
                       "momentum = {:g}\nweight_decay = {:g}\nclip_norm = {:g}\nschedule = {}\nwarmup_epochs = {:g}\n"
                       "decay_epochs = {:g}\ndecay_factor = {:g}\npatience = {}\n",
                       c.training.epochs, c.training.batch_size, c.training.micro_batch, c.training.precision,
                       c.training.optimizer, c.training.learning_rate, c.training.momentum, c.training.weight_decay,
                       c.training.clip_norm, c.training.schedule, c.training.warmup_epochs, c.training.decay_epochs,
                       c.training.decay_factor, c.training.patience) +
           fmt::format("\n[parallel]\nlogical_shards = {}\nreducer = {}\ncompression = {}\nproducts = {}\nthreads = "
                       "{}\nstall_timeout = {:g}\n"
                       "sync_every = {}\nranks_per_node = {}\ncheck_every = {}\n",
                       c.parallel.logical_shards, c.parallel.reducer, c.parallel.compressed ? "bfloat16" : "none",
                       c.parallel.products, c.parallel.threads, c.parallel.stall_timeout_seconds, c.parallel.sync_every,
                       c.parallel.ranks_per_node, c.parallel.check_every) +
           fmt::format("\n[output]\ndirectory = {}\ncheckpoint_every = {} {}\nkeep_checkpoints = {}\nkeep_best = "
                       "{}\nresume = {}\n",
                       c.output.directory.string(), count, units, c.output.keep_checkpoints, c.output.keep_best,
                       c.output.resume ? "auto" : "never");
}

std::vector<std::string> lines_of(std::string_view text) {
    std::istringstream in{std::string(text)};
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) {
        lines.push_back(line);
    }
    return lines;
}

TEST(Values, HaveTheDefaultsOfTheTable) {
    for (const Config& config : {Config(), parse("", "x.ini"), parse(default_text, "x.ini")}) {
        EXPECT_EQ(config.resolved(), default_text);
        EXPECT_EQ(fields_of(config), default_text);
    }
}

TEST(Values, OfEveryKeyAreStoredInItsField) {
    const std::vector<std::string> defaults = lines_of(default_text);
    const std::vector<std::string> others = lines_of(other_text);
    ASSERT_EQ(defaults.size(), others.size());
    for (std::size_t i = 0; i < defaults.size(); ++i) {
        EXPECT_EQ(defaults[i] == others[i], defaults[i].find('=') == std::string::npos) << others[i];
    }
    const Config config = parse(other_text, "x.ini");
    EXPECT_EQ(config.resolved(), other_text);
    EXPECT_EQ(fields_of(config), other_text);
}

struct Range {
    std::string key;
    std::vector<std::string> good;
    std::vector<std::string> bad; ///< in addition to those that are bad for every number
};

TEST(Values, MayBeNumbersWithinRanges) {
    const std::vector<Range> ranges{
        {"data.train_samples", {"0", "1099511627776"}, {"-1", "1099511627777", "1.0", "all"}},
        {"data.test_samples", {"0", "1099511627776"}, {"-1", "1099511627777", "1.0"}},
        {"data.validation_samples", {"0", "1099511627776"}, {"-1", "1099511627777", "all"}},
        {"data.readers", {"0", "1000000"}, {"-1", "1000001", "all"}},
        {"augment.shift", {"0", "0.5", "10000"}, {"-1", "10001"}},
        {"augment.rotate", {"0", "180"}, {"-1", "181"}},
        {"augment.scale", {"0", "0.9"}, {"-0.1", "0.91"}},
        {"augment.shear", {"0", "10"}, {"-0.1", "11"}},
        {"augment.elastic_alpha", {"0", "10000"}, {"-1", "10001"}},
        {"augment.elastic_sigma", {"0.1", "100"}, {"0", "101"}},
        {"model.seed", {"0", "18446744073709551615"}, {"-1", "18446744073709551616", "1.5"}},
        {"training.epochs", {"0", "1000000"}, {"-1", "1000001", "1e3", "1.0"}},
        {"training.micro_batch", {"0", "8", "2147483647"}, {"-8", "1", "7", "2147483648", "all"}},
        {"training.batch_size", {"all", "1", "2147483647"}, {"0", "-1", "2147483648", "ALL", "1.0"}},
        {"training.learning_rate", {"1e-300", "3.0", "1e6", "1000000"}, {"0", "-1", "1000001", "fast", "1e-400"}},
        {"training.momentum", {"0", "0.999999", ".5"}, {"1", "-0.1", "1.0"}},
        {"training.weight_decay", {"0", "1e6"}, {"-1e-9", "1e7"}},
        {"training.clip_norm", {"0", "1e-9", "1e6"}, {"-1", "1e-10", "1e7"}},
        {"training.warmup_epochs", {"0", "0.5", "1e6"}, {"-1", "1e7"}},
        {"training.decay_epochs", {"0.5", "1e6"}, {"0", "-1", "1e7"}},
        {"training.decay_factor", {"1e-9", "1"}, {"0", "-0.5", "1.5"}},
        {"training.patience", {"0", "1000000"}, {"-1", "1000001", "0.5"}},
        {"parallel.logical_shards", {"1", "65536"}, {"0", "65537", "8.0"}},
        {"parallel.threads", {"1", "1024"}, {"0", "1025"}},
        {"parallel.stall_timeout", {"0", "1", "1.5", "86400"}, {"0.5", "-1", "86401"}},
        {"parallel.ranks_per_node", {"0", "1000000"}, {"-1", "1000001"}},
        {"parallel.check_every", {"0", "1000000000"}, {"-1", "1000000001"}},
        {"output.keep_checkpoints", {"0", "1000000"}, {"-1", "1000001"}},
    };
    const std::vector<std::string> never{
        "", "x", "1x", "1 2", "+1", "0x1", "nan", "inf", "1,5", "1e999", "99999999999999999999999999"};
    for (const auto& [key, good, bad] : ranges) {
        for (const std::string& value : good)
            EXPECT_EQ(message("", {"--" + key + "=" + value}), "");
        for (const auto* values : {&bad, &never})
            for (const std::string& value : *values) {
                const std::string text = message("", {"--" + key + "=" + value});
                EXPECT_EQ(text.rfind("command line: --" + key + "=" + value + ": expected ", 0), 0U)
                    << key << " = " << value << " gave: " << text;
            }
    }
}

TEST(Values, OfCheckpointEveryAreNumbersWithUnits) {
    struct Case {
        std::string text;
        std::int64_t count;
        Interval::Unit unit;
    };
    const std::vector<Case> cases{
        {"1 epoch", 1, Interval::Unit::epochs},     {"2 epochs", 2, Interval::Unit::epochs},
        {"1 step", 1, Interval::Unit::steps},       {"1000000000 steps", 1'000'000'000, Interval::Unit::steps},
        {"1 second", 1, Interval::Unit::seconds},   {"30\t seconds", 30, Interval::Unit::seconds},
        {"1 minute", 60, Interval::Unit::seconds},  {"10 minutes", 600, Interval::Unit::seconds},
        {"2 hours", 7200, Interval::Unit::seconds}, {"1 hour", 3600, Interval::Unit::seconds},
    };
    for (const auto& [text, count, unit] : cases) {
        const Interval interval = with({"--output.checkpoint_every=" + text}).output.checkpoint_every;
        EXPECT_EQ(interval.count, count) << text;
        EXPECT_EQ(interval.unit, unit) << text;
    }
    for (const std::string text : {"", "1", "epoch", "0 epochs", "-1 epochs", "1.5 hours", "1epoch", "1 day",
                                   "1 epoch 2", "1000000001 steps", "1 Epoch"})
        EXPECT_EQ(message("", {"--output.checkpoint_every=" + text}),
                  "command line: --output.checkpoint_every=" + text +
                      ": expected N epochs, N steps, N seconds, N minutes or N hours, where N is a whole number from 1 "
                      "to 1000000000");
}

TEST(Values, MayNotBeEmptyTexts) {
    for (const std::string key :
         {"data.directory", "data.file", "model.layers", "model.cost", "training.optimizer", "training.precision",
          "training.schedule", "parallel.reducer", "parallel.products", "output.directory"})
        EXPECT_NE(message("", {"--" + key + "= "}), "") << key;
}

} // namespace
} // namespace dtrain::config
