#include "dtrain/config/config.hpp"
#include "dtrain/config/nearest.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::config {
namespace {

using namespace std::string_literals;

/// What `action` complains about; an empty text if it does not.
template <typename Action>
std::string message_of(Action action) {
    try {
        action();
    } catch (const core::Error& error) {
        EXPECT_EQ(error.code(), core::ExitCode::bad_config);
        EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos) << error.what();
        return error.what();
    }
    return {};
}

std::string message(std::string_view ini, const std::vector<std::string>& overrides = {}) {
    return message_of([&] { (void)parse(ini, "x.ini", overrides); });
}

Config with(const std::vector<std::string>& overrides) {
    return parse("", "x.ini", overrides);
}

constexpr std::string_view default_text = R"([data]
source = idx
directory = data/mnist
train_samples = 0
test_samples = 0

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

[training]
epochs = 30
batch_size = 32
optimizer = sgd
learning_rate = 3.0
momentum = 0.9
weight_decay = 0
schedule = constant
warmup_epochs = 0
decay_epochs = 10
decay_factor = 0.1

[parallel]
logical_shards = 8
reducer = auto
blas_threads = 1
stall_timeout = 60
sync_every = 1
node_ranks = 0
check_every = 500

[output]
directory = runs/mnist
checkpoint_every = 1 epoch
keep_checkpoints = 3
resume = auto
)";

TEST(Config, DefaultsAreThoseOfTheTable) {
    const Config config = parse("", "x.ini");
    EXPECT_EQ(config.resolved(), default_text);
    EXPECT_EQ(Config().resolved(), default_text);

    EXPECT_EQ(config.data.source, "idx");
    EXPECT_EQ(config.data.directory, "data/mnist");
    EXPECT_EQ(config.data.train_samples, 0);
    EXPECT_EQ(config.data.test_samples, 0);
    EXPECT_EQ(config.model.layers, "dense 16 sigmoid, dense 16 sigmoid, dense 10 sigmoid");
    EXPECT_EQ(config.model.cost, "quadratic");
    EXPECT_EQ(config.model.seed, 1U);
    EXPECT_EQ(config.training.epochs, 30);
    EXPECT_EQ(config.augment.shift, 0);
    EXPECT_EQ(config.augment.rotate, 0);
    EXPECT_EQ(config.augment.scale, 0);
    EXPECT_EQ(config.augment.shear, 0);
    EXPECT_EQ(config.augment.elastic_alpha, 0);
    EXPECT_EQ(config.augment.elastic_sigma, 4);
    EXPECT_EQ(config.training.batch_size, 32);
    EXPECT_EQ(config.training.optimizer, "sgd");
    EXPECT_EQ(config.training.learning_rate, 3.0);
    EXPECT_EQ(config.training.momentum, 0.9);
    EXPECT_EQ(config.training.weight_decay, 0);
    EXPECT_EQ(config.training.schedule, "constant");
    EXPECT_EQ(config.training.warmup_epochs, 0);
    EXPECT_EQ(config.training.decay_epochs, 10);
    EXPECT_EQ(config.training.decay_factor, 0.1);
    EXPECT_EQ(config.parallel.logical_shards, 8);
    EXPECT_EQ(config.parallel.reducer, "auto");
    EXPECT_EQ(config.parallel.blas_threads, 1);
    EXPECT_EQ(config.parallel.stall_timeout_seconds, 60);
    EXPECT_EQ(config.parallel.sync_every, 1);
    EXPECT_EQ(config.parallel.node_ranks, 0);
    EXPECT_EQ(config.parallel.check_every, 500);
    EXPECT_EQ(config.output.directory, "runs/mnist");
    EXPECT_EQ(config.output.checkpoint_every.count, 1);
    EXPECT_EQ(config.output.checkpoint_every.unit, Interval::Unit::epochs);
    EXPECT_EQ(config.output.keep_checkpoints, 3);
    EXPECT_TRUE(config.output.resume);
}

