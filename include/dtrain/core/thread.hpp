#pragma once

#include <csignal>
#include <thread>
#include <utility>

namespace dtrain::core {

/// A thread that takes no signals: they are for the thread that trains.
template <class Action>
[[nodiscard]] std::jthread start_thread(Action&& action) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::jthread thread(std::forward<Action>(action));
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return thread;
}

} // namespace dtrain::core
