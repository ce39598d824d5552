#include "dtrain/nn/interleave.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <limits>
#include <vector>

namespace dtrain::nn {
namespace {

template <class Real>
class Interleave : public ::testing::Test {
  protected:
    /// Shards whose last groups are full, empty or padded; 1 + 0 + 2 + 1 + 2 groups.
    const std::vector<std::size_t> shards{0, 3, 3, 12, 20, 29};
    const std::vector<std::size_t> groups{0, 1, 1, 3, 4, 6};

    /// The sample at `lane`, counted over all blocks, or none.
    [[nodiscard]] std::size_t sample_at(std::size_t lane) const {
        const std::size_t group = lane / group_rows;
        for (std::size_t s = 0; s + 1 < groups.size(); ++s) {
            if (group >= groups[s] && group < groups[s + 1]) {
                const std::size_t sample = shards[s] + (group - groups[s]) * group_rows + lane % group_rows;
                return sample < shards[s + 1] ? sample : none;
            }
        }
        return none;
    }
    static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
};
using Reals = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Interleave, Reals);

TYPED_TEST(Interleave, FindsGroups) {
    std::vector<std::size_t> found(this->shards.size(), 99);
    find_groups(this->shards, found);
    EXPECT_EQ(found, this->groups);
}

TYPED_TEST(Interleave, StoresAFeatureOfAllSamplesSideBySideAndPadsGroupsWithZeros) {
    constexpr std::size_t lanes = block_lanes<TypeParam>;
    const std::size_t samples = this->shards.back();
    for (const std::size_t width : {std::size_t{1}, lanes - 1, lanes, 2 * lanes + 3}) {
        std::vector<TypeParam> rows(samples * width);
        for (std::size_t i = 0; i < rows.size(); ++i) {
            rows[i] = static_cast<TypeParam>(i + 1);
        }
        const std::size_t count = Extent{samples, 5, this->groups.back()}.template blocks<TypeParam>();
        std::vector<TypeParam> blocks(count * width * lanes, TypeParam{-1});
        interleave<TypeParam>({rows.data(), samples, width}, this->shards, {blocks.data(), count, width * lanes});
        for (std::size_t b = 0; b < count; ++b) {
            for (std::size_t i = 0; i < width; ++i) {
                for (std::size_t lane = 0; lane < lanes; ++lane) {
                    const std::size_t sample = this->sample_at(b * lanes + lane);
                    EXPECT_EQ(blocks[(b * width + i) * lanes + lane],
                              sample == this->none ? TypeParam{0} : rows[sample * width + i])
                        << "block " << b << ", feature " << i << ", lane " << lane << ", width " << width;
                }
            }
        }

        // Values in lanes without a sample are discarded.
        for (std::size_t lane = 0; lane < count * lanes; ++lane) {
            for (std::size_t i = 0; this->sample_at(lane) == this->none && i < width; ++i) {
                blocks[(lane / lanes * width + i) * lanes + lane % lanes] = TypeParam{-7};
            }
        }
        std::vector<TypeParam> back(rows.size() + 1, TypeParam{-1});
        deinterleave<TypeParam>({blocks.data(), count, width * lanes}, this->shards, {back.data(), samples, width});
        EXPECT_EQ(back.back(), TypeParam{-1});
        back.pop_back();
        EXPECT_EQ(back, rows) << "width " << width;
    }
}

} // namespace
} // namespace dtrain::nn
