// The update rules of optim/optimizer.cpp and sums of squares. Fused operations are written as fused(), so that bits do
// not depend on where a slice begins.

#include "dtrain/kernels/table.hpp"

#include "simd.hpp"

#include <cstddef>
#include <cstdint>

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {
namespace {

/// Replaces every parameter p by rule(i, p, g), where i is its index and g its gradient. Returns whether all new
/// parameters are finite. It looks at exponent bits: the compiler vectorises an integer maximum, but not a float sum.
template <class Rule>
[[gnu::always_inline]] inline bool update_each(const Update& job, Rule&& rule) noexcept {
    float* const p = job.parameters;
    const float* const sum = job.sum;
    const float scale = job.scale;
    const float decay = job.decay;
    std::uint32_t largest = 0;
    for (std::size_t i = 0; i < job.size; ++i) {
        const float value = rule(i, p[i], fused(scale, sum[i], decay * p[i]));
        p[i] = value;
        const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value) & 0x7fffffffU;
        largest = largest < bits ? bits : largest;
    }
    return largest < 0x7f800000U;
}

bool sgd(const Update& job) noexcept {
    const float rate = job.rate;
    return update_each(job, [=](std::size_t, float p, float g) { return fused(-rate, g, p); });
}

template <bool has_look_ahead>
bool momentum(const Update& job) noexcept {
    const float rate = job.rate;
    const float keep = job.momentum;
    float* const v = job.state[0];
    return update_each(job, [=](std::size_t i, float p, float g) {
        v[i] = fused(keep, v[i], g);
        return fused(-rate, has_look_ahead ? fused(keep, v[i], g) : v[i], p);
    });
}

bool adam(const Update& job) noexcept {
    constexpr float epsilon = 1e-8F;
    const float keep1 = job.momentum;
    const float keep2 = job.keep_square;
    const float take1 = job.take_gradient;
    const float take2 = job.take_square;
    const float rate = job.rate;
    const float root_scale = job.root_scale;
    const float shrink = job.shrink;
    float* const mean = job.state[0];
    float* const square = job.state[1];
    return update_each(job, [=](std::size_t i, float p, float g) {
        mean[i] = fused(keep1, mean[i], take1 * g);
        square[i] = fused(keep2, square[i], take2 * g * g);
        const float root = fused(__builtin_sqrtf(square[i]), root_scale, epsilon);
        return fused(-rate, mean[i] / root, shrink * p);
    });
}

bool lars(const Update& job) noexcept {
    const float rate = job.rate;
    const float keep = job.momentum;
    float* const v = job.state[0];
    return update_each(job, [=](std::size_t i, float p, float g) {
        v[i] = fused(keep, v[i], rate * g);
        return p - v[i];
    });
}

/// A line of 16 values is summed in double. The squares need 48 bits, so they are exact, fused or not.
__int128 sum_squares(const float* values, std::size_t size, float scale) noexcept {
    constexpr std::size_t half_line = 8;
    constexpr double units = 0x1p70;
    constexpr double max_units = 0x1p100; // cap for the sum of a line
    __int128 total = 0;
    for (std::size_t begin = 0; begin < size; begin += 2 * half_line) {
        double s[half_line];
        for (std::size_t i = 0; i < half_line; ++i) {
            const double left = scale * values[begin + i];
            const double right = scale * values[begin + half_line + i];
            s[i] = left * left + right * right;
        }
        const double in_units = (((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))) * units;
        total += static_cast<__int128>(in_units < max_units ? in_units : max_units); // NaN counts as the maximum too
    }
    return total;
}

} // namespace

void fill_updates(UpdateKernels& kernels) noexcept {
    kernels = {sgd, momentum<false>, momentum<true>, adam, lars, sum_squares};
}

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
