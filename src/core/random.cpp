#include "dtrain/core/random.hpp"

#include <cstddef>

namespace dtrain::core {
namespace {

/// One block of Philox4x32-10. The rounds are unrolled so that the compiler vectorises loops over blocks.
[[gnu::always_inline]] inline std::array<std::uint32_t, 4> block_of(std::array<std::uint32_t, 4> counter,
                                                                    std::array<std::uint32_t, 2> key) noexcept {
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t product0 = std::uint64_t{0xD2511F53} * counter[0];
        const std::uint64_t product1 = std::uint64_t{0xCD9E8D57} * counter[2];
        counter = {
            static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(product1),
            static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(product0)};
        key[0] += 0x9E3779B9;
        key[1] += 0xBB67AE85;
    }
    return counter;
}

std::array<std::uint32_t, 2> key_of(std::uint64_t seed) noexcept {
    return {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
}

std::array<std::uint32_t, 4> first_counter(Purpose purpose, std::uint32_t epoch, std::uint64_t index) noexcept {
    return {0, static_cast<std::uint32_t>(purpose) << 24 | epoch, static_cast<std::uint32_t>(index),
            static_cast<std::uint32_t>(index >> 32)};
}

} // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) noexcept {
    return block_of(counter, key);
}

void fill_random(std::uint64_t seed, Purpose purpose, std::uint32_t epoch, std::uint64_t index,
                 std::span<std::uint32_t> words) noexcept {
    const auto key = key_of(seed);
    const auto counter = first_counter(purpose, epoch, index);
    const std::size_t blocks = words.size() / 4;
    std::uint32_t* const word0 = words.data();
    std::uint32_t* const word1 = word0 + blocks;
    std::uint32_t* const word2 = word1 + blocks;
    std::uint32_t* const word3 = word2 + blocks;
#pragma GCC ivdep // the four parts do not overlap
    for (std::size_t b = 0; b < blocks; ++b) {
        const auto block = block_of({static_cast<std::uint32_t>(b), counter[1], counter[2], counter[3]}, key);
        word0[b] = block[0];
        word1[b] = block[1];
        word2[b] = block[2];
        word3[b] = block[3];
    }
}

RandomStream::RandomStream(std::uint64_t seed, Purpose purpose, std::uint32_t epoch, std::uint64_t index) noexcept
    : key_(key_of(seed)), counter_(first_counter(purpose, epoch, index)) {}

std::uint32_t RandomStream::next() noexcept {
    if (left_ == 0) {
        block_ = philox4x32(counter_, key_);
        ++counter_[0];
        left_ = 4;
    }
    return block_[static_cast<std::size_t>(4 - left_--)];
}

std::uint32_t RandomStream::below(std::uint32_t bound) noexcept {
    std::uint64_t product = std::uint64_t{next()} * bound;
    if (static_cast<std::uint32_t>(product) < bound) {
        const std::uint32_t threshold = -bound % bound;
        while (static_cast<std::uint32_t>(product) < threshold) {
            product = std::uint64_t{next()} * bound;
        }
    }
    return static_cast<std::uint32_t>(product >> 32);
}

} // namespace dtrain::core