// Every key gets a value other than its default, so that no two keys can share a field unseen.
TEST(Config, EveryKeyReachesItsField) {
    const Config config = parse(R"(
        [data]
        source = idx
        directory = some where/else
        train_samples = 101
        test_samples = 102
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
        [training]
        epochs = 104
        batch_size = 105
        optimizer = adam
        learning_rate = 1e-3
        momentum = 0.25
        weight_decay = 0.125
        schedule = cosine
        warmup_epochs = 1.5
        decay_epochs = 2.25
        decay_factor = 0.75
        [parallel]
        logical_shards = 106
        reducer = mpi
        blas_threads = 107
        stall_timeout = 2.5
        sync_every = 1
        node_ranks = 108
        check_every = 109
        [output]
        directory = out
        checkpoint_every = 110 steps
        keep_checkpoints = 111
        resume = never
    )",
                                "x.ini");
    EXPECT_EQ(config.data.directory, "some where/else");
    EXPECT_EQ(config.data.train_samples, 101);
    EXPECT_EQ(config.data.test_samples, 102);
    EXPECT_EQ(config.model.layers, "dense 3 relu");
    EXPECT_EQ(config.model.cost, "cross_entropy");
    EXPECT_EQ(config.model.seed, 103U);
    EXPECT_EQ(config.training.epochs, 104);
    EXPECT_EQ(config.training.batch_size, 105);
    EXPECT_EQ(config.augment.shift, 2);
    EXPECT_EQ(config.augment.rotate, 15.5);
    EXPECT_EQ(config.augment.scale, 0.5);
    EXPECT_EQ(config.augment.shear, 0.25);
    EXPECT_EQ(config.augment.elastic_alpha, 34);
    EXPECT_EQ(config.augment.elastic_sigma, 3.5);
    EXPECT_EQ(config.training.optimizer, "adam");
    EXPECT_EQ(config.training.learning_rate, 1e-3);
    EXPECT_EQ(config.training.momentum, 0.25);
    EXPECT_EQ(config.training.weight_decay, 0.125);
    EXPECT_EQ(config.training.schedule, "cosine");
    EXPECT_EQ(config.training.warmup_epochs, 1.5);
    EXPECT_EQ(config.training.decay_epochs, 2.25);
    EXPECT_EQ(config.training.decay_factor, 0.75);
    EXPECT_EQ(config.parallel.logical_shards, 106);
    EXPECT_EQ(config.parallel.reducer, "mpi");
    EXPECT_EQ(config.parallel.blas_threads, 107);
    EXPECT_EQ(config.parallel.stall_timeout_seconds, 2.5);
    EXPECT_EQ(config.parallel.node_ranks, 108);
    EXPECT_EQ(config.parallel.check_every, 109);
    EXPECT_EQ(config.output.directory, "out");
    EXPECT_EQ(config.output.checkpoint_every.count, 110);
    EXPECT_EQ(config.output.checkpoint_every.unit, Interval::Unit::steps);
    EXPECT_EQ(config.output.keep_checkpoints, 111);
    EXPECT_FALSE(config.output.resume);
}

TEST(Config, IniSyntax) {
    const Config config = parse("\xef\xbb\xbf# a comment after a byte order mark\r\n"
                                "model.seed=7\r\n"
                                "  [training]  # inline\r\n"
                                "\r\n"
                                "epochs\t=   5   # inline\r\n"
                                "[data]\n"
                                "directory = a=b \"c\" \xc3\xa4\n"
                                "[training]\n"
                                "batch_size = all",
                                "x.ini");
    EXPECT_EQ(config.model.seed, 7U);
    EXPECT_EQ(config.training.epochs, 5);
    EXPECT_EQ(config.data.directory, "a=b \"c\" \xc3\xa4");
    EXPECT_EQ(config.training.batch_size, 0);
}

TEST(Config, OverridesComeAfterTheFileAndTheLastOneCounts) {
    const Config config = parse("[training]\nepochs = 3\nmomentum = 0.5\n", "x.ini",
                                {"--training.epochs=4", "--training.epochs= 5 ", "--data.directory=a=b"});
    EXPECT_EQ(config.training.epochs, 5);
    EXPECT_EQ(config.training.momentum, 0.5);
    EXPECT_EQ(config.data.directory, "a=b");
}

TEST(Config, ResolvedTextGivesTheSameConfig) {
    const Config config =
        parse("[training]\nlearning_rate = 1e-03\nbatch_size = all\n[output]\ncheckpoint_every = 10   minutes\n",
              "x.ini", {"--model.seed=007", "--data.directory=\ta\tb "});
    const std::string text = config.resolved();
    EXPECT_NE(text.find("learning_rate = 1e-03\n"), std::string::npos);
    EXPECT_NE(text.find("batch_size = all\n"), std::string::npos);
    EXPECT_NE(text.find("checkpoint_every = 10   minutes\n"), std::string::npos);
    EXPECT_NE(text.find("seed = 007\n"), std::string::npos);
    EXPECT_NE(text.find("directory = a\tb\n"), std::string::npos);
    const Config again = parse(text, "resolved.ini");
    EXPECT_EQ(again.resolved(), text);
    EXPECT_EQ(again.training.learning_rate, 1e-3);
    EXPECT_EQ(again.output.checkpoint_every.count, 600);
    EXPECT_EQ(again.model.seed, 7U);
}

