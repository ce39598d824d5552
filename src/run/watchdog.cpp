#include "dtrain/run/watchdog.hpp"

#include "dtrain/core/host_name.hpp"
#include "dtrain/core/thread.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>

namespace dtrain::run {
namespace {

constexpr std::chrono::milliseconds interval{200};
/// A watchdog thread that runs is never late by more than this, even on a busy machine.
constexpr std::int64_t delay_ns = 5 * std::chrono::nanoseconds(interval).count();
/// mpirun takes 3 seconds to end the ranks of other hosts after one rank has aborted. This is longer.
constexpr std::int64_t end_of_job_ns = std::chrono::nanoseconds(std::chrono::seconds(5)).count();
constexpr std::array<const char*, core::phase_count> phase_names{
    "data", "forward", "backward", "wait", "reduce", "update", "write", "other (start-up or evaluation)"};

std::int64_t now_ns() {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

constexpr const char* what_stays = "Earlier checkpoints stay valid";

bool is_gone(int pid) {
    const int file = open(fmt::format("/proc/{}/stat", pid).c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) { // a lack of descriptors or memory does not mean that the process is gone
        return errno == ENOENT;
    }
    std::array<char, 4096> text{};
    const ssize_t size = read(file, text.data(), text.size());
    const bool ended = size < 0 && errno == ESRCH;
    close(file);
    // A killed process stays a zombie until its launcher reaps it. The state follows the last ')', since the name
    // before it may contain anything.
    const std::string_view status(text.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    const std::size_t behind_name = status.rfind(") ");
    return ended || (behind_name != std::string_view::npos && status.substr(behind_name + 2).starts_with('Z'));
}

} // namespace

Watchdog::Watchdog(const mpi::Communicator& communicator, int ranks_per_node, double timeout_seconds, Report report)
    : node_(communicator.split_by_node(ranks_per_node)), window_(node_, sizeof(Entry)),
      timeout_ns_(static_cast<std::int64_t>(timeout_seconds * 1e9)), host_(core::host_name().data()),
      report_(std::move(report)) {
    for (int rank = 0; rank < node_.size(); ++rank) {
        entries_.push_back(reinterpret_cast<Entry*>(window_.segment(rank).data()));
    }
    find_other_nodes(communicator);
    pthread_getcpuclockid(pthread_self(), &training_clock_);
    own_ = entries_[static_cast<std::size_t>(node_.rank())];
    own_->pid = getpid();
    own_->rank = communicator.rank();
    own_->phase = static_cast<std::uint32_t>(core::Phase::other);
    own_->alive_at = own_->worked_at = own_->moved_at = now_ns();
    own_->watched = 1;
    node_.barrier();
    thread_ = core::start_thread([this](const std::stop_token& stop) { run(stop); });
}

Watchdog::~Watchdog() {
    own_->watched = 0;
    MPI_Barrier(node_.handle()); // a destructor does not throw
    thread_.request_stop();
    thread_.join();
}

void Watchdog::find_other_nodes(const mpi::Communicator& communicator) {
    const core::HostName own_host = core::host_name();
    const std::vector<char> hosts = communicator.gather_all(std::span<const char>(own_host));
    std::array<int, 1> own_first{communicator.rank()};
    node_.broadcast(std::span(own_first));
    const std::vector<int> first_of_node = communicator.gather_all(std::span<const int>(own_first));
    constexpr int max_named = 8;
    int node = 0;
    int named = 0;
    for (int rank = 0, next = 0; rank < communicator.size(); rank = next, ++node) {
        const int first = first_of_node[static_cast<std::size_t>(rank)];
        while (next < communicator.size() && first_of_node[static_cast<std::size_t>(next)] == first) {
            ++next;
        }
        if (first == own_first[0]) {
            // The faulty node must report first, because its message is more precise. Of the other nodes, the first one
            // reports.
            patience_ns_ = delay_ns + node * end_of_job_ns;
        } else if (named < max_named) {
            ++named;
            other_nodes_ += fmt::format("{}{} on {}", other_nodes_.empty() ? "" : ", ",
                                        next - rank == 1 ? fmt::format("rank {}", rank)
                                                         : fmt::format("ranks {}-{}", rank, next - 1),
                                        hosts.data() + static_cast<std::size_t>(rank) * own_host.size());
        }
    }
    if (node > named + 1) {
        other_nodes_ += " and more";
    }
}

Watchdog::Sight Watchdog::sight() const {
    Sight sight{own_->step, own_->phase, mpi::Waiting::count(), 0};
    timespec cpu{}; // read last: a thread that has changed its phase has then used CPU time as well
    clock_gettime(training_clock_, &cpu);
    sight.cpu_ns = cpu.tv_sec * 1'000'000'000 + cpu.tv_nsec;
    return sight;
}

void Watchdog::run(const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock(mutex);
    Sight before = sight();
    std::int64_t last = now_ns();
    while (!wake.wait_for(lock, stop, interval, [&] { return stop.stop_requested(); })) {
        const std::int64_t now = now_ns();
        // If this process was stopped itself, other ranks may still be stopped: restart the count for all.
        const bool continued = now - last > delay_ns;
        if (continued) {
            counting_from_ = now;
        }
        last = now;
        const Sight seen = sight();
        const auto phase = static_cast<core::Phase>(seen.phase);
        // The disk may be slow: a rank in the phase write counts as working, as long as this thread runs.
        const bool excused = continued || phase == core::Phase::write;
        if (excused || seen.cpu_ns != before.cpu_ns) {
            own_->worked_at = now;
        }
        if (excused || seen.step != before.step || seen.phase != before.phase || seen.waits != before.waits) {
            own_->moved_at = now;
        }
        // Written after the times, so that a reader of this flag also sees the matching times.
        own_->waiting = phase == core::Phase::wait || phase == core::Phase::reduce || seen.waits % 2 == 1 ? 1 : 0;
        own_->alive_at = now;
        before = seen;
        look(now);
    }
}

bool Watchdog::is_late(std::int64_t since, std::int64_t now) const {
    return timeout_ns_ > 0 && now - std::max(since, counting_from_) > timeout_ns_;
}

void Watchdog::look(std::int64_t now) {
    if (std::ranges::any_of(entries_, [](const Entry* entry) { return entry->reporting != 0; })) {
        return;
    }
    for (const Entry* reporter : entries_) { // the first rank that is able to report does it
        if (reporter == own_) {
            break;
        }
        if (!is_late(reporter->alive_at, now) && !is_gone(reporter->pid)) {
            return;
        }
    }
    if (const std::string found = finding(now); !found.empty()) {
        own_->reporting = 1;
        report_(found);
    }
}

std::string Watchdog::finding(std::int64_t now) const {
    std::vector<const Entry*> dead;
    std::vector<const Entry*> stalled;
    std::vector<const Entry*> idle; // waits without using the CPU, which a healthy waiting rank never does
    const Entry* waiting_rank = nullptr;
    bool all_wait = true;
    for (const Entry* entry : entries_) {
        if (entry->watched == 0) {
            continue;
        }
        const bool waiting = entry->waiting != 0;
        const bool idles = is_late(entry->worked_at, now);
        if (entry != own_ && is_gone(entry->pid)) {
            if (entry->watched != 0) { // read again: the rank may have ended normally in the meantime
                dead.push_back(entry);
            }
        } else if (is_late(entry->alive_at, now) || (idles && !waiting)) {
            stalled.push_back(entry);
        } else if (idles) {
            idle.push_back(entry);
        }
        all_wait = all_wait && waiting && is_late(entry->moved_at + patience_ns_, now);
        waiting_rank = waiting_rank == nullptr ? entry : waiting_rank;
    }
    if (!dead.empty()) {
        return message(dead, "died");
    }
    if (!stalled.empty()) {
        return message(stalled, no_progress());
    }
    if (waiting_rank == nullptr || !all_wait) {
        return {};
    }
    return idle.empty() ? waiting_message(*waiting_rank) : message(idle, no_progress());
}

std::string Watchdog::no_progress() const {
    return fmt::format("has made no progress for {:g} seconds", static_cast<double>(timeout_ns_) * 1e-9);
}

std::string Watchdog::last_seen(const Entry& entry) {
    return fmt::format("last seen in step {}, phase {}", entry.step.load() + 1,
                       phase_names[std::min<std::size_t>(entry.phase, phase_names.size() - 1)]);
}

std::string Watchdog::message(const std::vector<const Entry*>& ranks, const std::string& what) const {
    std::string text;
    for (const Entry* entry : ranks) {
        text += fmt::format("rank {} on {} (process {}) {}, {}. ", entry->rank.load(), host_, entry->pid.load(), what,
                            last_seen(*entry));
    }
    return text + what_stays;
}

std::string Watchdog::waiting_message(const Entry& entry) const {
    const bool alone = other_nodes_.empty();
    return fmt::format("all ranks on {} have waited for {} for {:g} seconds, rank {} {}. {}{}", host_,
                       alone ? "each other" : "another node (" + other_nodes_ + ")",
                       static_cast<double>(timeout_ns_) * 1e-9, entry.rank.load(), last_seen(entry),
                       alone ? "" : "That node has stalled, or the network does not reach it. ", what_stays);
}

} // namespace dtrain::run
