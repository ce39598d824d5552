#include "dtrain/run/progress.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <iterator>
#include <string>

namespace dtrain::run {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds redraw_interval{100};

double seconds_between(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

/// The first of `lines` that fits into the columns of a terminal. `lines` get shorter; if none fits, cuts the last one.
std::string fitting(std::initializer_list<std::string> lines, std::size_t columns) {
    for (const std::string& line : lines) {
        if (line.size() <= columns) {
            return line;
        }
    }
    return std::data(lines)[lines.size() - 1].substr(0, columns);
}

} // namespace

std::string time_left(double seconds) {
    const auto whole = static_cast<std::int64_t>(seconds + 0.5);
    return whole >= 3600 ? fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
                         : fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string short_number(double value) {
    return value >= 1e6   ? fmt::format("{:.2f} M", value / 1e6)
           : value >= 1e3 ? fmt::format("{:.1f} k", value / 1e3)
                          : fmt::format("{:.0f}", value);
}

Progress::Progress(bool silent) : silent_(silent), terminal_(silent ? std::nullopt : core::output_terminal()) {}

void Progress::line(std::string_view text) {
    if (!silent_) {
        clear();
        fmt::print("{}\n", text);
        std::fflush(stdout);
    }
}

void Progress::warn(std::string_view text) {
    if (!silent_) {
        clear();
        core::print_error("dtrain: warning: {}\n", text);
    }
}

void Progress::begin(std::int64_t steps, std::int64_t steps_per_epoch, std::int64_t first_step) {
    steps_ = steps;
    steps_per_epoch_ = steps_per_epoch;
    first_step_ = first_step;
    begun_ = last_drawn_ = Clock::now();
}

void Progress::step(std::int64_t step, double cost, std::int64_t samples, Clock::time_point now) {
    if (!terminal_) {
        return;
    }
    smoothed_cost_ = std::isfinite(smoothed_cost_) && samples_ > 0 ? 0.99 * smoothed_cost_ + 0.01 * cost : cost;
    samples_ += samples;
    if (now - last_drawn_ >= redraw_interval) {
        draw(step, now);
    }
}

void Progress::draw(std::int64_t step, Clock::time_point now) {
    last_drawn_ = now;
    const double elapsed = seconds_between(begun_, now);
    const double done = static_cast<double>(step) / static_cast<double>(steps_);
    const double rate = static_cast<double>(step - first_step_) / elapsed;
    const std::string text = fmt::format(
        "epoch {}/{}  cost {}  {} samples/s  {} left", (step - 1) / steps_per_epoch_ + 1, steps_ / steps_per_epoch_,
        std::isfinite(smoothed_cost_) ? fmt::format("{:.4f}", smoothed_cost_) : "-",
        short_number(static_cast<double>(samples_) / elapsed), time_left(static_cast<double>(steps_ - step) / rate));
    const std::size_t width = terminal_->columns();
    std::string bar;
    if (width > text.size() + 12) {
        const std::size_t cells = std::min<std::size_t>(width - text.size() - 5, 40);
        const auto full = static_cast<std::size_t>(done * static_cast<double>(cells));
        bar = fmt::format("[{}{}] ", std::string(full, '#'), std::string(cells - full, '.'));
    }
    fmt::print("\r\x1b[K{}{}", bar, text.substr(0, width - 1));
    std::fflush(stdout);
    drawn_ = true;
}

void Progress::clear() {
    if (drawn_) {
        fmt::print("\r\x1b[K");
        std::fflush(stdout);
        drawn_ = false;
    }
}

void Progress::epoch(const EpochReport& report) {
    const std::string epoch =
        fmt::format("epoch {:>{}}/{}", report.epoch, fmt::formatted_size("{}", report.epochs), report.epochs);
    const std::string rate = short_number(report.samples_per_second);
    const double accuracy = 100 * report.test.accuracy;
    std::string validation;
    std::string short_validation;
    if (report.validation) {
        short_validation = fmt::format("  validation {:.2f} %", 100 * report.validation->accuracy);
        validation = fmt::format("  validation cost {:.6f}  validation accuracy {:6.2f} %", report.validation->cost,
                                 100 * report.validation->accuracy);
    }
    const std::string results =
        fmt::format("{}  train cost {:.6f}{}  test cost {:.6f}  test accuracy {:6.2f} %  {:>8} samples/s  {:.2f} s",
                    epoch, report.train_cost, validation, report.test.cost, accuracy, rate, report.seconds);
    const std::string complete = fmt::format("{}  weights {:016x}", results, report.fingerprint);
    if (!terminal_) {
        line(complete);
        return;
    }
    line(fitting({complete, results,
                  fmt::format("{}  cost {:.4f}{}  test cost {:.4f}  accuracy {:6.2f} %  {:>8}/s", epoch,
                              report.train_cost, short_validation, report.test.cost, accuracy, rate),
                  fmt::format("{}{}  accuracy {:6.2f} %", epoch, short_validation, accuracy),
                  fmt::format("{}  accuracy {:6.2f} %", epoch, accuracy)},
                 terminal_->columns()));
}

void Progress::end() {
    clear();
}

WorkProgress::WorkProgress(std::string_view work)
    : work_(work), terminal_(core::error_terminal().has_value()), next_(Clock::now() + std::chrono::seconds(1)) {}

WorkProgress::~WorkProgress() {
    if (drawn_) {
        core::print_error("\r\x1b[K");
    }
}

void WorkProgress::update(std::size_t done, std::size_t all) {
    const Clock::time_point now = terminal_ ? Clock::now() : Clock::time_point();
    if (terminal_ && now >= next_) {
        core::print_error("\r\x1b[K{}: {} of {}", work_, done, all);
        next_ = now + redraw_interval;
        drawn_ = true;
    }
}

} // namespace dtrain::run
