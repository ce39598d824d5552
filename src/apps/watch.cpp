#include "watch.hpp"

#include "dtrain/config/config.hpp"
#include "dtrain/core/error.hpp"
#include "dtrain/core/terminal.hpp"
#include "dtrain/evaluate/curves.hpp"
#include "dtrain/evaluate/drawing.hpp"
#include "dtrain/io/file.hpp"
#include "dtrain/io/hdf5.hpp"
#include "dtrain/io/run_record.hpp"
#include "dtrain/run/best_epoch.hpp"
#include "dtrain/run/progress.hpp"

#include "program.hpp"
#include <fmt/format.h>
#include <langinfo.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <clocale>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace dtrain::apps {
namespace {

constexpr std::chrono::milliseconds look_interval{250};
constexpr std::size_t epochs_for_speed = 5; ///< the last ones

/// What changes when a file is replaced.
struct FileState {
    bool exists = false;
    ino_t number = 0;
    off_t bytes = 0;
    time_t seconds = 0;
    std::int64_t nanoseconds = 0;
    bool operator==(const FileState&) const = default;
};

FileState state_of(const std::filesystem::path& file) {
    struct stat found {};
    if (stat(file.c_str(), &found) != 0) {
        return {};
    }
    return {true, found.st_ino, found.st_size, found.st_mtim.tv_sec, found.st_mtim.tv_nsec};
}

std::filesystem::path log_of(const std::filesystem::path& path) {
    std::error_code unknown;
    if (path.filename() == "log.h5") {
        return path;
    }
    if (std::filesystem::exists(path, unknown) && !std::filesystem::is_directory(path, unknown)) {
        throw core::Error(core::ExitCode::bad_config,
                          fmt::format("--watch needs the output folder of a run, and {} is a file", path.string()));
    }
    return path / "log.h5";
}

struct Log {
    config::Config config;
    io::RunRecord::Epochs epochs;
};

Log read_log(const std::filesystem::path& file) {
    const io::Hdf5Image image(io::read_file(file), file.string());
    return {config::parse_resolved(image.text("config"), file.string()), io::RunRecord::from(image).epochs};
}

bool is_complete(const Log& log) {
    const auto finished = static_cast<std::int64_t>(log.epochs.size());
    const bool validates = !log.epochs.validation_cost.empty();
    run::BestEpoch best;
    for (std::size_t i = 0; i < log.epochs.size(); ++i) {
        best.add(static_cast<std::int64_t>(i) + 1,
                 validates ? model::Score{log.epochs.validation_cost[i], log.epochs.validation_accuracy[i]}
                           : model::Score{log.epochs.test_cost[i], log.epochs.test_accuracy[i]});
    }
    const std::int64_t patience = log.config.training.patience;
    return finished >= log.config.training.epochs || (patience > 0 && finished - best.epoch >= patience);
}

run::EpochReport report_of(const Log& log, std::size_t i) {
    const io::RunRecord::Epochs& epochs = log.epochs;
    run::EpochReport report{.epoch = epochs.epoch[i],
                            .epochs = log.config.training.epochs,
                            .train_cost = epochs.train_cost[i],
                            .test = {epochs.test_cost[i], epochs.test_accuracy[i]},
                            .validation = std::nullopt,
                            .samples_per_second = epochs.samples_per_second[i],
                            .seconds = epochs.seconds[i],
                            .fingerprint = epochs.fingerprint[i]};
    if (!epochs.validation_cost.empty()) {
        report.validation = {epochs.validation_cost[i], epochs.validation_accuracy[i]};
    }
    return report;
}

/// The median of the last few values.
double recent(const std::vector<double>& values) {
    std::vector<double> last(values.end() - static_cast<std::ptrdiff_t>(std::min(values.size(), epochs_for_speed)),
                             values.end());
    std::ranges::sort(last);
    return last[last.size() / 2];
}

std::string describe_speed(const Log& log) {
    const double seconds = recent(log.epochs.seconds);
    const std::int64_t left = log.config.training.epochs - log.epochs.epoch.back();
    const std::string end = is_complete(log)
                                ? "complete"
                                : fmt::format("about {} left", run::time_left(seconds * static_cast<double>(left)));
    return fmt::format("{}  {} samples/s  {:.3g} s per epoch", end,
                       run::short_number(recent(log.epochs.samples_per_second)), seconds);
}

bool locale_is_utf8() {
    std::setlocale(LC_CTYPE, "");
    return std::string_view(nl_langinfo(CODESET)) == "UTF-8";
}

/// Draws over what it drew before.
class Screen {
  public:
    explicit Screen(core::Terminal terminal) : terminal_(std::move(terminal)) {}

