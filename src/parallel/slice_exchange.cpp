#include "slice_exchange.hpp"

#include "dtrain/core/thread.hpp"
#include "dtrain/kernels/instruction_set.hpp"

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

/// Elements that are packed or unpacked at once: a block of some operands stays in the first-level cache.
constexpr std::size_t packed_block = 1024;

/// Calls action(piece) for pieces of `range` of up to packed_block elements.
template <class Action>
void for_each_block(core::Range range, Action&& action) {
    for (std::int64_t begin = range.begin; begin < range.end; begin += std::int64_t{packed_block}) {
        action(core::Range{begin, std::min(range.end, begin + std::int64_t{packed_block})});
    }
}

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
                             const std::vector<std::vector<core::Range>>& subtrees_of_node, Source& source, float* sum,
                             bool compressed)
    : communicator_(std::move(communicator)), source_(source), tail_(tail_size),
      tree_sum_({0, shards}, joined(subtrees_of_node)) {
    const int nodes = communicator_.size();
    if (compressed) {
        const std::size_t operands = joined(subtrees_of_node).size();
        unpacked_ = core::Buffer<float>(operands * packed_block);
        for (std::size_t i = 0; i < operands; ++i) {
            unpacked_blocks_.push_back(unpacked_.data() + i * packed_block);
        }
    }
    const auto count = static_cast<int>(std::max<std::int64_t>(1, slice.size() / (nodes * part_size)));
    for (int i = count; i-- > 0;) {
        Chunk chunk;
        chunk.range = cut(slice, count, i);
        for (int n = 0; n < nodes; ++n) {
            chunk.parts.push_back(cut(chunk.range, nodes, n));
        }
        chunk.sum = sum + chunk.range.begin;
        chunk.compressed = compressed;
        add_chunk(std::move(chunk), subtrees_of_node);
        if (compressed) {
            chunks_.back().compressed_sum = allocate<std::uint16_t>(as_size(chunks_.back().range.size()));
            add_sums(chunks_.back(), chunks_.back().compressed_sum);
        } else {
            add_sums(chunks_.back(), chunks_.back().sum);
        }
    }
    // Every node sums the whole tail itself.
    Chunk tail;
    tail.range = {size, size + static_cast<std::int64_t>(tail_size)};
    tail.parts.assign(as_size(nodes), tail.range);
    tail.sum = tail_.data();
    add_chunk(std::move(tail), subtrees_of_node);
    if (has_thread && count > 1) {
        thread_ = core::start_thread([this](const std::stop_token& stop) { run(stop); });
    }
}

template <class Word>
Word* SliceExchange::allocate(std::size_t size) {
    buffers_.emplace_back(size * sizeof(Word));
    return reinterpret_cast<Word*>(buffers_.back().data());
}

void SliceExchange::add_chunk(Chunk chunk, const std::vector<std::vector<core::Range>>& subtrees_of_node) {
    const std::size_t own_node = as_size(communicator_.rank());
    chunk.own = chunk.parts[own_node];
    chunk.subtrees = subtrees_of_node[own_node].size();
    if (chunk.compressed) {
        add_partials(chunk, chunk.words, subtrees_of_node);
    } else {
        add_partials(chunk, chunk.floats, subtrees_of_node);
    }
    chunks_.push_back(std::move(chunk));
}

