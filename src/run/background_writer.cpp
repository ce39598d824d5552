#include "dtrain/run/background_writer.hpp"

#include "dtrain/core/thread.hpp"

#include <algorithm>
#include <utility>

namespace dtrain::run {

BackgroundWriter::BackgroundWriter() : thread_(core::start_thread([this] { run(); })) {}

BackgroundWriter::~BackgroundWriter() {
    {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return !busy_ && none_waiting(); });
        ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void BackgroundWriter::run() {
    std::unique_lock lock(mutex_);
    std::size_t lane = 0;
    while (true) {
        changed_.wait(lock, [this] { return !none_waiting() || ending_; });
        if (none_waiting()) {
            return;
        }
        do {
            lane = (lane + 1) % waiting_.size();
        } while (waiting_[lane].empty());
        std::function<void()> job = std::move(waiting_[lane].front());
        waiting_[lane].pop_front();
        busy_ = true;
        lock.unlock();
        const double begun = core::thread_seconds();
        std::exception_ptr error;
        try {
            job();
        } catch (...) {
            error = std::current_exception();
        }
        job = nullptr;
        lock.lock();
        seconds_[lane] += core::thread_seconds() - begun;
        if (error) {
            error_ = error;
            waiting_ = {};
        }
        busy_ = false;
        changed_.notify_all();
    }
}

bool BackgroundWriter::none_waiting() const {
    return std::ranges::all_of(waiting_, [](const auto& jobs) { return jobs.empty(); });
}

std::size_t BackgroundWriter::submit(Lane lane, std::function<void()> job, std::size_t max_waiting) {
    const std::lock_guard lock(mutex_);
    if (error_) {
        return 0;
    }
    auto& jobs = waiting_[static_cast<std::size_t>(lane)];
    jobs.push_back(std::move(job));
    std::size_t dropped = 0;
    for (; jobs.size() > max_waiting; ++dropped) {
        jobs.pop_front();
    }
    changed_.notify_all();
    return dropped;
}

void BackgroundWriter::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !busy_ && none_waiting(); });
    if (error_) {
        std::rethrow_exception(error_);
    }
}

bool BackgroundWriter::failed() const {
    const std::lock_guard lock(mutex_);
    return error_ != nullptr;
}

double BackgroundWriter::seconds(Lane lane) const {
    const std::lock_guard lock(mutex_);
    return seconds_[static_cast<std::size_t>(lane)];
}

} // namespace dtrain::run
