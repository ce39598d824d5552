// Gradients added up along the fixed tree over logical shards, so that the sum is the same bits on any number of ranks
// and nodes.
//
// On a node, arenas of gradients lie in shared memory. Each rank owns a slice of the parameters: it adds that slice up
// over all arenas of the node, straight from its neighbours' memory, block by block, and updates that slice of the
// parameters, of which the node holds one copy. A step costs two barriers, on several nodes three.
//
// Between nodes, the owners of a slice exchange it while the backward pass goes on (slice_exchange.hpp). How far it has
// come, each rank of a node tells the others in shared memory.

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
namespace {

/// Sums are handed on in blocks that stay in the second-level cache, however large the slice.
constexpr std::size_t block_size = std::size_t{1} << 14;

std::size_t as_size(std::int64_t value) {
    return static_cast<std::size_t>(value);
}

/// Which ranks form which node, on every rank alike.
struct Topology {
    mpi::Communicator node;
    int nodes = 0;
    int index = 0;               ///< of this rank's node
    std::vector<int> first_rank; ///< of each node, and the number of ranks behind them
    int slices;                  ///< the fewest ranks of any node

    Topology(const mpi::Communicator& communicator, int ranks_per_node)
        : node(communicator.split_by_node(ranks_per_node)), slices(communicator.size()) {
        const int leads = node.is_root() ? 1 : 0;
        const std::vector<int> leaders = communicator.gather_all(std::span<const int>(&leads, 1));
        for (int rank = 0; rank < communicator.size(); ++rank) {
            if (leaders[static_cast<std::size_t>(rank)] != 0) {
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
        : GradientReducer(settings, communicator.rank()), size_(settings.parameters),
          topology_(communicator, settings.ranks_per_node), window_(topology_.node, segment_bytes(settings)),
          waiter_(communicator.split_by_node().size() > sysconf(_SC_NPROCESSORS_ONLN)),
          barrier_(counters(), topology_.node.rank(), waiter_), own_arena_(arena(topology_.node.rank(), 0)),
          common_(arena(0, subtrees_of(settings, first_rank()).size())), tail_(tail_size),
          block_(std::min(size_, block_size)) {
        for (int rank = 0; rank < topology_.node.size(); ++rank) {
            std::byte* const counter = window_.segment(rank).data();
            finals_.push_back(reinterpret_cast<Finals*>(counter + sizeof(NodeBarrier::Counter)));
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
                                  static_cast<SliceExchange::Source&>(*this), own_arena_);
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
    void are_final(std::size_t begin) noexcept override {
        const std::uint64_t reached = finals(size_ - begin);
        if (reached > own_finals().load(std::memory_order_relaxed)) {
            own_finals().store(reached, std::memory_order_release);
        }
        if (exchange_) {
            exchange_->advance();
        }
    }
    void arrive() override {
        if (topology_.nodes > 1) {
            own_finals().store(finals(size_ + 1), std::memory_order_release);
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
        ++round_; // not before: till then the exchange reads it
        // Ranks that own no slice learn the tail from their node's first.
        barrier_.arrive_and_wait();
        std::ranges::copy(node_tail(), tail_.data());
    }
    [[nodiscard]] std::span<const float> tail() const noexcept override { return tail_.values(); }
    [[nodiscard]] core::Range slice() const noexcept override { return slice_; }
    [[nodiscard]] Block sum_block(std::int64_t begin) override {
        const std::size_t first = as_size(begin);
        if (topology_.nodes > 1) { // the exchange left the sums in this rank's first arena, which no other reads there
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
    /// Every node holds all slices. A rank without one has nothing to add.
    void sum_over_slices(std::span<std::int64_t> values) override { topology_.node.sum(values); }
    void publish() override { barrier_.arrive_and_wait(); }

  private:
    struct PartialSum {
        TreeSum sum;
        std::size_t first; ///< of its leaves among the node's arenas
        std::size_t count;
    };
    /// How much of a rank's gradients are final, counted on over all steps.
    struct alignas(64) Finals {
        std::atomic<std::uint64_t> reached;
    };
    static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

    /// What Finals::reached is when the last `count` gradients of this step are final, size_ + 1 with the tail.
    [[nodiscard]] std::uint64_t finals(std::size_t count) const noexcept { return round_ * (size_ + 2) + count; }
    [[nodiscard]] std::atomic<std::uint64_t>& own_finals() const noexcept {
        return finals_[as_size(topology_.node.rank())]->reached;
    }
    [[nodiscard]] bool is_final(std::int64_t begin) const noexcept override {
        const std::uint64_t wanted = finals(as_size(begin) == size_ ? size_ + 1 : size_ - as_size(begin));
        return std::ranges::all_of(
            finals_, [&](const Finals* rank) { return rank->reached.load(std::memory_order_acquire) >= wanted; });
    }
    void add_up(std::size_t subtree, core::Range range, float* out) override {
        add_up(partial_sums_[subtree], as_size(range.begin), as_size(range.size()), out);
    }

    /// Segment of a rank: its barrier counter and Finals, then its gradient arenas; that of the node's first rank
    /// continues with the tail, the parameters and the optimizer state of the node.
    [[nodiscard]] std::size_t segment_bytes(const ReducerSettings& settings) const {
        const std::size_t gradients = subtrees().size() * (size_ + tail_size);
        const std::size_t common = topology_.node.is_root() ? tail_size + (1 + settings.states) * size_ : 0;
        return heading + (gradients + common) * sizeof(float);
    }
    static constexpr std::size_t heading = sizeof(NodeBarrier::Counter) + sizeof(Finals);
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
        partial.sum(std::span(operands_).first(partial.count), count, out);
    }

    std::size_t size_;
    Topology topology_;
    mpi::SharedWindow window_;
    Waiter waiter_;
    NodeBarrier barrier_;
    float* own_arena_;
    float* common_; ///< behind the arenas of the node's first rank
    core::Range slice_;
    std::vector<const float*> arenas_; ///< of the node, in the order of their shards
    std::vector<PartialSum> partial_sums_;
    std::vector<const float*> operands_;
    core::Buffer<float> tail_;
    core::Buffer<float> block_;
    std::vector<Finals*> finals_; ///< of the ranks of the node
    std::uint64_t round_ = 0;     ///< combine() calls so far
    std::optional<SliceExchange> exchange_;
};

} // namespace

std::unique_ptr<GradientReducer> make_node_reducer(const ReducerSettings& settings,
                                                   const mpi::Communicator& communicator) {
    return std::make_unique<NodeReducer>(settings, communicator);
}

} // namespace dtrain::parallel
