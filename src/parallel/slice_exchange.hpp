#pragma once

#include "dtrain/core/partition.hpp"
#include "dtrain/mpi/messages.hpp"
#include "dtrain/parallel/gradient_reducer.hpp"

#include "node_barrier.hpp"
#include "tree_sum.hpp"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace dtrain::parallel {

/// Part `index` of `range` cut at cache lines.
[[nodiscard]] core::Range cut(core::Range range, int parts, int index);

/// The way of one slice of the gradients between nodes, while the backward pass goes on.
///
/// Gradients become final from the end of the arena to its beginning, so the slice is sent in chunks from its end. Of
/// each chunk, a node's partial sums (the complete subtrees of its shards) go to the node that owns that part of the
/// chunk, which walks the rest of the tree and sends the sum to all: reduce-scatter and allgather, 2 (n-1)/n of the
/// slice over the wire on n nodes. The tail goes from all to all, as the last.
class SliceExchange {
  public:
    /// What a node has for the others.
    class Source {
      public:
        /// Whether the gradients from `begin` on are final on all ranks of the node; from the arena's end on: the tail.
        [[nodiscard]] virtual bool is_final(std::int64_t begin) const noexcept = 0;
        /// The partial sum of the node's subtree `subtree` in `range` of the arenas.
        virtual void add_up(std::size_t subtree, core::Range range, float* out) = 0;

      protected:
        ~Source() = default;
    };

    /// Collective over the ranks that own a slice. `communicator` holds the owners of this rank's slice, one per node,
    /// `subtrees_of_node` what partial sums each node has. Sums are written to their places in `sum`, of `size`
    /// elements; `source` is done with each place before.
    SliceExchange(mpi::Communicator communicator, core::Range slice, std::int64_t size, std::int64_t shards,
                  const std::vector<std::vector<core::Range>>& subtrees_of_node, Source& source, float* sum);

    /// Something more may be final. Begins a step unless it has begun already; from then on the exchange gets on beside
    /// the caller.
    void advance();
    /// Collective: returns when the slice of `sum` is there, with the tail in `tail`. Between advance() and this the
    /// caller makes no call of MPI.
    void finish(float* tail, const Waiter& waiter);

  private:
    struct Chunk {
        core::Range range;
        core::Range own;                       ///< what this node adds up
        std::vector<core::Range> parts;        ///< what each node adds up
        std::size_t subtrees = 0;              ///< of this node
        std::vector<float*> partials;          ///< this node's partial sums of each part, one subtree behind the other
        std::vector<const float*> operands;    ///< the partial sums of all nodes' subtrees in `own`
        float* sum = nullptr;                  ///< where the sum in `range` goes
        int expected = 0;                      ///< messages with operands
        int arrived = 0;                       ///< of them
        std::vector<std::size_t> sends;        ///< messages with partials
        std::vector<std::size_t> sum_sends;    ///< messages with the sum in `own`
        std::vector<std::size_t> sum_receives; ///< messages with the sums in the other parts

        [[nodiscard]] float* sum_at(core::Range part) const { return sum + (part.begin - range.begin); }
    };
    struct Receive {
        std::size_t message; ///< ascending
        std::size_t chunk;   ///< whose operands it brings
    };

    void add_chunk(core::Range range, std::vector<core::Range> parts, float* sum,
                   const std::vector<std::vector<core::Range>>& subtrees_of_node);
    void add_sums(Chunk& chunk);
    [[nodiscard]] float* allocate(std::size_t size);
    void start();
    void run(const std::stop_token& stop);
    void progress();
    void contribute(const Chunk& chunk);
    void add_up_if_complete(std::size_t number);

    mpi::Communicator communicator_;
    Source& source_;
    core::Buffer<float> tail_;
    TreeSum tree_sum_;
    std::vector<core::Buffer<float>> buffers_;
    mpi::Messages messages_;
    std::vector<Receive> receives_;
    std::vector<Chunk> chunks_; ///< the last of the slice first, the tail behind them
    bool has_begun_ = false;

    std::mutex mutex_;         ///< on what follows and what it speaks of, and on calls of MPI
    std::size_t next_ = 0;     ///< chunk to be contributed to
    std::size_t finished_ = 0; ///< messages
    bool runs_beside_ = false; ///< the thread is to look after the exchange
    std::condition_variable_any begun_;
    std::jthread thread_; ///< none where there is but one chunk, which nothing can overlap
};

} // namespace dtrain::parallel
