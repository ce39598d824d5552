#include "dtrain/kernels/random.hpp"

#include "dtrain/kernels/instruction_set.hpp"

namespace dtrain::kernels {

void fill_random(std::uint64_t seed, core::Purpose purpose, std::uint32_t epoch, std::uint64_t index,
                 std::span<std::uint32_t> words) {
    table().data.fill_random(core::start_of_stream(seed, purpose, epoch, index), words.data(), words.size() / 4);
}

} // namespace dtrain::kernels
