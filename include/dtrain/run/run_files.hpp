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
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dtrain::run {

/// The output folder of a run: config, cost log and checkpoints. Only rank 0 has this object. A background thread
/// writes the files from copies, and training never waits for it. `failed` reports an error early, and `wait` throws
/// it. If files are produced faster than the disk can write them, pending files are dropped. A newer log replaces a
/// pending one, which it contains. Pending checkpoints are limited to keep_checkpoints and to 16 MB, but at least one.
/// The last log and the last checkpoint are always written.
class RunFiles {
  public:
    /// Locks the folder if it exists, and writes nothing. Throws core::Error (bad_output) if another run holds the
    /// lock, or if log.h5 exists and is not a log of dtrain.
    explicit RunFiles(const config::Config& config);

    /// The newest valid checkpoint, or best.h5 if it is the only one. Empty if there is no checkpoint or with resume =
    /// never. Reports newer checkpoints that are damaged or unreadable to `warn`; `open` renames them. Throws
    /// core::Error (bad_checkpoint) if there are checkpoints but none is valid, or if the newest valid one does not
    /// match the config or `dataset`, the name of the data set.
    [[nodiscard]] std::optional<io::Checkpoint> newest(const std::string& dataset,
                                                       const std::function<void(std::string_view)>& warn);

    /// The config as the files of this run have it. After newest() found a checkpoint, model.initial has the value from
    /// there: the run began with those weights, whatever the key says now.
    [[nodiscard]] const config::Config& config() const noexcept { return config_; }

    /// What the user must know about an opened folder.
    struct Opened {
        std::optional<std::filesystem::path> aside;           ///< where the files of an earlier run were moved
        std::optional<std::filesystem::path> resolved_config; ///< the file of the resolved config, if not config.ini
        std::optional<std::filesystem::path> displaced_best;  ///< where a best.h5 was moved that is not a checkpoint
    };
    /// Creates the folder, removes temporary files of a killed run, writes the resolved config and starts the writer.
    /// With resume = never it moves the files of an earlier run to another folder. It never replaces a file that dtrain
    /// did not write, nor the config that was read. Throws core::Error (bad_output).
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
    /// A copy of the parameters and the state after a step.
    struct Snapshot {
        io::CheckpointInfo info;             ///< without the record
        core::Buffer<float> values;          ///< parameters, then the arenas of the state
        std::vector<io::TensorView> tensors; ///< views into `values`
    };
    /// `record` becomes the record of the checkpoint.
    void write_checkpoint(std::shared_ptr<const Snapshot> snapshot, std::shared_ptr<const io::RunRecord> record);
    /// Writes best.h5. `record` may be longer than the snapshot's. This file is never dropped, except for a better one.
    /// It or a better one is written before any checkpoint that is submitted later. So best.h5 is never older than the
    /// best epoch in the record of a checkpoint.
    void write_best(std::shared_ptr<const Snapshot> snapshot, std::shared_ptr<const io::RunRecord> record);
    using SnapshotAndRecord = std::pair<std::shared_ptr<const Snapshot>, std::shared_ptr<const io::RunRecord>>;
    /// Forgets a snapshot that write_best() has not begun to write, because the caller has a better one. If a pending
    /// checkpoint counts on the old one, writes the better one that `take` makes, before that checkpoint. The old one
    /// is freed first. Returns whether it did.
    [[nodiscard]] bool replace_waiting_best(const std::function<SnapshotAndRecord()>& take);
    /// After open(), for a run that resumes: makes best.h5 the network after `step`, whose weights have this
    /// fingerprint, if it is missing or another one and the folder has a checkpoint of that step. Another one is from
    /// later steps, which were lost or given up. Returns whether best.h5 is that network.
    [[nodiscard]] bool restore_best(std::int64_t step, std::uint64_t fingerprint);
    /// How many checkpoints are kept at most.
    [[nodiscard]] static std::size_t max_kept(const config::Config& config);
    /// How many checkpoints of `bytes` each may wait for the disk.
    [[nodiscard]] static std::size_t max_waiting(const config::Config& config, std::size_t bytes);
    /// Bytes of memory needed to write checkpoints of `bytes` of parameters and state: one as a copy, in HDF5 and as a
    /// file image, and the pending ones.
    [[nodiscard]] static std::function<std::size_t(std::size_t bytes)> writing_bytes(const config::Config& config);
    /// Number of checkpoints that were dropped and would otherwise have been kept.
    [[nodiscard]] std::size_t dropped_checkpoints() const noexcept { return dropped_checkpoints_; }

    /// Adds the seconds of each rank in the last epoch to the log. `earlier_epochs`: number of epochs before it.
    void add_rank_seconds(std::span<const io::PhaseSeconds> ranks, std::size_t earlier_epochs);

    /// After open(): a warning if the files of this run, including temporary ones, need more space than the file system
    /// has. `state_bytes`: bytes of parameters and optimizer state.
    [[nodiscard]] std::optional<std::string> find_full_disk(std::size_t state_bytes, std::int64_t steps_per_epoch,
                                                            std::int64_t steps_left, int ranks) const;

    /// After open(): false if the file system has no locks.
    [[nodiscard]] bool locked() const { return output_ && output_->locked(); }
    [[nodiscard]] bool failed() const { return writer_ && writer_->failed(); }
    void wait() { writer_->wait(); }
    /// CPU seconds that the writer thread has spent on logs or checkpoints so far.
    [[nodiscard]] double writing_seconds(BackgroundWriter::Lane lane) const { return writer_->seconds(lane); }

    [[nodiscard]] std::filesystem::path log_file() const;
    [[nodiscard]] const io::CheckpointFolder& checkpoints() const noexcept { return folder_; }

  private:
    /// A function that writes best.h5.
    [[nodiscard]] std::function<void()> writer_of_best(std::shared_ptr<const Snapshot> snapshot,
                                                       std::shared_ptr<const io::RunRecord> record);
    /// On the writer's thread: writes the snapshot of write_best(), unless that is done.
    void write_waiting_best();
    /// Whether the file `name` of the folder is the config that this run was started with.
    [[nodiscard]] bool is_config_read(const char* name) const;
    [[nodiscard]] std::string resolved_config() const;
    /// The name of the file for the resolved config: one that may be replaced or already has that text. Throws
    /// core::Error (bad_output) if there is none.
    [[nodiscard]] const char* place_of_resolved_config() const;

    config::Config config_;
    std::optional<io::Folder> output_;            ///< locked
    std::optional<io::Folder> checkpoint_output_; ///< after open()
    io::CheckpointFolder folder_;
    std::vector<std::int64_t> damaged_; ///< to be renamed
    std::size_t dropped_checkpoints_ = 0;
    io::RankSeconds rank_seconds_;
    std::string created_;
    std::mutex best_mutex_;
    std::function<void()> waiting_best_; ///< writes best.h5; guarded by best_mutex_
    bool best_is_counted_ = false;       ///< a checkpoint was submitted after waiting_best_; guarded by best_mutex_
    std::optional<BackgroundWriter> writer_;
};

} // namespace dtrain::run
