#include "dtrain/core/random.hpp"

namespace dtrain::core {

StreamStart start_of_stream(std::uint64_t seed, Purpose purpose, std::uint32_t epoch, std::uint64_t index) noexcept {
    return {static_cast<std::uint32_t>(seed),
            static_cast<std::uint32_t>(seed >> 32),
            {0, static_cast<std::uint32_t>(purpose) << 24 | epoch, static_cast<std::uint32_t>(index),
             static_cast<std::uint32_t>(index >> 32)}};
}

RandomStream::RandomStream(std::uint64_t seed, Purpose purpose, std::uint32_t epoch, std::uint64_t index) noexcept
    : position_(start_of_stream(seed, purpose, epoch, index)) {}

std::uint32_t RandomStream::next() noexcept {
    if (left_ == 0) {
        const PhiloxBlock block = philox(position_.counter, position_.key0, position_.key1);
        block_ = {block.word0, block.word1, block.word2, block.word3};
        ++position_.counter.word0;
        left_ = block_.size();
    }
    return block_[block_.size() - left_--];
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
