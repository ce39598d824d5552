#include "dtrain/train/watchdog.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <fstream>
#include <mutex>
#include <utility>

namespace dtrain::train {
namespace {

constexpr std::chrono::milliseconds interval{200};
constexpr std::array<const char*, core::phase_count> phase_names{"fetching a batch",    "the forward pass",
                                                                 "the backward pass",   "reducing gradients",
                                                                 "updating parameters", "evaluation or start-up"};

std::int64_t now_ns() {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

std::string host_name() {
    std::array<char, 256> name{};
    return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

} // namespace

Watchdog::Watchdog(const mpi::Communicator& communicator, double timeout_seconds, Report report)
    : node_(communicator.split_by_node()), window_(node_, sizeof(Entry)),
      timeout_ns_(static_cast<std::int64_t>(timeout_seconds * 1e9)), host_(host_name()), report_(std::move(report)) {
    for (int rank = 0; rank < node_.size(); ++rank) {
        entries_.push_back(reinterpret_cast<Entry*>(window_.segment(rank).data()));
    }
    own_ = entries_[static_cast<std::size_t>(node_.rank())];
    own_->pid = getpid();
    own_->rank = communicator.rank();
    own_->phase = static_cast<std::uint32_t>(core::Phase::other);
    own_->alive_at = now_ns();
    node_.barrier();
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); // signals are for the thread that trains
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watchdog::~Watchdog() {
    thread_.request_stop();
    thread_.join();
    own_->alive_at = 0;
    MPI_Barrier(node_.handle()); // a destructor does not throw
}

void Watchdog::run(const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock(mutex);
    std::int64_t last = now_ns();
    while (!wake.wait_for(lock, stop, interval, [&] { return stop.stop_requested(); })) {
        const std::int64_t now = now_ns();
        own_->alive_at = now;
        // After standing still itself, a rank cannot tell who else did: it gives the others a round to catch up.
        if (now - last < 5 * std::chrono::nanoseconds(interval).count()) {
            look(now);
        }
        last = now;
    }
}

bool Watchdog::is_gone(const Entry& entry) const {
    // A killed process stays a zombie until its launcher has noticed.
    std::ifstream status(fmt::format("/proc/{}/stat", entry.pid.load()));
    std::string text;
    std::getline(status, text);
    const std::size_t behind_name = text.rfind(") ");
    return !status || (behind_name != std::string::npos && text[behind_name + 2] == 'Z');
}

bool Watchdog::is_late(std::int64_t alive_at, std::int64_t now) const {
    return timeout_ns_ > 0 && now - alive_at > timeout_ns_;
}

void Watchdog::look(std::int64_t now) {
    if (std::ranges::any_of(entries_, [](const Entry* entry) { return entry->reporting != 0; })) {
        return;
    }
    for (const Entry* reporter : entries_) { // everyone before this rank who could report does so
        if (reporter == own_) {
            break;
        }
        const std::int64_t alive_at = reporter->alive_at;
        if (alive_at != 0 && !is_gone(*reporter) && !is_late(alive_at, now)) {
            return;
        }
    }
    for (const Entry* entry : entries_) {
        const std::int64_t alive_at = entry->alive_at;
        if (entry == own_ || alive_at == 0) {
            continue;
        }
        if (const bool gone = is_gone(*entry); (gone && entry->alive_at != 0) || is_late(alive_at, now)) {
            own_->reporting = 1;
            report_(message(*entry, gone));
            return;
        }
    }
}

std::string Watchdog::message(const Entry& entry, bool gone) const {
    const std::string what =
        gone ? "died" : fmt::format("has stood still for {:g} seconds", static_cast<double>(timeout_ns_) * 1e-9);
    return fmt::format("rank {} on {} (process {}) {}; it was last seen in step {}, in {}; the checkpoints written "
                       "before stay",
                       entry.rank.load(), host_, entry.pid.load(), what, entry.step.load() + 1,
                       phase_names[std::min<std::size_t>(entry.phase.load(), phase_names.size() - 1)]);
}

} // namespace dtrain::train
