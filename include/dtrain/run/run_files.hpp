#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/matrix.hpp"
#include "dtrain/io/checkpoint.hpp"
#include "dtrain/io/file.hpp"
#include "dtrain/io/run_record.hpp"
#include "dtrain/run/background_writer.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::run {

/// The output folder of a run: config, cost log and checkpoints. One rank has it. Writing goes on in the background
/// from copies, and training never waits for it; what goes wrong there is thrown by `wait`, and `failed` tells early.
/// Where files come due faster than the disk takes them, a log gives way to a newer one, which contains it, and a
/// checkpoint gives way once as many newer ones are waiting as would have it removed, or as fit into 16 MB (but one at
/// least). The last log and the last checkpoint are always written.
class RunFiles {
  public:
    /// Locks the folder if it is there already, and writes nothing. Throws core::Error (bad_output) if another run
    /// has it, or if a file that dtrain did not write has the place of the log.
    explicit RunFiles(const config::Config& config);

    /// The newest whole checkpoint. Those on the way that are damaged or cannot be read are handed to `warn`; `open`
    /// renames them. Empty if there is no checkpoint or the config says to begin anew. Throws core::Error
    /// (bad_checkpoint) if none is whole or the newest whole one belongs to another run (`dataset` is the name of the
    /// present data set).
    [[nodiscard]] std::optional<io::Checkpoint> newest(const std::string& dataset,
                                                       const std::function<void(std::string_view)>& warn);

    /// What the user has to be told of an opened folder.
    struct Opened {
        std::optional<std::filesystem::path> aside;           ///< where the files of an earlier run went
        std::optional<std::filesystem::path> resolved_config; ///< where it is if not in config.ini
    };
    /// Creates the folder, sweeps up what a killed run left half written, writes the resolved config and begins to
    /// accept files. A run that begins anew moves the files of an earlier one out of the way. Replaces nothing that
    /// dtrain did not write, nor the config that was read. Throws core::Error (bad_output).
    Opened open();

    struct LogHeader {
        std::int64_t ranks = 0;
        std::int64_t nodes = 0;
        std::int64_t parameters = 0;
        std::string dataset;
        std::string reducer;
        std::string arithmetic;
    };
    void write_log(const LogHeader& header, std::shared_ptr<const io::RunRecord> record);
    /// `tensors` are views into `copy`; `record` becomes that of `info`.
    void write_checkpoint(io::CheckpointInfo info, std::shared_ptr<const io::RunRecord> record,
                          std::vector<io::TensorView> tensors, std::shared_ptr<core::Buffer<float>> copy);
    /// How many checkpoints stay at the most.
    [[nodiscard]] static std::size_t max_kept(const config::Config& config);
    /// How many checkpoints of `bytes` each wait for the disk at most.
    [[nodiscard]] static std::size_t max_waiting(const config::Config& config, std::size_t bytes);
    /// What memory it takes to write parameters and state of so many bytes: a checkpoint as a copy, in HDF5 and as a
    /// file, and those that wait.
    [[nodiscard]] static std::function<std::size_t(std::size_t bytes)> writing_bytes(const config::Config& config);
    /// Checkpoints that would have been kept, but gave way to newer ones.
    [[nodiscard]] std::size_t left_out() const noexcept { return left_out_; }

    /// The time of each rank in the epoch just finished, for the log, `earlier_epochs` having gone before.
    void add_rank_seconds(std::span<const io::PhaseSeconds> ranks, std::size_t earlier_epochs);

    /// Once open: a warning where the file system has not the room that files of this run will take, the temporary ones
    /// included. `state_bytes` are parameters and optimizer state.
    [[nodiscard]] std::optional<std::string> find_full_disk(std::size_t state_bytes, std::int64_t steps_per_epoch,
                                                            std::int64_t steps_left, int ranks) const;

    /// Once open: false where the file system has no locks.
    [[nodiscard]] bool locked() const { return output_ && output_->locked(); }
    [[nodiscard]] bool failed() const { return writer_ && writer_->failed(); }
    void wait() { writer_->wait(); }
    /// CPU time that writing logs, or checkpoints, has taken in the background so far.
    [[nodiscard]] double writing_seconds(BackgroundWriter::Lane lane) const { return writer_->seconds(lane); }

    [[nodiscard]] std::filesystem::path log_file() const;
    [[nodiscard]] const io::CheckpointFolder& checkpoints() const noexcept { return folder_; }

  private:
    /// Whether it is the config that this run was started with.
    [[nodiscard]] bool is_config_read(const char* name) const;
    [[nodiscard]] std::string resolved_config() const;
    /// The name of the file that may be replaced by it, or already is what it would become. Throws core::Error
    /// (bad_output) if there is none.
    [[nodiscard]] const char* place_of_resolved_config() const;

    const config::Config& config_;
    std::optional<io::Folder> output_;            ///< locked
    std::optional<io::Folder> checkpoint_output_; ///< once open
    io::CheckpointFolder folder_;
    std::vector<std::int64_t> damaged_; ///< to be renamed
    std::size_t left_out_ = 0;
    io::RankSeconds rank_seconds_;
    std::string created_;
    std::optional<BackgroundWriter> writer_;
};

} // namespace dtrain::run
