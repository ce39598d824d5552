#include "dtrain/data/batch.hpp"

#include "support/idx_files.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dtrain::data {
namespace {

TEST(BatchLoader, FetchesWhatTheSamplerSelects) {
    const support::TemporaryFolder folder;
    const support::Digits digits = support::make_digits(23, 1);
    support::write_file(folder / "images", digits.images_file());
    support::write_file(folder / "labels", digits.labels_file());
    const Split split = load_split(folder / "images", folder / "labels", 4);

    Sampler sampler(23, 3, 7, 1, {0, 3});
    sampler.start_epoch(2);
    BatchLoader loader(split, static_cast<std::size_t>(sampler.max_local_rows()), 4, 3);
    std::vector<std::uint32_t> rows(static_cast<std::size_t>(sampler.max_local_rows()));
    std::vector<std::size_t> offsets(4);
    for (std::int64_t step = 0; step < sampler.steps_per_epoch(); ++step) {
        const Batch batch = loader.select(sampler, step);
        const std::size_t count = sampler.select(step, rows, offsets);
        ASSERT_EQ(batch.labels.size(), count);
        EXPECT_EQ(std::vector<std::size_t>(batch.offsets.begin(), batch.offsets.end()), offsets);
        for (std::size_t n = 0; n < count; ++n) {
            EXPECT_EQ(batch.labels[n], static_cast<std::uint8_t>(digits.labels[rows[n]]));
            const core::MatrixView<const float> x =
                loader.fetch(batch, n / 4 * 4, std::min<std::size_t>(4, count - n / 4 * 4));
            ASSERT_EQ(x.cols, 64U);
            for (std::size_t i = 0; i < 64; ++i) {
                const auto pixel = static_cast<std::uint8_t>(digits.pixels[rows[n] * 64 + i]);
                EXPECT_EQ(x.row(n % 4)[i], static_cast<float>(pixel) / 255.0F);
            }
        }
    }
}

// By their numbers in the complete training set. These samples have the numbers 100 to 122.
TEST(BatchLoader, DistortsByEpochAndSampleNumber) {
    const support::TemporaryFolder folder;
    const support::Digits digits = support::make_digits(23, 1);
    support::write_file(folder / "images", digits.images_file());
    support::write_file(folder / "labels", digits.labels_file());
    Split split = load_split(folder / "images", folder / "labels", 4);
    split.local = {100, 123};

    const Augmentation amount{2, 20, 0.2, 0.2, 10, 3};
    Augmenter expected(amount, 8, 8, 6);
    Sampler sampler(23, 1, 10, 6, {0, 1});
    BatchLoader loader(split, 10, 10, 1, Augmenter(amount, 8, 8, 6));
    std::vector<std::uint32_t> rows(10);
    std::vector<std::size_t> offsets(2);
    std::vector<float> image(64);
    for (const std::int64_t epoch : {0, 5}) {
        sampler.start_epoch(epoch);
        for (std::int64_t step = 0; step < sampler.steps_per_epoch(); ++step) {
            const Batch batch = loader.select(sampler, step);
            const std::size_t count = sampler.select(step, rows, offsets);
            const core::MatrixView<const float> x = loader.fetch(batch, 0, count);
            for (std::size_t n = 0; n < count; ++n) {
                split.fetch(rows[n], image);
                expected.augment(image, epoch, 100 + rows[n]);
                EXPECT_TRUE(std::ranges::equal(x.row(n), image)) << "epoch " << epoch << ", row " << n;
            }
        }
    }
}

} // namespace
} // namespace dtrain::data
