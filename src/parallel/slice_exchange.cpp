#include "slice_exchange.hpp"

#include "dtrain/core/thread.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace dtrain::parallel {

using core::as_size;

namespace {

constexpr std::int64_t line = 16; // floats in a cache line, the unit of slices

/// Floats in a node's part of a chunk. Large messages use the bandwidth; small ones start early and finish soon after
/// the backward pass.
constexpr std::int64_t part_size = std::int64_t{1} << 15;

/// The pause between progress calls during the backward pass. It is long enough to cost almost nothing, and short
/// enough that network buffers do not run empty (100 us are 12 kB at 1 Gbit/s and 1.2 MB at 100 Gbit/s).
constexpr std::chrono::microseconds interval{100};

/// finish() spins for this many rounds, which covers the latency of messages. Then it sleeps between progress calls,
/// because the system needs the core to move data.
constexpr int max_spins = 200;
constexpr std::chrono::microseconds nap{20};

#ifdef DTRAIN_SIMULATE
constexpr bool has_thread = false; // simulated ranks share one thread, and their messages progress without it
#else
constexpr bool has_thread = true;
#endif

std::vector<core::Range> joined(const std::vector<std::vector<core::Range>>& lists) {
    std::vector<core::Range> all;
    for (const auto& list : lists) {
        all.insert(all.end(), list.begin(), list.end());
    }
    return all;
}

} // namespace

core::Range cut(core::Range range, int parts, int index) {
    const core::Range lines = core::partition(range.size() / line, parts, index);
    return {range.begin + lines.begin * line, range.begin + lines.end * line};
}

SliceExchange::SliceExchange(mpi::Communicator communicator, core::Range slice, std::int64_t size, std::int64_t shards,
                             const std::vector<std::vector<core::Range>>& subtrees_of_node, Source& source, float* sum)
    : communicator_(std::move(communicator)), source_(source), tail_(tail_size),
      tree_sum_({0, shards}, joined(subtrees_of_node)) {
    const int nodes = communicator_.size();
    const auto count = static_cast<int>(std::max<std::int64_t>(1, slice.size() / (nodes * part_size)));
    for (int i = count; i-- > 0;) {
        const core::Range range = cut(slice, count, i);
        std::vector<core::Range> parts;
        for (int n = 0; n < nodes; ++n) {
            parts.push_back(cut(range, nodes, n));
        }
        add_chunk(range, std::move(parts), sum + range.begin, subtrees_of_node);
        add_sums(chunks_.back());
    }
    // Every node sums the whole tail itself.
    const core::Range tail{size, size + static_cast<std::int64_t>(tail_size)};
    add_chunk(tail, std::vector<core::Range>(as_size(nodes), tail), tail_.data(), subtrees_of_node);
    if (has_thread && count > 1) {
        thread_ = core::start_thread([this](const std::stop_token& stop) { run(stop); });
    }
}

float* SliceExchange::allocate(std::size_t size) {
    buffers_.emplace_back(size);
    return buffers_.back().data();
}

void SliceExchange::add_chunk(core::Range range, std::vector<core::Range> parts, float* sum,
                              const std::vector<std::vector<core::Range>>& subtrees_of_node) {
    const int own_node = communicator_.rank();
    const int tag = 2 * static_cast<int>(chunks_.size());
    const std::size_t own_subtrees = subtrees_of_node[as_size(own_node)].size();
    Chunk chunk;
    chunk.range = range;
    chunk.own = parts[as_size(own_node)];
    chunk.sum = sum;
    const std::size_t own_size = as_size(chunk.own.size());
    for (int n = 0; n < communicator_.size(); ++n) {
        const std::size_t size = as_size(parts[as_size(n)].size());
        const std::size_t subtrees = subtrees_of_node[as_size(n)].size();
        float* const partials = allocate(own_subtrees * size);
        float* operands = partials;
        if (n != own_node) {
            if (size > 0) {
                chunk.sends.push_back(messages_.add_send(communicator_, {partials, own_subtrees * size}, n, tag));
            }
            if (own_size > 0) {
                operands = allocate(subtrees * own_size);
                receives_.push_back(
                    {messages_.add_receive(communicator_, {operands, subtrees * own_size}, n, tag), chunks_.size()});
                ++chunk.expected;
            }
        }
        for (std::size_t i = 0; own_size > 0 && i < subtrees; ++i) {
            chunk.operands.push_back(operands + i * own_size);
        }
        chunk.partials.push_back(partials);
    }
    chunk.parts = std::move(parts);
    chunk.subtrees = own_subtrees;
    chunks_.push_back(std::move(chunk));
}

