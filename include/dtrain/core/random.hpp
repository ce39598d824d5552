#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace dtrain::core {

/// What a random stream is used for. Streams with different purposes are independent.
enum class Purpose : std::uint32_t {
    initialisation = 1,
    sample_order = 2,
    transformation = 3,
    displacement = 4,
    dropout = 5,
    synthetic_digits = 6,
    direction = 7
};

/// A stream of random numbers that is a pure function of (seed, purpose, epoch, index). So no state travels between
/// ranks or goes into a checkpoint. The generator is Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy
/// as 1, 2, 3" (SC 2011). `epoch` must be below 2^24.
class RandomStream {
  public:
    RandomStream(std::uint64_t seed, Purpose purpose, std::uint32_t epoch, std::uint64_t index) noexcept;

    /// Uniform over all 32-bit numbers.
    std::uint32_t next() noexcept;

    /// Uniform in [0, 1). The value is a multiple of 2^-24, so float and double represent it exactly.
    double uniform() noexcept { return (next() >> 8) * 0x1p-24; }

    /// Uniform in [0, bound), without bias (Lemire, "Fast random integer generation in an interval", 2019).
    std::uint32_t below(std::uint32_t bound) noexcept;

  private:
    std::array<std::uint32_t, 2> key_;
    std::array<std::uint32_t, 4> counter_;
    std::array<std::uint32_t, 4> block_{};
    int left_ = 0;
};

/// Computes the first words.size() numbers of a stream, many at a time. Number 4b + w of the stream (word w of block b)
/// is stored in words[w · blocks + b], where blocks = words.size() / 4. words.size() must be a multiple of 4.
void fill_random(std::uint64_t seed, Purpose purpose, std::uint32_t epoch, std::uint64_t index,
                 std::span<std::uint32_t> words) noexcept;

/// One block of Philox4x32-10.
[[nodiscard]] std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                      std::array<std::uint32_t, 2> key) noexcept;

} // namespace dtrain::core
