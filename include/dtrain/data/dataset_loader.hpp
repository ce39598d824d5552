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

/// Loads a data set into the memory of all ranks; each rank gets the samples of its own shards. Every sample is read
/// once, and no rank ever stores the whole set. Most functions are collective and throw
/// mpi::AgreedError (bad_config, bad_data).
class DatasetLoader {
  public:
    /// Opens both sets. Throws if a set has fewer samples than its limit, if no training sample is left beside the
    /// validation set, if the samples of the sets differ in shape, or if the samples do not fit into memory (all
    /// machines are assumed to have as much as this one). The communicator must outlive the loader.
    DatasetLoader(std::unique_ptr<const Source> source, const mpi::Communicator& communicator);

    /// Describes the samples that are used, over all ranks. It is the same on every rank.
    [[nodiscard]] const SetHeader& header(Set set) const noexcept { return headers_.of(set); }
    /// The samples of the validation set, which are not part of header(Set::train).
    [[nodiscard]] std::int64_t validation_samples() const noexcept { return source_->settings().validation; }

    /// The memory that load() needs for a while on this rank, beyond the samples and a few megabytes. Not collective.
    [[nodiscard]] std::size_t reading_bytes() const;

    /// Throws unless all labels are below `classes`.
    void require_classes(std::size_t classes) const;

    /// Reads the samples. Call it once, as the last function. `shards_of_rank` has one range of the `shards` logical
    /// shards per rank, in ascending order from 0; it must be the same on every rank.
    [[nodiscard]] Dataset load(std::int64_t shards, std::span<const core::Range> shards_of_rank);

  private:
    /// Whether this rank reads files.
    [[nodiscard]] bool reads() const noexcept { return source_->every_rank_reads() || communicator_.is_root(); }
    /// All ranks that read must call it, equally often. Waits until fewer than Source::readers_at_once() other ranks
    /// are in their action: rank r begins when rank r - readers_at_once() has ended its own, perhaps with an error.
    template <class Action>
    void in_turn(Action&& action) const;
    /// The part of the samples that this rank validates.
    [[nodiscard]] core::Range own_part(core::Range samples) const noexcept;
    /// The part of the samples without use that this rank validates.
    [[nodiscard]] core::Range own_rest(Set set) const noexcept;
    /// Collective: reads `samples` samples of a set, from number `first` on, divided among the shards of all ranks.
    [[nodiscard]] Split load(Set set, std::int64_t first, std::int64_t samples, std::int64_t shards,
                             std::span<const core::Range> shards_of_rank);

    std::unique_ptr<const Source> source_;
    const mpi::Communicator& communicator_;
    PerSet<std::unique_ptr<SetReader>> readers_; ///< null if this rank does not read files
    PerSet<SetHeader> headers_;
};

} // namespace dtrain::data
