#include "dtrain/train/background_writer.hpp"

#include <csignal>
#include <exception>
#include <utility>

namespace dtrain::train {

BackgroundWriter::BackgroundWriter() {
    // Signals are for the thread that trains.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

BackgroundWriter::~BackgroundWriter() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void BackgroundWriter::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        changed_.wait(lock, [this] { return busy_ || ending_; });
        if (!busy_) {
            return;
        }
        const std::function<void()> job = std::exchange(job_, nullptr);
        if (!error_) {
            lock.unlock();
            std::optional<core::Error> error;
            try {
                job();
            } catch (const core::Error& caught) {
                error = caught;
            } catch (const std::exception& caught) {
                error = core::Error(core::ExitCode::bad_output, caught.what());
            }
            lock.lock();
            error_ = error;
        }
        busy_ = false;
        changed_.notify_all();
    }
}

void BackgroundWriter::submit(std::function<void()> job) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !busy_; });
    job_ = std::move(job);
    busy_ = true;
    changed_.notify_all();
}

void BackgroundWriter::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !busy_; });
    if (error_) {
        throw core::Error(*error_);
    }
}

bool BackgroundWriter::failed() const {
    const std::lock_guard lock(mutex_);
    return error_.has_value();
}

} // namespace dtrain::train
