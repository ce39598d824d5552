#pragma once

#include "dtrain/core/partition.hpp"
#include "dtrain/data/dataset.hpp"
#include "dtrain/data/source.hpp"
#include "dtrain/mpi/communicator.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace dtrain::data {

/// Loads a data set into the memory of all ranks, each the samples of its own shards. Opens every file once and reads
/// it through once; no rank ever holds another's samples. Everything is collective but `header`, and throws
/// mpi::AgreedError (bad_config, bad_data).
class DatasetLoader {
  public:
    /// Opens both sets. Throws unless there are as many samples as the limits say, of the same shape in both sets, and
    /// machines of this one's memory can hold them. The communicator has to outlive the loader.
    DatasetLoader(std::unique_ptr<const Source> source, const mpi::Communicator& communicator);

    /// Of the samples that are used, over all ranks; the same on every rank.
    [[nodiscard]] const SetHeader& header(Set set) const noexcept { return headers_.of(set); }

    /// Throws unless all labels are below `classes`.
    void require_classes(std::size_t classes) const;

    /// Once, in the end. `shards_of_rank` has one range of the `shards` logical shards per rank, ascending from 0 on,
    /// the same on every rank.
    [[nodiscard]] Dataset load(std::int64_t shards, std::span<const core::Range> shards_of_rank);

  private:
    /// Whether this rank reads.
    [[nodiscard]] bool reads() const noexcept { return source_->every_rank_reads() || communicator_.is_root(); }

    std::unique_ptr<const Source> source_;
    const mpi::Communicator& communicator_;
    PerSet<std::unique_ptr<SetReader>> readers_; ///< null where this rank does not read
    PerSet<SetHeader> headers_;
};

} // namespace dtrain::data
