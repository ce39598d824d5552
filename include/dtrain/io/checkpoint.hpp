#pragma once

#include "dtrain/io/hdf5.hpp"
#include "dtrain/io/run_record.hpp"

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace dtrain::io {

/// A named tensor inside a larger arena.
struct TensorView {
    std::string path; ///< "/model/01_dense/weight", "/optimizer/momentum/01_dense/weight"
    std::vector<std::size_t> shape;
    std::span<float> values;
};

/// What a checkpoint says besides its tensors. Nothing in it depends on the number of ranks.
struct CheckpointInfo {
    std::int64_t epoch = 0; ///< finished epochs
    std::int64_t step = 0;  ///< finished steps
    std::uint64_t seed = 0;
    std::int64_t logical_shards = 0;
    std::uint64_t fingerprint = 0; ///< of the weights
    std::string config;            ///< the resolved config
    std::string dataset;           ///< name of the data set
    std::vector<std::size_t> sample_shape;
    RunRecord record;
};

[[nodiscard]] std::vector<std::byte> encode_checkpoint(const CheckpointInfo& info, std::span<const TensorView> tensors);

/// A checkpoint that was read and found whole, its tensors still to be fetched.
class Checkpoint {
  public:
    /// Throws DamagedFile, or UnreadableFile, or core::Error (bad_checkpoint) for a format of another version.
    explicit Checkpoint(const std::filesystem::path& file);

    [[nodiscard]] const CheckpointInfo& info() const noexcept { return info_; }
    /// Throws core::Error (bad_checkpoint) unless there is such a tensor: to be asked before memory is reserved for it.
    void require(const std::string& path, const std::vector<std::size_t>& shape) const;
    /// Fills the tensors. Throws core::Error (bad_checkpoint) unless each is there with its shape.
    void read(std::span<const TensorView> tensors) const;
    /// Throws core::Error (bad_checkpoint): a whole file, but not one that fits.
    [[noreturn]] void fail(const std::string& problem) const;

  private:
    std::string name_;
    Hdf5Image file_;
    CheckpointInfo info_;
};

/// The folder of a run's checkpoints, step-<8 or more digits>.h5.
class CheckpointFolder {
  public:
    explicit CheckpointFolder(std::filesystem::path folder) : folder_(std::move(folder)) {}

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return folder_; }
    [[nodiscard]] std::filesystem::path file(std::int64_t step) const;
    /// Steps for which there is a checkpoint, newest first.
    [[nodiscard]] std::vector<std::int64_t> steps() const;
    /// Removes the oldest until `keep` are left.
    void prune(std::size_t keep) const;
    /// Removes what killed processes left of checkpoints half written.
    void sweep() const;
    /// A free name for a damaged checkpoint, under which it is no longer one of `steps`: step-<digits>.h5.damaged, or
    /// with a number behind it.
    [[nodiscard]] std::filesystem::path name_if_damaged(std::int64_t step) const;

  private:
    std::filesystem::path folder_;
};

} // namespace dtrain::io
