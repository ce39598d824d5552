#include "dtrain/run/stop_signal.hpp"

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>

namespace dtrain::run {
namespace {

constexpr std::array<int, 4> signals{SIGTERM, SIGINT, SIGUSR1, SIGHUP};
std::array<struct sigaction, signals.size()> previous;
std::atomic<bool> was_requested = false; // written by the signal handler, read by any thread
static_assert(std::atomic<bool>::is_always_lock_free);

void handle(int signal) {
    was_requested.store(true, std::memory_order_relaxed);
    if (signal == SIGINT) {
        std::signal(SIGINT, SIG_DFL);
    }
}

} // namespace

StopSignal::StopSignal() {
    struct sigaction action {};
    action.sa_handler = handle;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < signals.size(); ++i) {
        sigaction(signals[i], nullptr, &previous[i]);
        if (signals[i] != SIGHUP || previous[i].sa_handler != SIG_IGN) { // nohup ignores SIGHUP to outlive the terminal
            sigaction(signals[i], &action, nullptr);
        }
    }
}

StopSignal::~StopSignal() {
    for (std::size_t i = 0; i < signals.size(); ++i) {
        sigaction(signals[i], &previous[i], nullptr);
    }
}

bool StopSignal::requested() noexcept {
    return was_requested.load(std::memory_order_relaxed);
}

} // namespace dtrain::run
