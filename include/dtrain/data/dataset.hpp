#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/core/partition.hpp"
#include "dtrain/data/source.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace dtrain::data {

/// This rank's samples of a set, in the element type of their source.
struct Split {
    std::int64_t total = 0;                ///< samples over all ranks
    core::Range local;                     ///< the samples on this rank
    std::vector<std::size_t> sample_shape; ///< such as 28 × 28, or time × features
    std::size_t sample_size = 0;           ///< product of sample_shape
    Element element = Element::ubyte;
    core::Buffer<std::byte> elements;  ///< local.size() × sample_size elements; floats in native byte order
    core::Buffer<std::uint8_t> labels; ///< local.size(); empty if the split was read without labels

    [[nodiscard]] std::size_t sample_bytes() const noexcept { return sample_size * size_of(element); }
    /// Copies a sample as network input to `out` (sample_size): bytes as value / 255, floats unchanged.
    void fetch(std::int64_t local_index, std::span<float> out) const noexcept;
};

struct Dataset {
    Split train;
    Split validation; ///< without samples if the run has no validation set
    Split test;
    std::string name; ///< "MNIST", "Fashion-MNIST", or "unknown IDX data" with its hash
};

/// `samples` samples are divided into `shards` contiguous logical shards. Returns the samples of the shards in `part`.
[[nodiscard]] core::Range samples_of_shards(std::int64_t samples, std::int64_t shards, core::Range part) noexcept;

/// A split with memory for the samples `local` of the set, not yet read.
[[nodiscard]] Split allocate_split(const SetHeader& header, core::Range local);

/// Throws core::Error (bad_config, about the key that limits the set) unless `header.samples` samples fit into `room`
/// bytes. Returns the remaining bytes. This check is needed because a system may grant more memory than it has and kill
/// the process later.
double require_room(const SourceSettings& settings, Set set, const SetHeader& header, double room);

/// Loads a set, up to its limit and without validation samples, on this rank only. Throws core::Error (bad_config,
/// bad_data), also if a label is not below `classes`.
[[nodiscard]] Split load_set(const Source& source, Set set, std::size_t classes);
/// Loads all samples of a pair of IDX files in the same way. `labels` may be empty.
[[nodiscard]] Split load_split(const std::filesystem::path& images, const std::filesystem::path& labels,
                               std::size_t classes);

/// out[i] = bytes[i] / 255, correctly rounded. Both spans have the same size.
void to_unit_interval(std::span<const std::uint8_t> bytes, std::span<float> out) noexcept;

} // namespace dtrain::data