struct Range {
    std::string key;
    std::vector<std::string> good;
    std::vector<std::string> bad; ///< beside those that are bad for every number
};

TEST(Config, RangesOfNumbers) {
    const std::vector<Range> ranges{
        {"data.train_samples", {"0", "1099511627776"}, {"-1", "1099511627777", "1.0", "all"}},
        {"data.test_samples", {"0", "1099511627776"}, {"-1", "1099511627777", "1.0"}},
        {"augment.shift", {"0", "0.5", "10000"}, {"-1", "10001"}},
        {"augment.rotate", {"0", "180"}, {"-1", "181"}},
        {"augment.scale", {"0", "0.9"}, {"-0.1", "0.91"}},
        {"augment.shear", {"0", "10"}, {"-0.1", "11"}},
        {"augment.elastic_alpha", {"0", "10000"}, {"-1", "10001"}},
        {"augment.elastic_sigma", {"0.1", "100"}, {"0", "101"}},
        {"model.seed", {"0", "18446744073709551615"}, {"-1", "18446744073709551616", "1.5"}},
        {"training.epochs", {"0", "1000000"}, {"-1", "1000001", "1e3", "1.0"}},
        {"training.batch_size", {"all", "1", "2147483647"}, {"0", "-1", "2147483648", "ALL", "1.0"}},
        {"training.learning_rate", {"1e-300", "3.0", "1e6", "1000000"}, {"0", "-1", "1000001", "fast", "1e-400"}},
        {"training.momentum", {"0", "0.999999", ".5"}, {"1", "-0.1", "1.0"}},
        {"training.weight_decay", {"0", "1e6"}, {"-1e-9", "1e7"}},
        {"training.warmup_epochs", {"0", "0.5", "1e6"}, {"-1", "1e7"}},
        {"training.decay_epochs", {"0.5", "1e6"}, {"0", "-1", "1e7"}},
        {"training.decay_factor", {"1e-9", "1"}, {"0", "-0.5", "1.5"}},
        {"parallel.logical_shards", {"1", "65536"}, {"0", "65537", "8.0"}},
        {"parallel.blas_threads", {"1", "1024"}, {"0", "1025"}},
        {"parallel.stall_timeout", {"0", "1", "1.5", "86400"}, {"0.5", "-1", "86401"}},
        {"parallel.node_ranks", {"0", "1000000"}, {"-1", "1000001"}},
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

TEST(Config, CheckpointInterval) {
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
                      ": expected N epochs, N steps, N seconds, N minutes or N hours with N from 1 to 1000000000");
}

TEST(Config, TextsMayNotBeEmpty) {
    for (const std::string key : {"data.directory", "model.layers", "model.cost", "training.optimizer",
                                  "training.schedule", "parallel.reducer", "output.directory"})
        EXPECT_NE(message("", {"--" + key + "= "}), "") << key;
}

struct Complaint {
    std::string ini;
    std::string expected;
};

TEST(Config, MessagesAboutTheFile) {
    const std::vector<Complaint> complaints{
        {"[training]\nlearning_rate = fast\n",
         "x.ini: [training] learning_rate = fast: expected a number greater than 0 and at most 1000000"},
        {"[training]\nepochs =\n", "x.ini: [training] epochs =: expected a whole number from 0 to 1000000"},
        {"[output]\nresume = yes\n", "x.ini: [output] resume = yes: expected auto or never"},
        {"[data]\nsource =\n", "x.ini: [data] source =: expected the name of a data source"},
        {"[parallel]\nsync_every = 0\n",
         "x.ini: [parallel] sync_every = 0: expected a whole number of steps from 1 to 1000000000"},
        {"[training]\nepochs = 3\n[training]\nepochs = 4\n",
         "x.ini: [training] epochs = 4: set a second time; expected each key once"},
        {"[training]\nlearning_rat = 1\n", "x.ini: unknown key [training] learning_rat; did you mean learning_rate?"},
        {"[training]\nseed = 1\n", "x.ini: unknown key [training] seed; did you mean [model] seed?"},
        {"[model]\nwhatever.it.is = 1\n",
         "x.ini: unknown key [model] whatever.it.is; the keys of [model] are layers, cost, seed"},
        {"epochs = 1\n", "x.ini: key epochs stands in no section; did you mean [training] epochs?"},
        {"whatever = 1\n", "x.ini: key whatever stands in no section; "
                           "the sections are data, augment, model, training, parallel, output"},
        {"[trainig]\nepochs = 1\n", "x.ini: unknown section [trainig]; did you mean [training]?"},
        {"[training.]\nepochs = 1\n", "x.ini: unknown section [training.]; did you mean [training]?"},
        {"[picture]\n",
         "x.ini: unknown section [picture]; the sections are data, augment, model, training, parallel, output"},
        {"\n[]\nepochs = 1\n",
         "x.ini: line 2: empty section name []; the sections are data, augment, model, training, parallel, output"},
        {"[training]\n\nepochs 3 # = 3\n", "x.ini: line 3: epochs 3: expected key = value, [section] or # comment"},
        {"[training\n", "x.ini: line 1: [training: expected key = value, [section] or # comment"},
        {"; epochs = 3\n", "x.ini: line 1: ; epochs = 3: expected key = value, [section] or # comment"},
        {"[training]\n= 3\n", "x.ini: line 2: = 3: expected key = value, [section] or # comment"},
        {"# \0"s, "x.ini: line 1: control character 0x00; expected a text file"},
        {"[data]\ndirectory = a\x1b[31m\n", "x.ini: line 2: control character 0x1b; expected a text file"},
        {"[data]\rsource = idx\r", "x.ini: line 1: control character 0x0d; expected a text file"},
    };
    for (const auto& [ini, expected] : complaints)
        EXPECT_EQ(message(ini), expected);
}

TEST(Config, MessagesAboutTheCommandLine) {
    const std::string no_override =
        ": expected --section.key=value, without spaces around the =, or an option that --help lists";
    const std::vector<Complaint> complaints{
        {"--training.epoch=3", "command line: --training.epoch=3: unknown key; did you mean --training.epochs?"},
        {"--trainin.epochs=3", "command line: --trainin.epochs=3: unknown key; did you mean --training.epochs?"},
        {"--trainin.epoch=3", "command line: --trainin.epoch=3: unknown key; did you mean --training.epochs?"},
        {"--output.dir=x", "command line: --output.dir=x: unknown key; "
                           "the keys of [output] are directory, checkpoint_every, keep_checkpoints, resume"},
        {"--epochs=3", "command line: --epochs=3: unknown key; did you mean --training.epochs?"},
        {"--model.whatever=3",
         "command line: --model.whatever=3: unknown key; the keys of [model] are layers, cost, seed"},
        {"--x.whatever=3", "command line: --x.whatever=3: unknown key; "
                           "the sections are data, augment, model, training, parallel, output"},
        {"--training.epochs=-3", "command line: --training.epochs=-3: expected a whole number from 0 to 1000000"},
        {"--training.epochs", "command line: --training.epochs" + no_override},
        {"other.ini", "command line: other.ini" + no_override},
        {"training.epochs=3", "command line: training.epochs=3" + no_override},
        {"", "command line: " + no_override},
        {"--data.directory=a#b", "command line: --data.directory=a#b: expected text without # and control characters"},
        {"--data.directory=a\nb",
         "command line: --data.directory=a\\x0ab: expected text without # and control characters"},
    };
    for (const auto& [word, expected] : complaints)
        EXPECT_EQ(message("", {word}), expected);
}

TEST(Config, ABadValueInTheFileIsAnErrorEvenIfOverridden) {
    EXPECT_NE(message("[training]\nepochs = many\n", {"--training.epochs=3"}), "");
}

TEST(Config, LongTextsAreCutInMessages) {
    // The cut falls into the middle of a two-byte character, which goes as a whole.
    std::string value = "x";
    for (int i = 0; i < 1000; ++i)
        value += "\xc3\xa4";
    const std::string text = message("[training]\nepochs = " + value + "\n");
    EXPECT_EQ(text,
              "x.ini: [training] epochs = " + value.substr(0, 199) + "...: expected a whole number from 0 to 1000000");
    EXPECT_LT(message("[training]\n" + std::string(500'000, 'e') + " = 1\n").size(), 1000U);
}

TEST(Config, InvalidNamesWhereTheValueWasSet) {
    const Config config = parse("[model]\ncost = x\n", "x.ini", {"--training.optimizer=y"});
    EXPECT_STREQ(config.invalid("model.cost", "problem").what(), "x.ini: [model] cost = x: problem");
    EXPECT_STREQ(config.invalid("training.optimizer", "problem").what(),
                 "command line: --training.optimizer=y: problem");
    EXPECT_STREQ(config.invalid("parallel.logical_shards", "problem").what(),
                 "default: [parallel] logical_shards = 8: problem");
    EXPECT_EQ(config.invalid("model.cost", "problem").code(), core::ExitCode::bad_config);
}

TEST(Config, RequireOneOf) {
    const Config config = with({"--training.optimizer=momentun"});
    EXPECT_EQ(message_of([&] { config.require_one_of("training.optimizer", {"sgd", "momentun"}); }), "");
    EXPECT_EQ(message_of([&] {
                  config.require_one_of("training.optimizer", {"sgd", "momentum"});
              }),
              "command line: --training.optimizer=momentun: expected one of sgd, momentum; did you mean momentum?");
    EXPECT_EQ(message_of([&] { config.require_one_of("training.schedule", {"step"}); }),
              "default: [training] schedule = constant: expected step");
}

TEST(Config, EveryByteInEveryPlaceIsTakenOrRefused) {
    const std::string text = "[training]\nepochs = 3\n";
    for (std::size_t place = 0; place <= text.size(); ++place)
        for (int byte = 0; byte < 256; ++byte) {
            std::string changed = text;
            changed.insert(place, 1, static_cast<char>(byte));
            std::string resolved;
            (void)message_of([&] { resolved = parse(changed, "x.ini").resolved(); });
            if (!resolved.empty()) {
                EXPECT_EQ(parse(resolved, "resolved.ini").resolved(), resolved);
            }
        }
}

class ConfigFile : public testing::Test {
  protected:
    void SetUp() override {
        std::string pattern = testing::TempDir() + "dtrain-config-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        folder_ = pattern;
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    [[nodiscard]] std::filesystem::path write(const std::string& text) const {
        const auto file = folder_ / "x.ini";
        std::ofstream(file, std::ios::binary) << text;
        return file;
    }

    std::filesystem::path folder_;
};

TEST_F(ConfigFile, IsReadAndNamedInMessages) {
    EXPECT_EQ(load(write("[training]\nepochs = 3\n"), {"--model.seed=2"}).resolved(),
              with({"--training.epochs=3", "--model.seed=2"}).resolved());
    const auto bad = write("[training]\nepochs = x\n");
    EXPECT_EQ(message_of([&] { (void)load(bad); }),
              bad.string() + ": [training] epochs = x: expected a whole number from 0 to 1000000");
}

TEST_F(ConfigFile, UnreadableFiles) {
    const auto missing = folder_ / "none.ini";
    EXPECT_EQ(message_of([&] { (void)load(missing); }),
              "cannot read config " + missing.string() + ": No such file or directory");
    EXPECT_EQ(message_of([&] { (void)load(folder_); }), "cannot read config " + folder_.string() + ": Is a directory");
    const auto file = write(std::string(1 << 20, '\n'));
    EXPECT_EQ(message_of([&] { (void)load(file); }), "");
    (void)write(std::string((1 << 20) + 1, '\n'));
    EXPECT_EQ(message_of([&] { (void)load(file); }),
              "cannot read config " + file.string() + ": larger than 1 MiB; expected a text file");
}

TEST(Nearest, FindsTyposOnly) {
    const std::vector<std::string> names{"sgd", "momentum", "nesterov", "adam", "adamw"};
    EXPECT_EQ(nearest("momentun", names), "momentum");  // changed
    EXPECT_EQ(nearest("momntum", names), "momentum");   // left out
    EXPECT_EQ(nearest("moomentum", names), "momentum"); // inserted
    EXPECT_EQ(nearest("sdg", names), "sgd");            // swapped
    EXPECT_EQ(nearest("NESTEROV", names), "nesterov");
    EXPECT_EQ(nearest("adamx", names), "adam"); // as near as adamw, and first
    EXPECT_EQ(nearest("adamw", names), "adamw");
    EXPECT_EQ(nearest("gds", names), std::nullopt);
    EXPECT_EQ(nearest("", names), std::nullopt);
    EXPECT_EQ(nearest("lion", names), std::nullopt);
    EXPECT_EQ(nearest("lion", {}), std::nullopt);
}

} // namespace
} // namespace dtrain::config
