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

/// What a reducer is made for. Sizes are in elements.
struct ReducerSettings {
    std::size_t parameters = 0;              ///< a multiple of 16
    std::size_t states = 0;                  ///< arenas of optimizer state
    std::int64_t shards = 0;                 ///< logical shards over all ranks
    std::vector<core::Range> shards_of_rank; ///< ascending, one range per rank
    int ranks_per_node = 0;                  ///< ranks that count as a node; 0 = those that share a machine
};

/// Turns the gradients of all logical shards into their sum, and owns the memory that this takes: the arenas of
/// gradients, and since a slice of the sum is best used where it arrives, parameters and optimizer state too.
///
/// A step: every rank fills gradients(i) for its subtrees, from the last element to the first, and may tell how far it
/// has come by are_final(); it calls arrive() and combine(), then, block by block through
/// slice(), updates parameters and state from what sum_block() returns, and calls publish().
class GradientReducer {
  public:
    virtual ~GradientReducer() = default;
    GradientReducer(const GradientReducer&) = delete;
    GradientReducer& operator=(const GradientReducer&) = delete;

    /// The complete subtrees of shards that this rank sums up itself, counted from its first shard.
    [[nodiscard]] const std::vector<core::Range>& subtrees() const noexcept { return subtrees_; }

    /// The arena for subtree `i`: ReducerSettings::parameters gradients, then the tail, tail_size totals.
    [[nodiscard]] virtual std::span<float> gradients(std::size_t i) const noexcept = 0;
    [[nodiscard]] virtual std::span<float> parameters() const noexcept = 0;
    [[nodiscard]] virtual std::span<float> state(std::size_t i) const noexcept = 0;
    /// Whether this rank writes parameters and state when they are set from outside; publish() then shows them to all.
    [[nodiscard]] virtual bool fills_parameters() const noexcept = 0;

    /// Whether are_final() is worth calling: what is final is sent while the rest is computed.
    [[nodiscard]] virtual bool overlaps() const noexcept { return false; }
    /// Not collective: in this step the gradients from `begin` on do not change any more, in all arenas of this rank.
    /// From here to combine() this rank makes no call of MPI.
    virtual void are_final(std::size_t begin) noexcept { (void)begin; }
    /// Collective: waits until the gradients of the ranks of this node are there.
    virtual void arrive() = 0;
    /// Collective: whatever takes the other nodes. Afterwards tail() is valid.
    virtual void combine() = 0;
    /// The parameters that this rank has to update.
    [[nodiscard]] virtual core::Range slice() const noexcept = 0;
    /// Gradients summed over all shards.
    struct Block {
        core::Range range; ///< of the parameters
        std::span<const float> sum;
    };
    /// Not collective, after combine(): the block of slice() from `begin` on, of a length of the reducer's choice. It
    /// is added up here and now, so that it is used while in cache, and valid until the next call.
    [[nodiscard]] virtual Block sum_block(std::int64_t begin) = 0;
    /// Collective, after combine(): adds up what the owners of the slices that make up the whole have, by elements.
    virtual void sum_over_slices(std::span<std::int64_t> values) = 0;
    /// Collective: shows this rank's slice of the parameters to all, and theirs to this rank.
    virtual void publish() = 0;

    /// The sum of what stood behind the gradients.
    [[nodiscard]] virtual std::span<const float> tail() const noexcept = 0;

  protected:
    GradientReducer(const ReducerSettings& settings, int rank);

  private:
    std::vector<core::Range> subtrees_;
};

[[nodiscard]] std::vector<std::string> reducer_names();
/// Whether the ranks of a node have one copy of parameters and optimizer state in common.
[[nodiscard]] bool shares_parameters(std::string_view name);
/// One line for the start of a run: its name and what is to be known about it.
[[nodiscard]] std::string describe_reducer(std::string_view name, int nodes);

/// Collective. `name` is one of reducer_names(). The communicator has to outlive the reducer.
[[nodiscard]] std::unique_ptr<GradientReducer> make_reducer(std::string_view name, const ReducerSettings& settings,
                                                            const mpi::Communicator& communicator);

} // namespace dtrain::parallel
