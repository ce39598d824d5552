#pragma once

#include "dtrain/io/hdf5.hpp"
#include "dtrain/io/run_record.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::io {

/// A named tensor inside a flat buffer. `values` has the product of `shape` elements.
struct TensorView {
    std::string path; ///< "/model/01_dense/weight", "/optimizer/momentum/01_dense/weight"
    std::vector<std::size_t> shape;
    std::span<float> values;
};

/// The contents of a checkpoint besides its tensors. Nothing in it depends on the number of ranks.
struct CheckpointInfo {
    std::int64_t epoch = 0; ///< finished epochs
    std::int64_t step = 0;  ///< finished steps
    std::uint64_t seed = 0;
    std::int64_t logical_shards = 0;
    std::uint64_t fingerprint = 0; ///< of the weights
    std::string config;            ///< the resolved config
    std::string dataset;           ///< name of the data set
    std::vector<std::size_t> sample_shape;
    std::string rounding; ///< kernels::Products::rounding_name(); empty in files of earlier versions
    RunRecord record;
};

/// The bytes of a checkpoint file. Throws like to_hdf5.
[[nodiscard]] std::vector<std::byte> encode_checkpoint(const CheckpointInfo& info, std::span<const TensorView> tensors);

/// A valid checkpoint that was read from a file. Call read() to get its tensors.
class Checkpoint {
  public:
    /// Throws DamagedFile if the file is damaged, UnreadableFile if it cannot be read, and core::Error (bad_checkpoint)
    /// if the format has another version.
    explicit Checkpoint(const std::filesystem::path& file);

    [[nodiscard]] const CheckpointInfo& info() const noexcept { return info_; }
    /// Throws core::Error (bad_checkpoint) unless the checkpoint has a tensor with this path and shape. Call this
    /// before allocating memory for the tensor.
    void require(const std::string& path, const std::vector<std::size_t>& shape) const;
    /// Fills `tensors`. Throws core::Error (bad_checkpoint) if one is missing or has another shape.
    void read(std::span<const TensorView> tensors) const;
    /// Throws core::Error (bad_checkpoint) with the message "FILE: problem", for a valid file that does not fit.
    [[noreturn]] void fail(const std::string& problem) const;

  private:
    std::string name_;
    Hdf5Image file_;
    CheckpointInfo info_;
};

/// The folder of a run's checkpoints, with files named step-<8 or more digits>.h5, and best.h5.
class CheckpointFolder {
  public:
    explicit CheckpointFolder(std::filesystem::path folder) : folder_(std::move(folder)) {}

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return folder_; }
    [[nodiscard]] std::filesystem::path file(std::int64_t step) const;
    /// The checkpoint with the best score, best.h5. It is not in steps().
    [[nodiscard]] std::filesystem::path best_file() const;
    /// The steps that have a checkpoint file, newest first. Throws core::Error (bad_checkpoint) if the folder cannot be
    /// listed.
    [[nodiscard]] std::vector<std::int64_t> steps() const;
    /// Removes the oldest checkpoints until only `keep` are left. Ignores files that cannot be removed.
    void prune(std::size_t keep) const;
    /// Removes incomplete checkpoints that killed processes left behind.
    void sweep() const;
    /// An unused name for a file of the folder that is damaged or not a checkpoint: the name followed by .damaged, with
    /// a number at the end if that exists. Files with such names are not in steps().
    [[nodiscard]] static std::filesystem::path name_if_damaged(const std::filesystem::path& file);

  private:
    std::filesystem::path folder_;
};

/// Opens the checkpoint at `path`. If `path` is a folder, the output folder of a run or a folder of checkpoints, opens
/// the newest valid checkpoint there and sets `path` to its file. Reports newer ones that are damaged or unreadable to
/// `warn`. Throws core::Error (bad_checkpoint) like the constructor, or if there is none.
[[nodiscard]] Checkpoint open_checkpoint(std::filesystem::path& path,
                                         const std::function<void(std::string_view)>& warn);

} // namespace dtrain::io
