// Sums gradients along the fixed tree over logical shards. So the sum is bitwise identical for any number of ranks and
// nodes.
//
// Within a node, the flat buffers of gradients (arenas) are in shared memory. Each rank owns a slice of the parameters.
// It sums that slice over all arenas of the node, block by block, and updates it. The node has one copy of the
// parameters. A step needs two barriers, or three with several nodes.
//
// Between nodes, the owners of a slice exchange it during the backward pass (slice_exchange.hpp). Each rank publishes
// its progress in shared memory for the other ranks of the node.

#include "dtrain/core/shard_tree.hpp"
#include "dtrain/mpi/shared_window.hpp"

#include "node_barrier.hpp"
#include "reducers.hpp"
#include "slice_exchange.hpp"
#include "tree_sum.hpp"
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <utility>

namespace dtrain::parallel {

using core::as_size;

namespace {

/// sum_block() returns blocks of this size, which stay in the second-level cache.
constexpr std::size_t block_size = std::size_t{1} << 14;

/// The assignment of ranks to nodes; the same on every rank, except for `node` and `index`.
struct Topology {
    mpi::Communicator node;
    int nodes = 0;
    int index = 0;               ///< the number of this rank's node
    std::vector<int> first_rank; ///< the first rank of each node, then the number of ranks
    int slices;                  ///< number of slices: the minimum number of ranks on a node

    Topology(const mpi::Communicator& communicator, int ranks_per_node)
        : node(communicator.split_by_node(ranks_per_node)), slices(communicator.size()) {
        const int is_first = node.is_root() ? 1 : 0;
        const std::vector<int> first_flags = communicator.gather_all(std::span<const int>(&is_first, 1));
        for (int rank = 0; rank < communicator.size(); ++rank) {
            if (first_flags[static_cast<std::size_t>(rank)] != 0) {
                first_rank.push_back(rank);
            }
            if (rank == communicator.rank()) {
                index = static_cast<int>(first_rank.size()) - 1;
            }
        }
        nodes = static_cast<int>(first_rank.size());
        first_rank.push_back(communicator.size());
        for (std::size_t n = 1; n < first_rank.size(); ++n) {
            slices = std::min(slices, first_rank[n] - first_rank[n - 1]);
        }
    }
};

class NodeReducer final : public GradientReducer, private SliceExchange::Source {
  public:
    NodeReducer(const ReducerSettings& settings, const mpi::Communicator& communicator)
        : GradientReducer(settings, communicator.rank()), size_(settings.parameters), compressed_(settings.compressed),
          topology_(communicator, settings.ranks_per_node), window_(topology_.node, segment_bytes(settings)),
          waiter_(communicator.split_by_node().size() > sysconf(_SC_NPROCESSORS_ONLN)),
          barrier_(counters(), topology_.node.rank(), waiter_), own_arena_(arena(topology_.node.rank(), 0)),
          common_(arena(0, subtrees_of(settings, first_rank()).size())), tail_(tail_size),
          block_(std::min(size_, block_size)) {
        for (int rank = 0; rank < topology_.node.size(); ++rank) {
            std::byte* const counter = window_.segment(rank).data();
            progress_.push_back(reinterpret_cast<Progress*>(counter + sizeof(NodeBarrier::Counter)));
        }
        const auto whole = static_cast<std::int64_t>(size_);
        const int own_slice = topology_.node.rank();
        slice_ =
            own_slice < topology_.slices ? cut({0, whole}, topology_.slices, own_slice) : core::Range{whole, whole};

        std::vector<std::vector<core::Range>> subtrees_of_node;
        for (int n = 0; n < topology_.nodes; ++n) {
            subtrees_of_node.push_back(core::complete_subtrees(settings.shards, shards_of_node(settings, n)));
        }
        std::vector<core::Range> leaves;
        for (int r = 0; r < topology_.node.size(); ++r) {
            const std::vector<core::Range> subtrees = subtrees_of(settings, first_rank() + r);
            for (std::size_t i = 0; i < subtrees.size(); ++i) {
                leaves.push_back(subtrees[i]);
                arenas_.push_back(arena(r, i));
            }
        }
        std::size_t first = 0;
        for (const core::Range subtree : subtrees_of_node[as_size(topology_.index)]) {
            std::size_t count = 0;
            while (first + count < leaves.size() && leaves[first + count].end <= subtree.end) {
                ++count;
            }
            partial_sums_.push_back({TreeSum(subtree, std::span(leaves).subspan(first, count)), first, count});
            first += count;
        }
        operands_.resize(arenas_.size());
        if (topology_.nodes > 1) {
            mpi::Communicator owners = communicator.split(std::min(own_slice, topology_.slices), topology_.index);
            if (own_slice < topology_.slices) {
                exchange_.emplace(std::move(owners), slice_, whole, settings.shards, subtrees_of_node,
                                  static_cast<SliceExchange::Source&>(*this), own_arena_, compressed_);
            }
        }
    }

