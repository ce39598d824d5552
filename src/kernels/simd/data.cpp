// Samples: conversion, random numbers, and the transformation of images.

#include "dtrain/core/random.hpp"
#include "dtrain/kernels/table.hpp"

#include "simd.hpp"

#include <cstddef>
#include <cstdint>

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {
namespace {

constexpr std::size_t tile = image_tile;

/// The reciprocal has two parts, because one float gives errors of one ulp for some values. A division would be several
/// times slower.
void to_unit_interval(const std::uint8_t* bytes, float* out, std::size_t size) noexcept {
    constexpr float high = 1.0F / 255.0F;
    constexpr auto low = static_cast<float>(1.0 / 255.0 - static_cast<double>(high));
    for (std::size_t i = 0; i < size; ++i) {
        const auto value = static_cast<float>(bytes[i]);
        out[i] = fused(value, high, value * low);
    }
}

void fill_random(const core::StreamStart& start, std::uint32_t* words, std::size_t blocks) noexcept {
    std::uint32_t* const word0 = words;
    std::uint32_t* const word1 = word0 + blocks;
    std::uint32_t* const word2 = word1 + blocks;
    std::uint32_t* const word3 = word2 + blocks;
    const auto [key0, key1, first] = start;
#pragma GCC ivdep // the four parts do not overlap
    for (std::size_t b = 0; b < blocks; ++b) {
        const core::PhiloxBlock block =
            core::philox({static_cast<std::uint32_t>(b), first.word1, first.word2, first.word3}, key0, key1);
        word0[b] = block.word0;
        word1[b] = block.word1;
        word2[b] = block.word2;
        word3[b] = block.word3;
    }
}

/// Two sums at once hide the latency of the additions. The sums stay in registers.
void add_rows(std::size_t count, std::size_t stride, const WeightedRows& a, const WeightedRows& b) noexcept {
    float sum_a[tile] = {};
    float sum_b[tile] = {};
    for (std::size_t k = 0; k < count; ++k) {
        for (std::size_t i = 0; i < tile; ++i) {
            sum_a[i] = fused(a.weights[k], a.rows[k * stride + i], sum_a[i]);
        }
        for (std::size_t i = 0; i < tile; ++i) {
            sum_b[i] = fused(b.weights[k], b.rows[k * stride + i], sum_b[i]);
        }
    }
    for (std::size_t i = 0; i < tile; ++i) {
        a.out[i] = sum_a[i];
        b.out[i] = sum_b[i];
    }
}

/// `place` clamped to [0, end].
[[gnu::always_inline]] inline float within(float place, float end) noexcept {
    const float above = place > 0 ? place : 0;
    return above < end ? above : end;
}

void warp(const Warp& job) noexcept {
    const float* const framed = job.framed;
    const std::int32_t row_step = job.framed_stride;
    for (std::size_t done = 0; done < job.size; done += tile) {
        const float* const place_x = job.place_x + done;
        const float* const place_y = job.place_y + done;
        const float* const away_x = job.away_x + done;
        const float* const away_y = job.away_y + done;
        std::int32_t corner[tile];
        float right_share[tile], lower_share[tile], values[tile];
        for (std::size_t i = 0; i < tile; ++i) {
            const float x =
                within(fused(job.xx, place_x[i], fused(job.xy, place_y[i], job.start_x)) + away_x[i], job.end_x);
            const float y =
                within(fused(job.yx, place_x[i], fused(job.yy, place_y[i], job.start_y)) + away_y[i], job.end_y);
            const auto left = static_cast<std::int32_t>(x);
            const auto top = static_cast<std::int32_t>(y);
            right_share[i] = x - static_cast<float>(left);
            lower_share[i] = y - static_cast<float>(top);
            corner[i] = top * row_step + left;
        }
        // A separate loop, because a loop with this gather is not vectorised. Loads two neighbours in a row at once.
        float upper[2 * tile], lower[2 * tile];
        for (std::size_t i = 0; i < tile; ++i) {
            __builtin_memcpy(&upper[2 * i], framed + corner[i], 2 * sizeof(float));
            __builtin_memcpy(&lower[2 * i], framed + corner[i] + row_step, 2 * sizeof(float));
        }
        for (std::size_t i = 0; i < tile; ++i) {
            const float above = fused(right_share[i], upper[2 * i + 1], (1 - right_share[i]) * upper[2 * i]);
            const float below = fused(right_share[i], lower[2 * i + 1], (1 - right_share[i]) * lower[2 * i]);
            values[i] = fused(lower_share[i], below, (1 - lower_share[i]) * above);
        }
        const std::size_t valid = smaller(tile, job.size - done);
        for (std::size_t i = 0; i < valid; ++i) {
            job.image[done + i] = values[i];
        }
    }
}

} // namespace

void fill_data(DataKernels& kernels) noexcept {
    kernels = {to_unit_interval, fill_random, add_rows, warp};
}

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
