#include "dtrain/config/config.hpp"

#include "messages.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace dtrain::config {
namespace {

using namespace std::string_literals;

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

TEST(Config, ACommentHasABlankBeforeIt) {
    const Config config = parse("#a\n[output]\t#b#c\ndirectory = runs/a #b\t#c d#e\n", "x.ini");
    EXPECT_EQ(config.output.directory, "runs/a");
}

TEST(Config, ATildeIsTheUsersHome) {
    const char* const before = std::getenv("HOME");
    const std::string home = before == nullptr ? "" : before;
    setenv("HOME", "/home/somebody", 1);
    const Config config = parse("[data]\ndirectory = ~/mnist\n", "x.ini", {"--output.directory=~"});
    EXPECT_EQ(config.data.directory, "/home/somebody/mnist");
    EXPECT_EQ(config.output.directory, "/home/somebody");
    EXPECT_EQ(parse(config.resolved(), "x.ini").data.directory, "/home/somebody/mnist");
    EXPECT_EQ(parse("[data]\ndirectory = a~/$5\n", "x.ini").data.directory, "a~/$5");
    unsetenv("HOME");
    EXPECT_NE(message("[data]\ndirectory = ~/mnist\n").find("HOME is not set"), std::string::npos);
    setenv("HOME", home.c_str(), 1);
}

// Checkpoints of version 0.1 contain such values. Other ranks may have another home folder.
TEST(Config, ResolvedTextIsNotExpanded) {
    for (const std::string value : {"\"runs\"", "'runs'", "$HOME/runs", "runs ; note", "~/runs", "~somebody/runs"}) {
        const std::string text = "[output]\ndirectory = " + value + "\n";
        const Config config = parse_resolved(text, "its config");
        EXPECT_EQ(config.output.directory, value);
        EXPECT_EQ(parse_resolved(config.resolved(), "its config").output.directory, value);
        if (!value.starts_with("~/")) {
            EXPECT_NE(message(text), "") << value;
        }
    }
    EXPECT_EQ(message_of([] { (void)parse_resolved("[training]\nepochs = x\n", "its config"); }),
              "its config: [training] epochs = x: expected a whole number from 0 to 1000000");
}

TEST(Config, ARenamedKeyIsRefusedWithItsNewNameAndReadInResolvedText) {
    EXPECT_EQ(message("[parallel]\nblas_threads = 2\n"),
              "x.ini: unknown key [parallel] blas_threads; it is now called threads");
    EXPECT_EQ(message("[parallel]\nnode_ranks = 2\n"),
              "x.ini: unknown key [parallel] node_ranks; it is now called ranks_per_node");
    const Config config = parse_resolved("[parallel]\nblas_threads = 2\nnode_ranks = 3\n", "its config");
    EXPECT_EQ(config.parallel.threads, 2);
    EXPECT_EQ(config.parallel.ranks_per_node, 3);
    EXPECT_EQ(config.resolved().find("blas"), std::string::npos);
    EXPECT_EQ(
        message_of([] { (void)parse_resolved("[parallel]\nnode_ranks = 2\nranks_per_node = 2\n", "its config"); }),
        "its config: [parallel] ranks_per_node = 2: this key is set more than once; expected each key at most once");
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
         "x.ini: [training] epochs = 4: this key is set more than once; expected each key at most once"},
        {"[training]\nlearning_rat = 1\n", "x.ini: unknown key [training] learning_rat; did you mean learning_rate?"},
        {"[training]\nseed = 1\n", "x.ini: unknown key [training] seed; did you mean [model] seed?"},
        {"[model]\nwhatever.it.is = 1\n",
         "x.ini: unknown key [model] whatever.it.is; the keys of [model] are layers, cost, seed, initial"},
        {"epochs = 1\n", "x.ini: key epochs is not in a section; did you mean [training] epochs?"},
        {"whatever = 1\n", "x.ini: key whatever is not in a section; "
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
        {"[output]\ndirectory = runs/lr#1\n", "x.ini: line 2: directory = runs/lr#1: a value cannot contain #. For a "
                                              "comment, write a blank before the #"},
        {"[output]\ndirectory = \"runs\"\n", "x.ini: [output] directory = \"runs\": expected a value without quotes"},
        {"[model]\ncost = 'quadratic'\n", "x.ini: [model] cost = 'quadratic': expected a value without quotes"},
        {"[output]\ndirectory = runs ; mine\n",
         "x.ini: [output] directory = runs ; mine: comments begin with #, not with ;"},
        {"[output]\ndirectory = $HOME/runs\n",
         "x.ini: [output] directory = $HOME/runs: environment variables are not expanded; expected a path, or "
         "~/ for your home folder"},
        {"[data]\ndirectory = ~root/mnist\n", "x.ini: [data] directory = ~root/mnist: expected ~/ for your home "
                                              "folder, or the full path of another user's folder"},
        {"[data]\rsource = idx\r", "x.ini: line 1: control character 0x0d; expected a text file"},
    };
    for (const auto& [text, expected] : complaints)
        EXPECT_EQ(message(text), expected);
}

TEST(Config, LongTextsAreCutInMessages) {
    // The cut falls into a two-byte character, which is left out completely.
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

TEST(Config, EveryByteInEveryPlaceIsAcceptedOrRefused) {
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
    [[nodiscard]] std::filesystem::path write(const std::string& text) const {
        support::write_file(folder_ / "x.ini", text);
        return folder_ / "x.ini";
    }

    support::TemporaryFolder folder_;
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
    EXPECT_EQ(message_of([&] { (void)load(folder_.path()); }),
              "cannot read config " + folder_.path().string() + ": Is a directory");
    const auto file = write(std::string(1 << 20, '\n'));
    EXPECT_EQ(message_of([&] { (void)load(file); }), "");
    (void)write(std::string((1 << 20) + 1, '\n'));
    EXPECT_EQ(message_of([&] { (void)load(file); }),
              "cannot read config " + file.string() + ": larger than 1 MiB; expected a text file");
}

} // namespace
} // namespace dtrain::config
