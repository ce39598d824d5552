#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/core/partition.hpp"
#include "dtrain/data/dataset.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/nn/cost.hpp"
#include "dtrain/nn/network.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace dtrain::model {

/// Rows per forward pass of an evaluation.
inline constexpr std::size_t evaluation_rows = 256;

struct Score {
    double cost = 0;     ///< mean over samples
    double accuracy = 0; ///< 0 to 1
};

/// Sums over a part of a batch or a data set.
struct ScoreSum {
    double cost = 0;
    std::int64_t correct = 0; ///< samples whose predicted class is their label
};

/// Measures a network on a data set.
class Evaluator {
  public:
    /// `network` must have memory for evaluation_rows rows. `network` and `split` must outlive the evaluator.
    Evaluator(nn::Network<float>& network, std::string_view cost, const data::Split& split);

    /// Receives the outputs (rows × classes) of the local samples first, first + 1, ...
    using Visitor = std::function<void(std::int64_t first, core::MatrixView<const float> outputs)>;

    /// Not collective: runs forward passes over the local samples in `part`, counted from the rank's first sample.
    void visit(std::span<const float> parameters, core::Range part, const Visitor& visitor);

    /// Collective: cost and accuracy over the samples of all ranks. They are bitwise identical for any number of ranks:
    /// every logical shard is evaluated separately, and the shards are added up in their order.
    [[nodiscard]] Score score(std::span<const float> parameters, std::int64_t shards, core::Range local_shards,
                              const mpi::Communicator& communicator);

    /// Sum of the costs of `outputs`, which belong to the local samples from `first` on.
    [[nodiscard]] double cost(std::int64_t first, core::MatrixView<const float> outputs) const;

  private:
    nn::Network<float>& network_;
    nn::Cost<float> cost_;
    const data::Split& split_;
    core::Buffer<float> x_;
};

/// The class with the largest output. If several are equal, the first of them.
[[nodiscard]] std::size_t predicted_class(std::span<const float> outputs) noexcept;

/// The number of rows of `outputs` (samples × classes) whose predicted class is their label.
[[nodiscard]] std::int64_t count_correct(core::MatrixView<const float> outputs,
                                         std::span<const std::uint8_t> labels) noexcept;

} // namespace dtrain::model
