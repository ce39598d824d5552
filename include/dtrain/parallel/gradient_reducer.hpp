#pragma once

#include "dtrain/core/partition.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/parallel/step_totals.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::parallel {

/// The sizes of a reducer, in elements. They must be the same on all ranks.
struct ReducerSettings {
    std::size_t parameters = 0;              ///< size of the flat buffer of parameters, a multiple of 16
    std::size_t states = 0;                  ///< number of flat buffers of optimizer state
    std::int64_t shards = 0;                 ///< logical shards over all ranks
    std::vector<core::Range> shards_of_rank; ///< one range per rank, in ascending order
    int ranks_per_node = 0;                  ///< ranks that count as a node; 0 = all ranks of a machine
    /// Whether sums of gradients are rounded to bfloat16, at every node of the tree over shards, and sent as such. The
    /// caller rounds its subtrees. The tail is not rounded. Only for reducers of which can_compress() is true.
    bool compressed = false;
};

/// Sums the gradients of all logical shards. It owns the flat buffers of gradients. It also owns the parameters and the
/// optimizer state, because each rank updates the slice of parameters whose gradient sum it has.
///
/// In a step, every rank does the following:
/// 1. fills gradients(i) for its subtrees from the last element to the first; meanwhile it may call report_final();
/// 2. calls arrive() and combine();
/// 3. calls sum_block() for each block of slice(), and updates the parameters and the state of that block;
/// 4. calls publish().
class GradientReducer {
  public:
    virtual ~GradientReducer() = default;
    GradientReducer(const GradientReducer&) = delete;
    GradientReducer& operator=(const GradientReducer&) = delete;

    /// The complete subtrees of shards whose sums this rank computes. Shards are counted from the rank's first shard.
    [[nodiscard]] const std::vector<core::Range>& subtrees() const noexcept { return subtrees_; }

    /// The flat buffer for subtree `i`: ReducerSettings::parameters gradients, then the tail (tail_size totals).
    [[nodiscard]] virtual std::span<float> gradients(std::size_t i) const noexcept = 0;
    /// All parameters, and flat buffer `i` of the optimizer state. The ranks of a node may share this memory.
    [[nodiscard]] virtual std::span<float> parameters() const noexcept = 0;
    [[nodiscard]] virtual std::span<float> state(std::size_t i) const noexcept = 0;
    /// Whether this rank must write the parameters and the state when they are initialised or loaded. After a call of
    /// publish() all ranks can read them.
    [[nodiscard]] virtual bool fills_parameters() const noexcept = 0;

    /// Whether report_final() is useful: the reducer then sends final gradients during the backward pass.
    [[nodiscard]] virtual bool overlaps() const noexcept { return false; }
    /// Not collective: the gradients from `begin` on are final for this step, in all buffers of this rank. From this
    /// call until combine(), the caller must not call MPI.
    virtual void report_final(std::size_t begin) noexcept { (void)begin; }
    /// Collective: waits for the gradients of all ranks of this node.
    virtual void arrive() = 0;
    /// Collective: communicates with the other nodes. Afterwards tail() is valid.
    virtual void combine() = 0;
    /// The range of parameters that this rank must update.
    [[nodiscard]] virtual core::Range slice() const noexcept = 0;
    /// A block of gradients, summed over all shards.
    struct Block {
        core::Range range; ///< range of parameters
        std::span<const float> sum;
    };
    /// Not collective; call it after combine(). Returns the sum for a block of slice() that begins at `begin`; the
    /// reducer chooses the length. The sum is computed in this call, so that the caller uses it while it is in cache.
    /// It is valid until the next call.
    [[nodiscard]] virtual Block sum_block(std::int64_t begin) = 0;
    /// Collective; call it after combine(). Element-wise sum of `values` over the slices, in place; every slice counts
    /// once.
    virtual void sum_over_slices(std::span<std::int64_t> values) = 0;
    /// Collective: makes the updated slices of all ranks visible to all ranks.
    virtual void publish() = 0;

    /// The sum of the tails over all shards.
    [[nodiscard]] virtual std::span<const float> tail() const noexcept = 0;

  protected:
    GradientReducer(const ReducerSettings& settings, int rank);

  private:
    std::vector<core::Range> subtrees_;
};

[[nodiscard]] std::vector<std::string> reducer_names();
/// Whether the ranks of a node share one copy of the parameters and the optimizer state.
[[nodiscard]] bool shares_parameters(std::string_view name);
/// Whether ReducerSettings::compressed is allowed.
[[nodiscard]] bool can_compress(std::string_view name);
/// A line for the start of a run: the reducer's name and a short description.
[[nodiscard]] std::string describe_reducer(std::string_view name, int nodes);

/// Collective. `name` must be one of reducer_names(); otherwise throws std::out_of_range. The communicator must outlive
/// the reducer.
[[nodiscard]] std::unique_ptr<GradientReducer> make_reducer(std::string_view name, const ReducerSettings& settings,
                                                            const mpi::Communicator& communicator);

} // namespace dtrain::parallel
