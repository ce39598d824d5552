#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

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

/// One block of Philox4x32-10: four words from a counter of four words and a key of two.
struct PhiloxBlock {
    std::uint32_t word0, word1, word2, word3;

    bool operator==(const PhiloxBlock&) const = default;
};
/// Always inlined, so that the compiler vectorises loops over blocks.
[[nodiscard, gnu::always_inline]] inline PhiloxBlock philox(PhiloxBlock counter, std::uint32_t key0,
                                                            std::uint32_t key1) noexcept {
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t product0 = std::uint64_t{0xD2511F53} * counter.word0;
        const std::uint64_t product1 = std::uint64_t{0xCD9E8D57} * counter.word2;
        counter = {
            static_cast<std::uint32_t>(product1 >> 32) ^ counter.word1 ^ key0, static_cast<std::uint32_t>(product1),
            static_cast<std::uint32_t>(product0 >> 32) ^ counter.word3 ^ key1, static_cast<std::uint32_t>(product0)};
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
    return counter;
}

/// The key of a stream and the counter of its first block. The counter of block b has b as its word0.
struct StreamStart {
    std::uint32_t key0, key1;
    PhiloxBlock counter;
};
[[nodiscard]] StreamStart start_of_stream(std::uint64_t seed, Purpose purpose, std::uint32_t epoch,
                                          std::uint64_t index) noexcept;

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
    StreamStart position_;
    std::array<std::uint32_t, 4> block_{};
    std::size_t left_ = 0;
};

} // namespace dtrain::core
