#pragma once

#include "dtrain/model/evaluator.hpp"

#include <cstdint>

namespace dtrain::run {

/// The epoch with the best score so far: the highest accuracy, and among equal ones the lowest cost, then the first.
struct BestEpoch {
    std::int64_t epoch = 0; ///< from 1; 0 before the first score
    model::Score score;

    /// The score after an epoch. Returns whether it is the best so far.
    bool add(std::int64_t number, const model::Score& candidate) noexcept {
        const bool is_better = epoch == 0 || candidate.accuracy > score.accuracy ||
                               (candidate.accuracy == score.accuracy && candidate.cost < score.cost);
        if (is_better) {
            *this = {number, candidate};
        }
        return is_better;
    }
};

} // namespace dtrain::run
