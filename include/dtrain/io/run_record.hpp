#pragma once

#include "dtrain/io/hdf5.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dtrain::io {

/// The course of a run so far, columns as in /epochs and /steps of log and checkpoint: one element per finished epoch
/// and per finished step.
struct RunRecord {
    std::vector<float> step_cost;     ///< mean over the step's batch
    std::vector<float> step_accuracy; ///< of the same outputs, 0 to 1
    struct Epochs {
        std::vector<std::int64_t> epoch;
        std::vector<std::int64_t> step;
        std::vector<double> train_cost; ///< as it went: mean over the epoch's samples, each in its own step
        std::vector<double> train_accuracy;
        std::vector<double> test_cost;
        std::vector<double> test_accuracy;
        std::vector<double> learning_rate;
        std::vector<double> seconds;
        std::vector<double> samples_per_second;
        std::vector<std::uint64_t> fingerprint; ///< of the weights, see model/fingerprint.hpp
        [[nodiscard]] std::size_t size() const noexcept { return epoch.size(); }
    } epochs;

    /// Appends the datasets of this record, which has to outlive them.
    void append_to(std::vector<DatasetView>& datasets) const;
    /// Throws core::Error (bad_checkpoint) where columns are missing or differ in length.
    [[nodiscard]] static RunRecord from(const Hdf5Image& file);
};

/// What a rank spent an epoch on, in seconds.
struct PhaseSeconds {
    double compute = 0; ///< forward, backward and update
    /// Adding up gradients; on several nodes, and with reducer = mpi, also waiting for those of others.
    double reduce = 0;
    double wait = 0; ///< at barriers within a node
    double data = 0; ///< making batches
};

/// Seconds per phase as /ranks has them, epochs × ranks. A rank that took no part in an epoch (runs may be resumed on
/// another number of ranks) has NaN.
struct RankSeconds {
    std::size_t epochs = 0;
    std::size_t ranks = 0;
    std::vector<double> compute, reduce, wait, data;

    void add_epoch(std::span<const PhaseSeconds> ranks_now);
    void append_to(std::vector<DatasetView>& datasets) const;
    [[nodiscard]] static RankSeconds from(const Hdf5Image& file);
    /// Cuts off, or fills up with NaN, to `rows` epochs.
    void resize(std::size_t rows);
};

} // namespace dtrain::io
