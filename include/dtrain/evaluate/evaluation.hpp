#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/data/dataset.hpp"
#include "dtrain/evaluate/cost_surface.hpp"
#include "dtrain/io/checkpoint.hpp"
#include "dtrain/nn/network.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::evaluate {

/// The predictions of a network for the first samples of a split, in order.
struct Evaluation {
    std::size_t classes = 0;
    std::vector<float> outputs; ///< samples × classes: activations of the last layer
    std::vector<std::int64_t> predictions;
    std::vector<std::int64_t> labels; ///< empty if unknown
    std::int64_t correct = 0;
    double cost = 0; ///< mean over samples

    [[nodiscard]] std::int64_t samples() const noexcept { return static_cast<std::int64_t>(predictions.size()); }
    [[nodiscard]] double accuracy() const noexcept {
        return static_cast<double>(correct) / static_cast<double>(samples());
    }
    /// Counts, classes × classes. Rows are the true classes, columns the predicted classes.
    [[nodiscard]] std::vector<std::int64_t> confusion() const;
};

/// Evaluates the first `samples` (at least 1) of a split of which this process has all samples. The network must have
/// memory for evaluation_rows rows.
[[nodiscard]] Evaluation evaluate(nn::Network<float>& network, std::span<const float> parameters, std::string_view cost,
                                  const data::Split& split, std::int64_t samples);

/// The score of each class for each sample, samples × classes: softmax probabilities if the cost contains the softmax,
/// otherwise the activations of the last layer.
[[nodiscard]] std::vector<float> class_scores(const Evaluation& evaluation, std::string_view cost);

/// The samples with a wrong predicted class, at most `max_count`, the worst first: ordered by the score of the
/// predicted class minus the score of the true class.
[[nodiscard]] std::vector<std::int64_t> worst_mistakes(const Evaluation& evaluation, std::span<const float> scores,
                                                       std::size_t max_count);

/// The checkpoint and the samples of an evaluation.
struct Evaluated {
    const io::CheckpointInfo& info;
    std::string checkpoint; ///< path
    std::string dataset;
    std::string_view cost;
    nn::Network<float>& network;
    std::span<const float> parameters;
    const data::Split& split;
    std::string surface_set; ///< name of the set that the samples of the cost surface come from
};
/// The bytes of an evaluation file, see src/io/README.md. `surface` may be null.
[[nodiscard]] std::vector<std::byte> encode_evaluation(const Evaluated& evaluated, const Evaluation& evaluation,
                                                       const CostSurface* surface);

} // namespace dtrain::evaluate
