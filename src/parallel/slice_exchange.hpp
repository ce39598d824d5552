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

/// Part `index` of `range`, which is cut into `parts` parts at cache lines.
[[nodiscard]] core::Range cut(core::Range range, int parts, int index);

/// Sums one slice of the gradients over nodes during the backward pass.
///
/// Gradients become final from the end of the flat buffer to its beginning, so the slice is processed in chunks from
/// its end. Each node owns a part of each chunk. A node sends its partial sums (the complete subtrees of its shards) to
/// the owners of the parts. An owner adds them along the rest of the tree and sends the sum to all nodes. This is a
/// reduce-scatter and an allgather: with n nodes and one subtree per node, each node sends 2 (n-1)/n of the slice. At
/// the end, all nodes exchange the tail with each other.
///
/// Compressed gradients travel as 16-bit words: the partial sums, and the sums that come back. The tail is never
/// compressed.
class SliceExchange {
  public:
    /// Provides the gradients of this node.
    class Source {
      public:
        /// Whether the gradients from `begin` on are final on all ranks of the node. If `begin` is the size of the
        /// gradients: whether the tail is final.
        [[nodiscard]] virtual bool is_final_on_node(std::int64_t begin) const noexcept = 0;
        /// Writes the partial sum of the node's subtree number `subtree` over `range` to `out`.
        virtual void add_up(std::size_t subtree, core::Range range, float* out) = 0;

      protected:
        ~Source() = default;
    };

    /// Collective over the ranks that own a slice. `communicator` has the owners of this rank's slice, one per node.
    /// `subtrees_of_node` lists the subtrees of each node. The sums are written to `sum` (`size` elements), at the
    /// positions of the slice. `sum` may be memory that `source` reads, because each position is read before it is
    /// written. `compressed`: the source's gradients are bfloat16 numbers, and so are the sums.
    SliceExchange(mpi::Communicator communicator, core::Range slice, std::int64_t size, std::int64_t shards,
                  const std::vector<std::vector<core::Range>>& subtrees_of_node, Source& source, float* sum,
                  bool compressed = false);

    /// Call it when more gradients may be final. The first call starts a step; from then on a thread makes progress in
    /// the background.
    void advance();
    /// Collective: waits until the slice of `sum` is complete, and copies the summed tail to `tail`. Between advance()
    /// and finish(), the caller must not call MPI.
    void finish(float* tail, const Waiter& waiter);

  private:
    /// What this node sends and adds up. Word is float, or std::uint16_t for compressed gradients.
    template <class Word>
    struct Partials {
        std::vector<Word*> of_part;        ///< for each part, this node's partial sums, sorted by subtree
        std::vector<const Word*> operands; ///< the partial sums of all nodes' subtrees over the own part
    };
    struct Chunk {
        core::Range range;
        core::Range own;                ///< the part that this node sums
        std::vector<core::Range> parts; ///< the part that each node sums
        std::size_t subtrees = 0;       ///< number of this node's subtrees
        bool compressed = false;        ///< which of the next two members is used
        Partials<float> floats;
        Partials<std::uint16_t> words;
        float* sum = nullptr;                    ///< the destination of the sum over `range`
        std::uint16_t* compressed_sum = nullptr; ///< the same, as it is sent and received; null if not compressed
        int expected = 0;                        ///< number of messages with operands
        int arrived = 0;                         ///< number of those messages that have arrived
        std::vector<std::size_t> sends;          ///< messages with partials
        std::vector<std::size_t> sum_sends;      ///< messages with the sum over `own`
        std::vector<std::size_t> sum_receives;   ///< messages with the sums over the other parts

        [[nodiscard]] float* sum_at(core::Range part) const { return sum + (part.begin - range.begin); }
        [[nodiscard]] std::uint16_t* compressed_sum_at(core::Range part) const {
            return compressed_sum + (part.begin - range.begin);
        }
    };
    struct Receive {
        std::size_t message;  ///< in ascending order
        std::size_t chunk;    ///< the chunk that gets the values
        core::Range sum = {}; ///< the part whose compressed sum it is; empty for operands
    };

    void add_chunk(Chunk chunk, const std::vector<std::vector<core::Range>>& subtrees_of_node);
    /// Adds the messages with operands.
    template <class Word>
    void add_partials(Chunk& chunk, Partials<Word>& partials,
                      const std::vector<std::vector<core::Range>>& subtrees_of_node);
    /// Adds the messages with sums. They are sent from `sum` and received there, where the chunk begins.
    template <class Word>
    void add_sums(Chunk& chunk, Word* sum);
    template <class Word>
    [[nodiscard]] Word* allocate(std::size_t size);
    void start();
    void run(const std::stop_token& stop);
    void progress();
    void contribute(const Chunk& chunk);
    void add_up_if_complete(std::size_t number);
    void add_up_compressed(const Chunk& chunk);

    mpi::Communicator communicator_;
    Source& source_;
    core::Buffer<float> tail_;
    TreeSum tree_sum_;
    std::vector<core::Buffer<std::byte>> buffers_;
    core::Buffer<float> unpacked_;              ///< a block of each operand, if gradients are compressed
    std::vector<const float*> unpacked_blocks_; ///< the blocks
    mpi::Messages messages_;
    std::vector<Receive> receives_;
    std::vector<Chunk> chunks_; ///< from the end of the slice to its beginning, then the tail
    bool has_begun_ = false;

    std::mutex mutex_;           ///< protects chunks_, messages_, the following members, and calls of MPI
    std::size_t next_ = 0;       ///< the next chunk that this node contributes to
    std::size_t finished_ = 0;   ///< number of finished messages
    bool thread_active_ = false; ///< whether the thread makes progress on the exchange
    std::condition_variable_any begun_;
    std::jthread thread_; ///< not started if there is only one chunk, because then nothing can overlap
};

} // namespace dtrain::parallel
