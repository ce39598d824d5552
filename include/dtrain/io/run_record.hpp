#pragma once

#include "dtrain/io/hdf5.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dtrain::io {

/// The history of a run, with the columns of /epochs and /steps in logs and checkpoints. Each column has one element
/// per finished epoch or step.
struct RunRecord {
    std::vector<float> step_cost;     ///< mean over the step's batch
    std::vector<float> step_accuracy; ///< of the same outputs, from 0 to 1
    struct Epochs {
        std::vector<std::int64_t> epoch;
        std::vector<std::int64_t> step;
        std::vector<double> train_cost; ///< mean over the epoch's samples, each evaluated in its own training step
        std::vector<double> train_accuracy;
        std::vector<double> test_cost;
        std::vector<double> test_accuracy;
        std::vector<double> validation_cost; ///< this and the next one are empty if the run has no validation set
        std::vector<double> validation_accuracy;
        std::vector<double> learning_rate;
        std::vector<double> seconds;
        std::vector<double> samples_per_second;
        std::vector<std::uint64_t> fingerprint; ///< of the weights, see model/fingerprint.hpp
        [[nodiscard]] std::size_t size() const noexcept { return epoch.size(); }
        [[nodiscard]] bool empty() const noexcept { return epoch.empty(); }
    } epochs;

    /// The record as it was after `epoch_count` epochs and `step_count` steps.
    [[nodiscard]] RunRecord first(std::size_t epoch_count, std::size_t step_count) const;
    /// Appends the datasets of this record to `datasets`. The record must outlive them.
    void append_to(std::vector<DatasetView>& datasets) const;
    /// Throws DamagedFile if columns are missing or differ in length.
    [[nodiscard]] static RunRecord from(const Hdf5Image& file);
};

/// The time of a rank in an epoch, by phase, in seconds.
struct PhaseSeconds {
    double compute = 0; ///< forward, backward and update
    /// Summing gradients. On several nodes, and with reducer = mpi, this includes waiting for the gradients of other
    /// ranks.
    double reduce = 0;
    double wait = 0; ///< waiting at barriers within a node
    double data = 0; ///< preparing batches
};

/// The tables of /ranks: seconds per phase, epochs × ranks. The value is NaN if a rank did not exist in an epoch,
/// because a run may resume on another number of ranks.
struct RankSeconds {
    std::size_t epochs = 0;
    std::size_t ranks = 0;
    std::vector<double> compute, reduce, wait, data;

    void add_epoch(std::span<const PhaseSeconds> ranks_now);
    void append_to(std::vector<DatasetView>& datasets) const;
    [[nodiscard]] static RankSeconds from(const Hdf5Image& file);
    /// Changes the number of epochs to `rows`. New epochs have NaN.
    void resize(std::size_t rows);
};

} // namespace dtrain::io
