#pragma once

#include "dtrain/train/descent.hpp"

namespace dtrain::train {

/// Gradient descent on the whole batch: the shards' gradients are added up in every step, and each rank updates the
/// slice of the parameters that it owns.
class ExactDescent final : public Descent {
  public:
    explicit ExactDescent(const Tools& tools);

    void descend(std::int64_t step, const data::Batch& batch, const nn::Draw& draw, const Notice& notice) override;

  private:
    SliceUpdate update_;
};

} // namespace dtrain::train
