#include "dtrain/run/stop_signal.hpp"

#include <array>
#include <csignal>
#include <cstddef>

namespace dtrain::run {
namespace {

constexpr std::array<int, 3> signals{SIGTERM, SIGINT, SIGUSR1};
std::array<struct sigaction, signals.size()> previous;
volatile std::sig_atomic_t requests = 0;

void handle(int signal) {
    requests = 1;
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
        sigaction(signals[i], &action, &previous[i]);
    }
}

StopSignal::~StopSignal() {
    for (std::size_t i = 0; i < signals.size(); ++i) {
        sigaction(signals[i], &previous[i], nullptr);
    }
}

bool StopSignal::requested() noexcept {
    return requests != 0;
}

} // namespace dtrain::run
