#pragma once

#include "dtrain/train/descent.hpp"

namespace dtrain::train {

/// Gradient descent on the global batch: each step adds up the gradients of all shards, and each rank updates its own
/// slice of the parameters.
class ExactDescent final : public Descent {
  public:
    explicit ExactDescent(const Tools& tools);

    void descend(std::int64_t step, const data::Batch& batch, const nn::Draw& draw, const Notice& notice) override;

  private:
    SliceUpdate update_;
};

} // namespace dtrain::train
