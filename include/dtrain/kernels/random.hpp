#pragma once

#include "dtrain/core/random.hpp"

#include <cstdint>
#include <span>

namespace dtrain::kernels {

/// Computes the first words.size() numbers of a random stream, many at a time. Number 4b + w of the stream (word w of
/// block b) is stored in words[w · blocks + b], where blocks = words.size() / 4. words.size() must be a multiple of 4.
void fill_random(std::uint64_t seed, core::Purpose purpose, std::uint32_t epoch, std::uint64_t index,
                 std::span<std::uint32_t> words);

} // namespace dtrain::kernels
