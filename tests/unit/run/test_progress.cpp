#include "dtrain/run/progress.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace dtrain::run {
namespace {

using namespace std::chrono_literals;
using Strings = std::vector<std::string>;

const std::string erase = "\r\x1b[K";

/// Both ends of a pipe or terminal: one to write to, one to read from.
struct Ends {
    int read = -1;
    int write = -1;
};

Ends make_pipe() {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) {
        throw std::runtime_error("pipe2");
    }
    return {ends[0], ends[1]};
}

/// A terminal that does not change the characters written to it.
Ends make_terminal(std::uint16_t columns) {
    Ends ends;
    termios raw{};
    cfmakeraw(&raw);
    const winsize size{.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    if (openpty(&ends.read, &ends.write, nullptr, &raw, &size) != 0) {
        throw std::runtime_error("openpty");
    }
    return ends;
}

/// Everything written to the other end until the last writer closes it. Reading from a terminal then fails.
std::string read_all(int file) {
    std::string all;
    std::array<char, 4096> part{};
    for (ssize_t count = 0; (count = read(file, part.data(), part.size())) > 0;) {
        all.append(part.data(), static_cast<std::size_t>(count));
    }
    close(file);
    return all;
}

/// Redirects standard output or standard error to `ends` until `text` is called.
class Captured {
  public:
    Captured(FILE* stream, Ends ends) : stream_(stream), source_(ends.read) {
        std::fflush(stream_);
        saved_ = dup(fileno(stream_));
        dup2(ends.write, fileno(stream_));
        close(ends.write);
    }
    Captured(const Captured&) = delete;
    Captured& operator=(const Captured&) = delete;
    ~Captured() {
        restore();
        if (source_ >= 0) {
            close(source_);
        }
    }

    [[nodiscard]] std::string text() {
        restore();
        return read_all(std::exchange(source_, -1));
    }

  private:
    void restore() {
        if (saved_ >= 0) {
            std::fflush(stream_);
            dup2(saved_, fileno(stream_));
            close(std::exchange(saved_, -1));
        }
    }

    FILE* stream_;
    int source_;
    int saved_ = -1;
};

std::string written(FILE* stream, Ends ends, const std::function<void()>& action) {
    Captured captured(stream, ends);
    action();
    return captured.text();
}

constexpr EpochReport report{.epoch = 3,
                             .epochs = 30,
                             .train_cost = 0.5,
                             .test = {0.25, 0.975},
                             .validation = {},
                             .samples_per_second = 12345,
                             .seconds = 1.5,
                             .fingerprint = 0xff};
const std::string epoch_line = "epoch  3/30  train cost 0.500000  test cost 0.250000  test accuracy  97.50 %    12.3 k "
                               "samples/s  1.50 s";
const std::string short_epoch_line = "epoch  3/30  cost 0.5000  test cost 0.2500  accuracy  97.50 %    12.3 k/s";
const std::string report_line = epoch_line + "  weights 00000000000000ff\n";

/// Sets TERM while it lives. The tests may run without TERM.
class Term {
  public:
    explicit Term(const char* name) { setenv("TERM", name, 1); }
    ~Term() { before_.empty() ? unsetenv("TERM") : setenv("TERM", before_.c_str(), 1); }
    Term(const Term&) = delete;
    Term& operator=(const Term&) = delete;

  private:
    std::string before_ = std::getenv("TERM") == nullptr ? "" : std::getenv("TERM");
};

class ProgressTest : public ::testing::Test {
  protected:
    Term term_{"xterm"};
};
using WorkProgressTest = ProgressTest;

/// The output of a complete run: 200 steps in 2 epochs. Three steps are reported, 100 seconds apart, so that the time
/// of the test itself does not matter.
void report_everything(bool silent) {
    Progress progress(silent);
    progress.line("hello");
    progress.begin(200, 100, 0);
    const auto begin = std::chrono::steady_clock::now();
    for (const int quarter : {1, 2, 3}) {
        progress.step(50 * quarter, quarter, 320'000, begin + quarter * 100s);
    }
    progress.epoch(report);
    progress.warn("beware");
    progress.end();
}

/// Reports progress at once and after 1.1 seconds.
void work() {
    WorkProgress progress("drawing");
    progress.update(1, 3);
    std::this_thread::sleep_for(1100ms);
    progress.update(2, 3);
    progress.update(3, 3);
}

/// The output on a terminal, cut where a line is erased.
Strings split(const std::string& text) {
    Strings parts(1);
    for (std::size_t at = 0; at < text.size();) {
        if (text.compare(at, erase.size(), erase) == 0) {
            parts.emplace_back();
            at += erase.size();
        } else {
            parts.back() += text[at++];
        }
    }
    return parts;
}

TEST_F(ProgressTest, PrintsALinePerEpochIfOutputIsNotATerminal) {
    Captured warnings(stderr, make_pipe());
    const std::string output = written(stdout, make_pipe(), [] { report_everything(false); });
    EXPECT_EQ(output, "hello\n" + report_line);
    EXPECT_EQ(warnings.text(), "dtrain: warning: beware\n");
}

TEST_F(ProgressTest, IsSilentOnOtherRanks) {
    for (const bool terminal : {false, true}) {
        Captured warnings(stderr, make_pipe());
        EXPECT_EQ(written(stdout, terminal ? make_terminal(100) : make_pipe(), [] { report_everything(true); }), "");
        EXPECT_EQ(warnings.text(), "");
    }
}

TEST_F(ProgressTest, RedrawsABarOnATerminalAndErasesItForLines) {
    Captured warnings(stderr, make_pipe());
    const Strings parts = split(written(stdout, make_terminal(100), [] { report_everything(false); }));
    ASSERT_EQ(parts.size(), 5U);
    EXPECT_EQ(parts[0], "hello\n");
    const auto bar = [](std::size_t full) { return "[" + std::string(full, '#') + std::string(40 - full, '.') + "] "; };
    EXPECT_EQ(parts[1], bar(10) + "epoch 1/2  cost 1.0000  3.2 k samples/s  5:00 left");
    EXPECT_EQ(parts[2], bar(20) + "epoch 1/2  cost 1.0100  3.2 k samples/s  3:20 left");
    EXPECT_EQ(parts[3], bar(30) + "epoch 2/2  cost 1.0299  3.2 k samples/s  1:40 left");
    EXPECT_EQ(parts[4], short_epoch_line + "\n") << "erased once only: the bar was already gone";
    EXPECT_EQ(warnings.text(), "dtrain: warning: beware\n");
}

TEST_F(ProgressTest, ErasesTheBarAtTheEnd) {
    const std::string output = written(stdout, make_terminal(100), [] {
        Progress progress(false);
        progress.begin(10, 10, 0);
        progress.step(1, 1, 1, std::chrono::steady_clock::now() + 1s);
        progress.end();
        progress.end();
    });
    EXPECT_TRUE(output.ends_with(" left" + erase)) << output;
}

TEST_F(ProgressTest, DrawsAFewTimesASecond) {
    const Strings parts = split(written(stdout, make_terminal(100), [] {
        Progress progress(false);
        progress.begin(1000, 100, 0);
        const auto begin = std::chrono::steady_clock::now();
        for (int step = 1; step <= 20; ++step) {
            progress.step(step, 1, 1, begin + step * 25ms);
        }
    }));
    EXPECT_NEAR(static_cast<double>(parts.size() - 1), 5, 1);
}

TEST_F(ProgressTest, FitsIntoTheTerminal) {
    for (const std::uint16_t columns : std::initializer_list<std::uint16_t>{20, 60, 72}) {
        const Strings parts = split(written(stdout, make_terminal(columns), [] {
            Progress progress(false);
            progress.begin(4'000'000, 1000, 0);
            progress.step(1, std::numeric_limits<double>::quiet_NaN(), 1, std::chrono::steady_clock::now() + 1s);
        }));
        ASSERT_EQ(parts.size(), 2U);
        EXPECT_LT(parts[1].size(), columns) << parts[1];
        EXPECT_EQ(parts[1].find('['), columns == 72 ? 0 : std::string::npos) << parts[1];
        const std::string text = "epoch 1/4000  cost -  1 samples/s  1"; // hours, as far as they fit
        EXPECT_NE(parts[1].find(text.substr(0, columns - 1U)), std::string::npos) << parts[1];
    }
}

// The other properties of a terminal need a look at /proc, which is too slow for ten times a second.
TEST_F(ProgressTest, AsksATerminalOnlyForItsWidthWhenItDraws) {
    const Strings parts = split(written(stdout, make_terminal(40), [] {
        Progress progress(false);
        progress.begin(200, 100, 0);
        const Term changed("dumb");
        const winsize size{.ws_row = 24, .ws_col = 100, .ws_xpixel = 0, .ws_ypixel = 0};
        EXPECT_EQ(ioctl(STDOUT_FILENO, TIOCSWINSZ, &size), 0);
        progress.step(50, 1, 320'000, std::chrono::steady_clock::now() + 100s);
        progress.end();
    }));
    ASSERT_GE(parts.size(), 2U);
    EXPECT_EQ(parts[1], "[" + std::string(10, '#') + std::string(30, '.') +
                            "] epoch 1/2  cost 1.0000  3.2 k samples/s  5:00 left");
}

TEST_F(ProgressTest, FitsAnEpochIntoTheTerminal) {
    const std::vector<std::pair<std::uint16_t, std::string>> fitting{
        {200, report_line.substr(0, report_line.size() - 1)},
        {130, report_line.substr(0, report_line.size() - 1)},
        {104, epoch_line},
        {100, short_epoch_line},
        {80, short_epoch_line},
        {40, "epoch  3/30  accuracy  97.50 %"},
        {10, "epoch  3/3"}};
    for (const auto& [columns, line] : fitting) {
        EXPECT_LE(line.size(), columns);
        EXPECT_EQ(written(stdout, make_terminal(columns), [] { Progress(false).epoch(report); }), line + "\n");
    }
}

TEST_F(ProgressTest, SendsNoEscapesToADumbTerminal) {
    for (const char* const name : {"dumb", ""}) {
        const Term term(name);
        const Captured warnings(stderr, make_pipe());
        EXPECT_EQ(written(stdout, make_terminal(100), [] { report_everything(false); }), "hello\n" + report_line);
        EXPECT_EQ(written(stderr, make_terminal(100), work), "");
    }
}

/// The output of a rank under mpirun. The rank's output is a terminal, the output of mpirun is `ends`. There are
/// `between` processes, such as shells, between the two.
std::string output_under_mpirun(Ends ends, int between = 0) {
    Captured of_mpirun(stdout, ends);
    const Ends of_rank = make_terminal(100);
    const pid_t rank = fork();
    if (rank == 0) {
        setenv("OMPI_COMM_WORLD_RANK", "0", 1);
        dup2(of_rank.write, STDOUT_FILENO);
        for (; between > 0; --between) {
            if (const pid_t inner = fork(); inner != 0) {
                int inner_status = -1;
                waitpid(inner, &inner_status, 0);
                std::_Exit(inner_status == 0 ? 0 : 1);
            }
        }
        report_everything(false);
        std::_Exit(0);
    }
    int status = -1;
    waitpid(rank, &status, 0);
    EXPECT_EQ(status, 0);
    close(of_rank.write);
    return read_all(of_rank.read);
}

TEST_F(ProgressTest, ChecksTheOutputOfMpirun) {
    const Captured warnings(stderr, make_pipe());
    EXPECT_EQ(output_under_mpirun(make_pipe()), "hello\n" + report_line);
    EXPECT_EQ(split(output_under_mpirun(make_terminal(100))).size(), 5U);
    EXPECT_EQ(output_under_mpirun(make_pipe(), 2), "hello\n" + report_line);
    EXPECT_EQ(split(output_under_mpirun(make_terminal(100), 2)).size(), 5U);
}

TEST_F(WorkProgressTest, ShowsLongWorkOnATerminal) {
    EXPECT_EQ(written(stderr, make_terminal(100), work), erase + "drawing: 2 of 3" + erase);
}

TEST_F(WorkProgressTest, IsSilentIfOutputIsNotATerminal) {
    EXPECT_EQ(written(stderr, make_pipe(), work), "");
}

} // namespace
} // namespace dtrain::run