    [[nodiscard]] std::span<float> gradients(std::size_t i) const noexcept override {
        return {own_arena_ + i * (size_ + tail_size), size_ + tail_size};
    }
    [[nodiscard]] std::span<float> parameters() const noexcept override { return shared(0); }
    [[nodiscard]] std::span<float> state(std::size_t i) const noexcept override { return shared(1 + i); }
    [[nodiscard]] bool fills_parameters() const noexcept override { return topology_.node.is_root(); }

    [[nodiscard]] bool overlaps() const noexcept override { return topology_.nodes > 1; }
    void report_final(std::size_t begin) noexcept override {
        const std::uint64_t reached = progress_at(size_ - begin);
        if (reached > own_progress().load(std::memory_order_relaxed)) {
            own_progress().store(reached, std::memory_order_release);
        }
        if (exchange_) {
            exchange_->advance();
        }
    }
    void arrive() override {
        if (topology_.nodes > 1) {
            own_progress().store(progress_at(size_ + 1), std::memory_order_release);
            if (exchange_) {
                exchange_->advance();
            }
        }
        barrier_.arrive_and_wait();
    }
    void combine() override {
        if (topology_.nodes == 1) {
            add_up(partial_sums_[0], size_, tail_size, tail_.data());
            return;
        }
        if (exchange_) {
            exchange_->finish(tail_.data(), waiter_);
            if (topology_.node.is_root()) {
                std::ranges::copy(tail_.values(), node_tail().begin());
            }
        }
        ++round_; // not earlier, because the exchange reads it
        // Ranks without a slice get the tail from the first rank of their node.
        barrier_.arrive_and_wait();
        std::ranges::copy(node_tail(), tail_.data());
    }
    [[nodiscard]] std::span<const float> tail() const noexcept override { return tail_.values(); }
    [[nodiscard]] core::Range slice() const noexcept override { return slice_; }
    [[nodiscard]] Block sum_block(std::int64_t begin) override {
        const std::size_t first = as_size(begin);
        if (topology_.nodes > 1) { // the sums are in this rank's first arena; no other rank reads them there
            return {{begin, slice_.end}, {own_arena_ + first, as_size(slice_.end - begin)}};
        }
        PartialSum& whole = partial_sums_[0];
        if (whole.count == 1) {
            return {{begin, slice_.end}, {arenas_[whole.first] + first, as_size(slice_.end - begin)}};
        }
        const core::Range range{begin, std::min(slice_.end, begin + static_cast<std::int64_t>(block_.size()))};
        add_up(whole, first, as_size(range.size()), block_.data());
        return {range, block_.values().first(as_size(range.size()))};
    }
    /// Every node has all slices. Ranks without a slice add zeros.
    void sum_over_slices(std::span<std::int64_t> values) override { topology_.node.sum(values); }
    void publish() override { barrier_.arrive_and_wait(); }

  private:
    struct PartialSum {
        TreeSum sum;
        std::size_t first; ///< its first leaf in arenas_
        std::size_t count; ///< number of leaves
    };
    /// How many gradients of a rank are final. The number increases over all steps, see progress_at().
    struct alignas(64) Progress {
        std::atomic<std::uint64_t> reached;
    };
    static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

