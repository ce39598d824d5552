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

/// What a network says of the first samples of a split, one after the other.
struct Evaluation {
    std::size_t classes = 0;
    std::vector<float> outputs; ///< samples × classes: activations of the last layer
    std::vector<std::int64_t> predictions;
    std::vector<std::int64_t> labels; ///< empty if they are not known
    std::int64_t correct = 0;
    double cost = 0; ///< mean

    [[nodiscard]] std::int64_t samples() const noexcept { return static_cast<std::int64_t>(predictions.size()); }
    [[nodiscard]] double accuracy() const noexcept {
        return static_cast<double>(correct) / static_cast<double>(samples());
    }
    /// Rows are the true classes.
    [[nodiscard]] std::vector<std::int64_t> confusion() const;
};

/// Of the first `samples` of a split that is here as a whole, at least one. The network has room for evaluation_rows.
[[nodiscard]] Evaluation evaluate(nn::Network<float>& network, std::span<const float> parameters, std::string_view cost,
                                  const data::Split& split, std::int64_t samples);

/// How strongly the network takes each sample for each class, samples × classes: softmax probabilities where the cost
/// is one of these, else the activations as they are.
[[nodiscard]] std::vector<float> opinions(const Evaluation& evaluation, std::string_view cost);

/// The samples taken for a wrong class, at most `most` of them, the worst first: by how much more strongly it is taken
/// for that class than for its own.
[[nodiscard]] std::vector<std::int64_t> most_wrong(const Evaluation& evaluation, std::span<const float> opinions,
                                                   std::size_t most);

/// What an evaluation was of.
struct Evaluated {
    const io::CheckpointInfo& info;
    std::string checkpoint; ///< path
    std::string dataset;
    std::string_view cost;
    nn::Network<float>& network;
    std::span<const float> parameters;
    const data::Split& split;
    std::string surface_set; ///< what the samples of the cost surface were taken from
};
/// An HDF5 file as README.md ("Evaluations") describes it. `surface` may be null.
[[nodiscard]] std::vector<std::byte> encode_evaluation(const Evaluated& evaluated, const Evaluation& evaluation,
                                                       const CostSurface* surface);

} // namespace dtrain::evaluate
