#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/core/partition.hpp"
#include "dtrain/data/idx.hpp"
#include "dtrain/mpi/communicator.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace dtrain::data {

/// This rank's samples of the training or the test set, in the element type of their file.
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

/// The files of a data set, as MNIST has them: for find_samples, and for find_idx.
inline constexpr const char* train_samples = "train-images";
inline constexpr const char* train_labels = "train-labels-idx1-ubyte";
inline constexpr const char* test_samples = "t10k-images";
inline constexpr const char* test_labels = "t10k-labels-idx1-ubyte";

/// How many samples are used at the most; 0 = all.
struct Limits {
    std::int64_t train_samples = 0;
    std::int64_t test_samples = 0;
};

/// Collective. Rank 0 reads the four IDX files once, piece by piece, and hands each rank the samples of its shards;
/// no rank ever holds another's. `shards_of_rank` has one range per rank, the same on every rank. Labels have to be
/// below `classes` and floats finite. Throws mpi::AgreedError (bad_data).
[[nodiscard]] Dataset load_dataset(const std::filesystem::path& directory, const Limits& limits, int classes,
                                   std::int64_t shards, std::span<const core::Range> shards_of_rank,
                                   const mpi::Communicator& communicator);

/// What the headers of the IDX files say.
struct DatasetHeader {
    std::vector<std::size_t> sample_shape;
    std::int64_t train_samples = 0;
    std::int64_t test_samples = 0;
};
/// Not collective. Throws core::Error (bad_data).
[[nodiscard]] DatasetHeader read_header(const std::filesystem::path& directory);

/// A pair of IDX files as one split, on this rank alone. `labels` may be empty. Throws core::Error (bad_data).
[[nodiscard]] Split load_split(const std::filesystem::path& images, const std::filesystem::path& labels, int classes);

/// out[i] = bytes[i] / 255, correctly rounded.
void to_unit_interval(std::span<const std::uint8_t> bytes, std::span<float> out) noexcept;

} // namespace dtrain::data
