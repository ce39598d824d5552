#pragma once

#include "dtrain/core/matrix.hpp"
#include "dtrain/core/shard_tree.hpp"
#include "dtrain/parallel/gradient_reducer.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dtrain::support {

/// A reducer for a single rank without MPI. Its subtree is the complete tree. It returns sums in blocks of `block`
/// elements, a multiple of 16.
class LoneReducer final : public parallel::GradientReducer {
  public:
    LoneReducer(std::size_t parameters, std::size_t states, std::int64_t shards, std::size_t block)
        : GradientReducer({parameters, states, shards, {{0, shards}}, 0}, 0), block_(block), parameters_(parameters),
          gradients_(parameters + parallel::tail_size) {
        for (std::size_t i = 0; i < states; ++i) {
            states_.emplace_back(parameters);
        }
    }

    [[nodiscard]] std::span<float> gradients(std::size_t) const noexcept override { return gradients_.values(); }
    [[nodiscard]] std::span<float> parameters() const noexcept override { return parameters_.values(); }
    [[nodiscard]] std::span<float> state(std::size_t i) const noexcept override { return states_[i].values(); }
    [[nodiscard]] bool fills_parameters() const noexcept override { return true; }
    void arrive() override {}
    void combine() override { ++combined; }
    [[nodiscard]] core::Range slice() const noexcept override {
        return {0, static_cast<std::int64_t>(parameters_.size())};
    }
    [[nodiscard]] Block sum_block(std::int64_t begin) override {
        const auto first = static_cast<std::size_t>(begin);
        const std::size_t size = std::min(block_, parameters_.size() - first);
        return {{begin, begin + static_cast<std::int64_t>(size)}, gradients_.values().subspan(first, size)};
    }
    void sum_over_slices(std::span<std::int64_t>) override {}
    void publish() override { ++published; }
    [[nodiscard]] std::span<const float> tail() const noexcept override {
        return gradients_.values().last(parallel::tail_size);
    }

    int combined = 0;
    int published = 0;

  private:
    std::size_t block_;
    core::Buffer<float> parameters_;
    core::Buffer<float> gradients_;
    std::vector<core::Buffer<float>> states_;
};

} // namespace dtrain::support
