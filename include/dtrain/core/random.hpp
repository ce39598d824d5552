#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace dtrain::core {

/// What a random stream is for; streams of different purposes never share numbers.
enum class Purpose : std::uint32_t {
    initialisation = 1,
    sample_order = 2,
    transformation = 3,
    displacement = 4,
    dropout = 5,
    synthetic_digits = 6,
    direction = 7
};

/// A stream of random numbers that is a pure function of (seed, purpose, epoch, index): no state to hand between ranks
/// or to save in a checkpoint. Counter-based generator Philox4x32-10 of Salmon et al., "Parallel random numbers: as
/// easy as 1, 2, 3" (SC 2011). `epoch` is below 2^24.
class RandomStream {
  public:
    RandomStream(std::uint64_t seed, Purpose purpose, std::uint32_t epoch, std::uint64_t index) noexcept;

    /// Uniform over all 32-bit numbers.
    std::uint32_t next() noexcept;

    /// Uniform in [0, 1), a multiple of 2^-24: the same value in float and double.
    double uniform() noexcept { return (next() >> 8) * 0x1p-24; }

    /// Uniform in [0, bound), without bias (Lemire, "Fast random integer generation in an interval", 2019).
    std::uint32_t below(std::uint32_t bound) noexcept;

  private:
    std::array<std::uint32_t, 2> key_;
    std::array<std::uint32_t, 4> counter_;
    std::array<std::uint32_t, 4> block_{};
    int left_ = 0;
};

/// All numbers of the stream's first words.size() / 4 blocks, for many at once: word w of block b, which the stream has
/// at place 4b + w, comes to words[w · blocks + b]. words.size() is a multiple of 4.
void fill_random(std::uint64_t seed, Purpose purpose, std::uint32_t epoch, std::uint64_t index,
                 std::span<std::uint32_t> words) noexcept;

/// One block of Philox4x32-10.
[[nodiscard]] std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                      std::array<std::uint32_t, 2> key) noexcept;

} // namespace dtrain::core