    /// The value of Progress::reached if the last `count` gradients of this step are final. A `count` of size_ + 1
    /// includes the tail.
    [[nodiscard]] std::uint64_t progress_at(std::size_t count) const noexcept { return round_ * (size_ + 2) + count; }
    [[nodiscard]] std::atomic<std::uint64_t>& own_progress() const noexcept {
        return progress_[as_size(topology_.node.rank())]->reached;
    }
    [[nodiscard]] bool is_final_on_node(std::int64_t begin) const noexcept override {
        const std::uint64_t wanted = progress_at(as_size(begin) == size_ ? size_ + 1 : size_ - as_size(begin));
        return std::ranges::all_of(
            progress_, [&](const Progress* rank) { return rank->reached.load(std::memory_order_acquire) >= wanted; });
    }
    void add_up(std::size_t subtree, core::Range range, float* out) override {
        add_up(partial_sums_[subtree], as_size(range.begin), as_size(range.size()), out);
    }

    /// The segment of a rank has its barrier counter and Progress, then its gradient arenas. On the node's first rank,
    /// the tail, the parameters and the optimizer state of the node follow.
    [[nodiscard]] std::size_t segment_bytes(const ReducerSettings& settings) const {
        const std::size_t gradients = subtrees().size() * (size_ + tail_size);
        const std::size_t common = topology_.node.is_root() ? tail_size + (1 + settings.states) * size_ : 0;
        return heading + (gradients + common) * sizeof(float);
    }
    static constexpr std::size_t heading = sizeof(NodeBarrier::Counter) + sizeof(Progress);
    [[nodiscard]] float* arena(int rank, std::size_t i) const {
        return reinterpret_cast<float*>(window_.segment(rank).data() + heading) + i * (size_ + tail_size);
    }
    [[nodiscard]] std::span<float> node_tail() const { return {common_, tail_size}; }
    [[nodiscard]] std::span<float> shared(std::size_t i) const { return {common_ + tail_size + i * size_, size_}; }
    [[nodiscard]] static std::vector<core::Range> subtrees_of(const ReducerSettings& settings, int rank) {
        return core::complete_subtrees(settings.shards, settings.shards_of_rank[static_cast<std::size_t>(rank)]);
    }

    [[nodiscard]] std::vector<NodeBarrier::Counter*> counters() {
        std::vector<NodeBarrier::Counter*> all;
        for (int rank = 0; rank < topology_.node.size(); ++rank) {
            all.push_back(reinterpret_cast<NodeBarrier::Counter*>(window_.segment(rank).data()));
        }
        return all;
    }
    [[nodiscard]] int first_rank() const { return topology_.first_rank[as_size(topology_.index)]; }
    [[nodiscard]] core::Range shards_of_node(const ReducerSettings& settings, int n) const {
        return {settings.shards_of_rank[as_size(topology_.first_rank[as_size(n)])].begin,
                settings.shards_of_rank[as_size(topology_.first_rank[as_size(n) + 1] - 1)].end};
    }

    void add_up(PartialSum& partial, std::size_t offset, std::size_t count, float* out) {
        for (std::size_t i = 0; i < partial.count; ++i) {
            operands_[i] = arenas_[partial.first + i] + offset;
        }
        partial.sum(std::span(operands_).first(partial.count), count, out, compressed_ && offset < size_);
    }

    std::size_t size_;
    bool compressed_;
    Topology topology_;
    mpi::SharedWindow window_;
    Waiter waiter_;
    NodeBarrier barrier_;
    float* own_arena_;
    float* common_; ///< the tail, parameters and optimizer state of the node
    core::Range slice_;
    std::vector<const float*> arenas_; ///< all arenas of the node, in the order of their shards
    std::vector<PartialSum> partial_sums_;
    std::vector<const float*> operands_;
    core::Buffer<float> tail_;
    core::Buffer<float> block_;
    std::vector<Progress*> progress_; ///< one per rank of the node
    std::uint64_t round_ = 0;         ///< number of combine() calls so far
    std::optional<SliceExchange> exchange_;
};

} // namespace

std::unique_ptr<GradientReducer> make_node_reducer(const ReducerSettings& settings,
                                                   const mpi::Communicator& communicator) {
    return std::make_unique<NodeReducer>(settings, communicator);
}

} // namespace dtrain::parallel
