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

/// This rank's samples of the training or the test set, in the element type of their source.
struct Split {
    std::int64_t total = 0;                ///< samples over all ranks
    core::Range local;                     ///< the samples that this rank holds
    std::vector<std::size_t> sample_shape; ///< such as 28 × 28, or time × features
    std::size_t sample_size = 0;           ///< product of sample_shape
    Element element = Element::ubyte;
    core::Buffer<std::byte> elements; ///< local.size() × sample_size elements; floats in this machine's order of bytes
    core::Buffer<std::uint8_t> labels; ///< local.size(); empty in a split read without labels

    [[nodiscard]] std::size_t sample_bytes() const noexcept { return sample_size * size_of(element); }
    /// One sample as a network takes it: bytes as value / 255, floats as they are.
    void fetch(std::int64_t local_index, std::span<float> out) const noexcept;
};

struct Dataset {
    Split train;
    Split test;
    std::string name; ///< "MNIST", "Fashion-MNIST", or "unknown IDX data" with its hash
};

/// The samples of `shards` contiguous logical shards that belong to the shards in `part`.
[[nodiscard]] core::Range samples_of_shards(std::int64_t samples, std::int64_t shards, core::Range part) noexcept;

/// Room for the samples `local` of the set.
[[nodiscard]] Split allocate_split(const SetHeader& header, core::Range local);

/// Throws the error of the set's limit unless `header.samples` fit into `room` bytes; returns what is left of these. A
/// system may promise more memory than it has and kill a process later on.
double require_room(const SourceSettings& settings, Set set, const SetHeader& header, double room);

/// A set, or as much of it as it is limited to, on this rank alone, with labels below `classes`. Throws core::Error
/// (bad_config, bad_data).
[[nodiscard]] Split load_set(const Source& source, Set set, std::size_t classes);
/// The same for all of a pair of IDX files. `labels` may be empty.
[[nodiscard]] Split load_split(const std::filesystem::path& images, const std::filesystem::path& labels,
                               std::size_t classes);

/// out[i] = bytes[i] / 255, correctly rounded.
void to_unit_interval(std::span<const std::uint8_t> bytes, std::span<float> out) noexcept;

} // namespace dtrain::data
