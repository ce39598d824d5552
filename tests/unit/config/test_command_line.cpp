#include "dtrain/config/config.hpp"

#include "messages.hpp"
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace dtrain::config {
namespace {

TEST(CommandLine, OverridesTheFileAndItsLastValueWins) {
    const Config config = parse("[training]\nepochs = 3\nmomentum = 0.5\n", "x.ini",
                                {"--training.epochs=4", "--training.epochs= 5 ", "--data.directory=a=b"});
    EXPECT_EQ(config.training.epochs, 5);
    EXPECT_EQ(config.training.momentum, 0.5);
    EXPECT_EQ(config.data.directory, "a=b");
}

TEST(CommandLine, IsQuotedInMessages) {
    const std::string no_override =
        ": expected --section.key=value without spaces around the =, or an option listed by --help";
    const std::vector<Complaint> complaints{
        {"--training.epoch=3", "command line: --training.epoch=3: unknown key; did you mean --training.epochs?"},
        {"--trainin.epochs=3", "command line: --trainin.epochs=3: unknown key; did you mean --training.epochs?"},
        {"--trainin.epoch=3", "command line: --trainin.epoch=3: unknown key; did you mean --training.epochs?"},
        {"--output.dir=x", "command line: --output.dir=x: unknown key; "
                           "the keys of [output] are directory, checkpoint_every, keep_checkpoints, keep_best, resume"},
        {"--parallel.blas_threads=3",
         "command line: --parallel.blas_threads=3: unknown key; it is now called --parallel.threads"},
        {"--epochs=3", "command line: --epochs=3: unknown key; did you mean --training.epochs?"},
        {"--model.whatever=3",
         "command line: --model.whatever=3: unknown key; the keys of [model] are layers, cost, seed, initial"},
        {"--x.whatever=3", "command line: --x.whatever=3: unknown key; "
                           "the sections are data, augment, model, training, parallel, output"},
        {"--training.epochs=-3", "command line: --training.epochs=-3: expected a whole number from 0 to 1000000"},
        {"--training.epochs", "command line: --training.epochs" + no_override},
        {"other.ini", "command line: other.ini" + no_override},
        {"training.epochs=3", "command line: training.epochs=3" + no_override},
        {"", "command line: " + no_override},
        {"--data.directory=a#b", "command line: --data.directory=a#b: expected text without # or control characters"},
        {"--data.directory=a\nb",
         "command line: --data.directory=a\\x0ab: expected text without # or control characters"},
    };
    for (const auto& [word, expected] : complaints)
        EXPECT_EQ(message("", {word}), expected);
}

TEST(CommandLine, ABadValueInTheFileIsAnErrorEvenIfOverridden) {
    EXPECT_NE(message("[training]\nepochs = many\n", {"--training.epochs=3"}), "");
}

} // namespace
} // namespace dtrain::config