    [[nodiscard]] bool was_resized() const { return terminal_.size() != size_; }

    void draw(const std::filesystem::path& file, const Log& log, run::Progress& progress) {
        const core::Terminal::Size size = terminal_.size();
        std::string text = size == size_ ? "" : "\x1b[2J";
        text += "\x1b[H";
        size_ = size;
        const auto add = [&](const std::string& line) { text += fmt::format("\x1b[2K{}\n", line); };
        const std::string title =
            fmt::format("{}  epoch {} of {}", file.parent_path().string(),
                        log.epochs.empty() ? 0 : log.epochs.epoch.back(), log.config.training.epochs);
        add(title.substr(0, size.columns));
        if (!log.epochs.empty()) {
            add_charts(log, add);
        }
        fmt::print("{}\x1b[J", text);
        if (!log.epochs.empty()) {
            progress.epoch(report_of(log, log.epochs.size() - 1));
            fmt::print("{}\n", describe_speed(log).substr(0, size.columns));
        }
        std::fflush(stdout);
    }

  private:
    template <class Add>
    void add_charts(const Log& log, const Add& add) const {
        constexpr std::size_t other_lines = 8; // title, two lines of each chart, epoch, speed, and the cursor's
        const std::size_t rows = size_.rows > other_lines ? (size_.rows - other_lines) / 2 : 0;
        const evaluate::ChartStyle style{.columns = size_.columns,
                                         .rows = std::clamp<std::size_t>(rows, 3, 14),
                                         .unicode = unicode_,
                                         .colour = colour_};
        const auto chart = [&](std::string_view title, const std::vector<double>& train,
                               const std::vector<double>& test, const std::vector<double>& validation) {
            std::vector<evaluate::Curve> curves{{"training", train}, {"test", test}};
            if (!validation.empty()) {
                curves.push_back({"validation", validation});
            }
            for (const std::string& line :
                 evaluate::draw_curves(title, curves, log.epochs.epoch.front(), log.epochs.epoch.back(), style)) {
                add(line);
            }
        };
        const auto percent = [](std::vector<double> values) {
            std::ranges::for_each(values, [](double& value) { value *= 100; });
            return values;
        };
        chart("cost", log.epochs.train_cost, log.epochs.test_cost, log.epochs.validation_cost);
        chart("accuracy, %", percent(log.epochs.train_accuracy), percent(log.epochs.test_accuracy),
              percent(log.epochs.validation_accuracy));
    }

    core::Terminal terminal_;
    core::Terminal::Size size_;
    bool unicode_ = locale_is_utf8();
    bool colour_ = evaluate::output_takes_colour();
};

} // namespace

void watch(const std::filesystem::path& path) {
    const std::filesystem::path file = log_of(path);
    std::optional<Screen> screen;
    if (std::optional<core::Terminal> terminal = core::output_terminal()) {
        screen.emplace(std::move(*terminal));
    }
    run::Progress progress(false);
    FileState seen;
    std::optional<Log> log;
    std::string said;
    std::size_t printed = 0;
    const auto say = [&](const std::string& text) {
        if (text != said) {
            core::print_error("dtrain-eval: {}\n", text);
            said = text;
        }
    };
    for (bool complete = false;;) {
        const FileState state = state_of(file);
        const bool changed = state.exists && state != seen;
        if (!state.exists) {
            say(fmt::format("waiting for {}, which dtrain writes after the first epoch", file.string()));
        } else if (changed) {
            try {
                log = read_log(file);
                complete = is_complete(*log);
                said.clear();
            } catch (const core::Error& error) {
                say(fmt::format("warning: {}; waiting for another log", error.what()));
                log.reset();
            }
        }
        seen = state;
        if (log && screen && (changed || screen->was_resized())) {
            screen->draw(file, *log, progress);
        } else if (log && changed) {
            const std::size_t finished = log->epochs.size();
            if (finished < printed) { // the run has begun again, perhaps from an earlier checkpoint
                printed = finished > 0 ? finished - 1 : 0;
            }
            for (; printed < finished; ++printed) {
                progress.epoch(report_of(*log, printed));
            }
        }
        finish_output(); // a full disk, or a terminal that has gone
        if (complete) {
            return;
        }
        std::this_thread::sleep_for(look_interval);
    }
}

} // namespace dtrain::apps