template <class Word>
void SliceExchange::add_partials(Chunk& chunk, Partials<Word>& partials,
                                 const std::vector<std::vector<core::Range>>& subtrees_of_node) {
    const int tag = 2 * static_cast<int>(chunks_.size());
    const std::size_t own_size = as_size(chunk.own.size());
    for (int n = 0; n < communicator_.size(); ++n) {
        const std::size_t size = as_size(chunk.parts[as_size(n)].size());
        const std::size_t subtrees = subtrees_of_node[as_size(n)].size();
        Word* const own = allocate<Word>(chunk.subtrees * size);
        Word* operands = own;
        if (n != communicator_.rank()) {
            if (size > 0) {
                chunk.sends.push_back(
                    messages_.add_send(communicator_, std::span<const Word>(own, chunk.subtrees * size), n, tag));
            }
            if (own_size > 0) {
                operands = allocate<Word>(subtrees * own_size);
                receives_.push_back(
                    {messages_.add_receive(communicator_, std::span<Word>(operands, subtrees * own_size), n, tag),
                     chunks_.size()});
                ++chunk.expected;
            }
        }
        for (std::size_t i = 0; own_size > 0 && i < subtrees; ++i) {
            partials.operands.push_back(operands + i * own_size);
        }
        partials.of_part.push_back(own);
    }
}

template <class Word>
void SliceExchange::add_sums(Chunk& chunk, Word* sum) {
    const int tag = 2 * static_cast<int>(chunks_.size()) + 1;
    const auto place = [&](core::Range part) {
        return std::span<Word>(sum + (part.begin - chunk.range.begin), as_size(part.size()));
    };
    for (int n = 0; n < communicator_.size(); ++n) {
        if (n == communicator_.rank()) {
            continue;
        }
        if (!chunk.own.empty()) {
            chunk.sum_sends.push_back(
                messages_.add_send(communicator_, std::span<const Word>(place(chunk.own)), n, tag));
        }
        const core::Range part = chunk.parts[as_size(n)];
        if (!part.empty()) {
            const std::size_t message = messages_.add_receive(communicator_, place(part), n, tag);
            if (chunk.compressed) {
                receives_.push_back({message, chunks_.size() - 1, part});
            } else {
                chunk.sum_receives.push_back(message);
            }
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
        if (receive == receives_.end() || receive->message != as_size(message)) {
            continue;
        }
        Chunk& chunk = chunks_[receive->chunk];
        if (receive->sum.empty()) {
            ++chunk.arrived;
            add_up_if_complete(receive->chunk);
        } else { // the node has contributed to the chunk, because the sum contains its operands
            kernels::table().compression.unpack(chunk.compressed_sum_at(receive->sum), chunk.sum_at(receive->sum),
                                                as_size(receive->sum.size()));
        }
    }
}

void SliceExchange::contribute(const Chunk& chunk) {
    for (std::size_t n = 0; n < chunk.parts.size(); ++n) {
        const core::Range part = chunk.parts[n];
        for (std::size_t i = 0; i < chunk.subtrees; ++i) {
            const std::size_t offset = i * as_size(part.size());
            if (!chunk.compressed) {
                source_.add_up(i, part, chunk.floats.of_part[n] + offset);
                continue;
            }
            std::uint16_t* to = chunk.words.of_part[n] + offset;
            for_each_block(part, [&](core::Range piece) {
                source_.add_up(i, piece, unpacked_.data());
                kernels::table().compression.pack(unpacked_.data(), to, as_size(piece.size()));
                to += piece.size();
            });
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
    if (chunk.compressed) {
        add_up_compressed(chunk);
    } else {
        tree_sum_(chunk.floats.operands, as_size(chunk.own.size()), chunk.sum_at(chunk.own));
    }
    for (const std::size_t message : chunk.sum_sends) {
        messages_.start(message);
    }
}

void SliceExchange::add_up_compressed(const Chunk& chunk) {
    const kernels::CompressionKernels& kernels = kernels::table().compression;
    for_each_block(chunk.own, [&](core::Range piece) {
        const std::size_t size = as_size(piece.size());
        for (std::size_t i = 0; i < chunk.words.operands.size(); ++i) {
            kernels.unpack(chunk.words.operands[i] + (piece.begin - chunk.own.begin),
                           unpacked_.data() + i * packed_block, size);
        }
        tree_sum_(unpacked_blocks_, size, chunk.sum_at(piece), true);
        kernels.pack(chunk.sum_at(piece), chunk.compressed_sum_at(piece), size);
    });
}

} // namespace dtrain::parallel