void SliceExchange::add_sums(Chunk& chunk) {
    const int tag = 2 * static_cast<int>(chunks_.size()) + 1;
    for (int n = 0; n < communicator_.size(); ++n) {
        const auto place = [&](core::Range part) { return std::span(chunk.sum_at(part), as_size(part.size())); };
        if (n == communicator_.rank()) {
            continue;
        }
        if (!chunk.own.empty()) {
            chunk.sum_sends.push_back(messages_.add_send(communicator_, place(chunk.own), n, tag));
        }
        if (!chunk.parts[as_size(n)].empty()) {
            chunk.sum_receives.push_back(messages_.add_receive(communicator_, place(chunk.parts[as_size(n)]), n, tag));
        }
    }
}

void SliceExchange::advance() {
    if (!has_begun_) {
        start();
    } else if (!has_thread) {
        progress();
    }
}

void SliceExchange::start() {
    has_begun_ = true;
    {
        const std::scoped_lock lock(mutex_);
        next_ = 0;
        finished_ = 0;
        for (Chunk& chunk : chunks_) {
            chunk.arrived = 0;
        }
        for (const Receive& receive : receives_) {
            messages_.start(receive.message);
        }
        thread_active_ = thread_.joinable();
    }
    begun_.notify_one();
}

void SliceExchange::finish(float* tail, const Waiter& waiter) {
    const std::scoped_lock lock(mutex_);
    thread_active_ = false;
    for (int round = 0; next_ < chunks_.size() || finished_ < messages_.size(); ++round) {
        progress();
        if (round < max_spins || !has_thread) {
            waiter.rest(round);
        } else {
            std::this_thread::sleep_for(nap);
        }
    }
    std::ranges::copy(tail_.values(), tail);
    has_begun_ = false;
}

void SliceExchange::run(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (begun_.wait(lock, stop, [this] { return thread_active_; }) && !stop.stop_requested()) {
        progress();
        lock.unlock();
        std::this_thread::sleep_for(interval);
        lock.lock();
    }
}

void SliceExchange::progress() {
    while (next_ < chunks_.size() && source_.is_final_on_node(chunks_[next_].range.begin)) {
        contribute(chunks_[next_]);
        ++next_;
        add_up_if_complete(next_ - 1);
    }
    for (const int message : messages_.finished()) {
        ++finished_;
        const auto receive = std::ranges::lower_bound(receives_, as_size(message), {}, &Receive::message);
        if (receive != receives_.end() && receive->message == as_size(message)) {
            ++chunks_[receive->chunk].arrived;
            add_up_if_complete(receive->chunk);
        }
    }
}

void SliceExchange::contribute(const Chunk& chunk) {
    for (std::size_t n = 0; n < chunk.parts.size(); ++n) {
        const core::Range part = chunk.parts[n];
        for (std::size_t i = 0; i < chunk.subtrees; ++i) {
            source_.add_up(i, part, chunk.partials[n] + i * as_size(part.size()));
        }
    }
    for (const std::size_t message : chunk.sends) {
        messages_.start(message);
    }
    for (const std::size_t message : chunk.sum_receives) { // their memory was read for the last time above
        messages_.start(message);
    }
}

void SliceExchange::add_up_if_complete(std::size_t number) {
    const Chunk& chunk = chunks_[number];
    if (number >= next_ || chunk.own.empty() || chunk.arrived < chunk.expected) {
        return;
    }
    tree_sum_(chunk.operands, as_size(chunk.own.size()), chunk.sum_at(chunk.own));
    for (const std::size_t message : chunk.sum_sends) {
        messages_.start(message);
    }
}

} // namespace dtrain::parallel
