#include "dtrain/core/random.hpp"
#include "dtrain/core/shard_tree.hpp"
#include "dtrain/kernels/instruction_set.hpp"
#include "dtrain/nn/activation.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

// Every table of kernels gives the bits of the reference, for sizes with every remainder.

namespace dtrain::kernels {
namespace {

const Table& reference() {
    return tables()[0];
}

template <class Real>
std::vector<Real> random_values(std::size_t size, std::uint64_t index, double bound = 1) {
    core::RandomStream random(5, core::Purpose::initialisation, 0, index);
    std::vector<Real> values(size);
    for (Real& value : values) {
        value = static_cast<Real>(bound * (2 * random.uniform() - 1) + 1e-9 * random.uniform());
    }
    return values;
}

/// With values that a diverging training has.
template <class Real>
std::vector<Real> hostile_values(std::size_t size, std::uint64_t index) {
    std::vector<Real> values = random_values<Real>(size, index, 20);
    const std::array special{std::numeric_limits<Real>::infinity(), -std::numeric_limits<Real>::infinity(), Real{0},
                             Real{-0.0}, std::numeric_limits<Real>::max()};
    for (std::size_t i = 0; i < special.size() && 7 * i + 3 < size; ++i) {
        values[7 * i + 3] = special[i];
    }
    return values;
}

template <class Real>
void expect_same_bits(const std::vector<Real>& actual, const std::vector<Real>& expected, const std::string& what) {
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
        if (actual[i] != actual[i] && expected[i] != expected[i]) {
            continue; // the sign and payload of a NaN are not defined
        }
        ASSERT_EQ(std::memcmp(&actual[i], &expected[i], sizeof(Real)), 0)
            << what << ": element " << i << " is " << actual[i] << ", expected " << expected[i];
    }
}

/// Runs each test for each table that is not the reference.
class Tables : public ::testing::TestWithParam<std::size_t> {
  protected:
    void SetUp() override {
        if (!is_supported(GetParam())) {
            GTEST_SKIP() << "this CPU does not support " << tables()[GetParam()].name;
        }
    }
    [[nodiscard]] const Table& tested() const { return tables()[GetParam()]; }

    /// Calls `run(kernels, values)` with the kernels of both tables, and compares the values.
    template <class Real>
    void compare(const std::vector<Real>& values, const std::string& what,
                 const std::function<void(const NetworkKernels<Real>&, std::vector<Real>&)>& run) const {
        std::vector<Real> actual = values;
        std::vector<Real> expected = values;
        run(tested().network<Real>(), actual);
        run(reference().network<Real>(), expected);
        expect_same_bits(actual, expected, what);
    }

    template <class Real>
    void compare_products() const {
        for (const std::size_t leaves : {1U, 2U, 5U, 8U}) {
            for (const auto& size :
                 {std::array{1U, 1U, 1U}, {7U, 33U, 20U}, {40U, 26U, 50U}, {29U, 64U, 64U}, {16U, 100U, 9000U}}) {
                const auto m = size[0], n = size[1], k = size[2]; // clang 14 captures no structured binding
                std::vector<std::size_t> offsets;
                for (std::size_t leaf = 0; leaf <= leaves; ++leaf) {
                    offsets.push_back(k * leaf / leaves);
                }
                const auto merges = core::merges_after_leaves({0, static_cast<std::int64_t>(leaves)});
                const auto a = random_values<Real>(m * k, 1);
                const auto b = random_values<Real>(k * n, 2);
                for (const int way : {0, 1, 2, 3, 4}) { // a and b stored transposed, or rows of a packed
                    compare<Real>(
                        random_values<Real>(m * n, 3), "product",
                        [&](const NetworkKernels<Real>& kernels, std::vector<Real>& c) {
                            const auto& products = kernels.products;
                            ProductJob<Real> job;
                            job.a = (way & 1) != 0 ? Elements<Real>{a.data(), 1, m} : Elements<Real>{a.data(), k, 1};
                            job.rows = m;
                            job.depth = k;
                            job.tile_rows = leaves == 1 ? products.tile_rows : products.tree_tile_rows;
                            job.b = (way & 2) != 0 ? Elements<Real>{b.data(), 1, k} : Elements<Real>{b.data(), n, 1};
                            job.offsets = offsets.data();
                            job.merges = merges.data();
                            job.leaves = leaves;
                            job.add = leaves == 1 && way == 1;
                            job.c = c.data();
                            job.c_stride = n;
                            std::vector<Real> packed(m * k);
                            if (way == 4) {
                                products.pack_rows(job, packed.data());
                                job.packed_a = packed.data();
                            }
                            std::vector<Real> panel(products.panel_bytes / sizeof(Real) + 16);
                            void* aligned = panel.data();
                            std::size_t room = panel.size() * sizeof(Real);
                            std::align(64, products.panel_bytes, aligned, room);
                            PrefetchQueue nothing;
                            for (std::size_t first = 0; first < n; first += products.panel_columns) {
                                products.multiply_panel(job, first,
                                                        std::min<std::size_t>(products.panel_columns, n - first),
                                                        static_cast<Real*>(aligned), nothing);
                            }
                        });
                }
            }
        }
    }

    template <class Real>
    void compare_maps() const {
        constexpr std::size_t lanes = block_lanes<Real>;
        struct Shape {
            Maps x;
            std::size_t channels, kernel, stride;
        };
        for (const Shape& shape : {Shape{{1, 5, 5}, 1, 1, 1}, Shape{{3, 9, 8}, 7, 3, 1}, Shape{{2, 12, 11}, 13, 5, 2},
                                   Shape{{1, 28, 28}, 6, 7, 1}}) {
            const Maps& x_maps = shape.x;
            const std::size_t channels = shape.channels;
            const std::size_t kernel = shape.kernel;
            const std::size_t stride = shape.stride;
            const Maps y_maps{channels, (x_maps.height - kernel) / stride + 1, (x_maps.width - kernel) / stride + 1};
            const auto all = [](auto* first, const Maps& maps) {
                return Pixels<std::remove_reference_t<decltype(*first)>>{first, maps.pixels() * lanes,
                                                                         maps.width * lanes, lanes};
            };
            const std::size_t weights = channels * x_maps.channels * kernel * kernel;
            const auto x = random_values<Real>(x_maps.size() * lanes, 1);
            const auto dy = random_values<Real>(y_maps.size() * lanes, 2);
            const auto weight = random_values<Real>(weights, 3);
            const auto bias = random_values<Real>(channels, 4);
            for (const Real* const with_bias : {bias.data(), static_cast<const Real*>(nullptr)}) {
                compare<Real>(std::vector<Real>(dy.size()), "convolution", [&](const auto& kernels, auto& y) {
                    kernels.maps.convolve({all(x.data(), x_maps), x_maps.channels, weight.data(), with_bias, kernel,
                                           kernel, stride, all(y.data(), y_maps), y_maps});
                });
            }
            compare<Real>(std::vector<Real>(weights * lanes), "weight gradients", [&](const auto& kernels, auto& sums) {
                kernels.maps.sum_weight_gradients({dy.data(), y_maps, x.data(), x_maps, kernel, stride, sums.data()});
            });
            compare<Real>(std::vector<Real>(channels * lanes), "bias gradients", [&](const auto& kernels, auto& sums) {
                kernels.maps.sum_bias_gradients(dy.data(), y_maps, sums.data());
            });
            constexpr std::size_t groups = lanes / group_rows;
            compare<Real>(std::vector<Real>(groups * y_maps.size()), "sums of lanes",
                          [&](const auto& kernels, auto& sums) {
                              std::array<Real*, groups> targets{};
                              for (std::size_t g = 0; g < groups; ++g) {
                                  targets[g] = sums.data() + g * y_maps.size();
                              }
                              kernels.maps.add_lanes(dy.data(), y_maps.size(), targets.data(), groups);
                          });
        }
    }

    template <class Real>
    void compare_pooling() const {
        constexpr std::size_t lanes = block_lanes<Real>;
        for (const std::size_t window : {1U, 2U, 3U}) {
            const Maps x_maps{3, 7, 6};
            const Pooling job{x_maps, window, {3, 7 / window, 6 / window}};
            auto x = hostile_values<Real>(x_maps.size() * lanes, 1);
            x[100] = std::numeric_limits<Real>::quiet_NaN();
            std::fill_n(x.begin() + 200, 100, Real{2}); // equal maxima
            const auto dy = random_values<Real>(job.y_maps.size() * lanes, 2);
            const std::vector<Real> nothing(dy.size());
            std::vector<Real> y = nothing;
            reference().network<Real>().maps.max_pool(job, x.data(), y.data());
            compare<Real>(nothing, "max pooling",
                          [&](const auto& kernels, auto& out) { kernels.maps.max_pool(job, x.data(), out.data()); });
            compare<Real>(nothing, "mean pooling",
                          [&](const auto& kernels, auto& out) { kernels.maps.mean_pool(job, x.data(), out.data()); });
            compare<Real>(x, "gradient of max pooling", [&](const auto& kernels, auto& dx) {
                kernels.maps.max_pool_backward(job, x.data(), y.data(), dy.data(), dx.data());
            });
            compare<Real>(x, "gradient of mean pooling", [&](const auto& kernels, auto& dx) {
                kernels.maps.mean_pool_backward(job, dy.data(), dx.data());
            });
        }
    }

    template <class Real>
    void compare_normalisation() const {
        constexpr std::size_t lanes = block_lanes<Real>;
        for (const Columns& all :
             {Columns{1, 0, 1, 8, 8}, Columns{7, 12 * lanes, 12, lanes, 8}, Columns{9, 5 * lanes, 5, lanes, 3},
              Columns{6, 8, 11, 53, 8}, Columns{1, 0, 11, 53, 5}}) {
            const std::size_t size =
                (all.columns - 1) * all.column_stride + (all.rows - 1) * all.row_stride + all.lanes;
            const std::size_t slots = all.columns * group_rows;
            const auto x = hostile_values<Real>(size, 1);
            const auto dz = random_values<Real>(size, 2);
            const auto centre = random_values<Real>(slots, 3);
            const auto scale = random_values<Real>(slots, 4);
            const auto shift = random_values<Real>(slots, 5);
            const auto slope = random_values<Real>(slots, 6);
            const auto compare_sums = [&](const std::string& what, auto&& add_up) {
                std::vector<double> actual = random_values<double>(2 * slots, 7);
                std::vector<double> expected = actual;
                add_up(tested().network<Real>().normalisation, actual.data());
                add_up(reference().network<Real>().normalisation, expected.data());
                expect_same_bits(actual, expected, what);
            };
            compare_sums("sums of values",
                         [&](const auto& kernels, double* sums) { kernels.add_values(all, x.data(), sums); });
            compare_sums("sums of squares", [&](const auto& kernels, double* sums) {
                kernels.add_squares(all, x.data(), centre.data(), sums);
            });
            compare_sums("sums of gradients", [&](const auto& kernels, double* sums) {
                kernels.add_gradients(all, x.data(), dz.data(), centre.data(), scale.data(), sums, sums + slots);
            });
            // The values around the columns stay.
            compare<Real>(dz, "normalised values", [&](const auto& kernels, auto& y) {
                kernels.normalisation.normalise(all, x.data(), centre.data(), scale.data(), shift.data(), y.data());
            });
            compare<Real>(dz, "gradients of normalised values", [&](const auto& kernels, auto& dx) {
                kernels.normalisation.normalise_backward(all, x.data(), dz.data(), centre.data(), scale.data(),
                                                         shift.data(), slope.data(), dx.data());
            });
        }
    }

    template <class Real>
    void compare_rearrangement() const {
        constexpr std::size_t lanes = block_lanes<Real>;
        for (std::size_t size = 1; size < 40; ++size) {
            const auto values = random_values<Real>(size * lanes, size);
            for (const std::size_t empty : {lanes, std::size_t{0}, lanes - 1}) {
                compare<Real>(values, "interleave", [&](const auto& kernels, auto& block) {
                    std::array<const Real*, lanes> rows{};
                    for (std::size_t l = 0; l < lanes; ++l) {
                        rows[l] = l == empty ? nullptr : values.data() + l * size;
                    }
                    kernels.maps.interleave(rows.data(), size, block.data());
                });
                compare<Real>(values, "deinterleave", [&](const auto& kernels, auto& rows) {
                    std::array<Real*, lanes> targets{};
                    for (std::size_t l = 0; l < lanes; ++l) {
                        targets[l] = l == empty ? nullptr : rows.data() + l * size;
                    }
                    kernels.maps.deinterleave(values.data(), size, targets.data());
                });
            }
        }
    }

    template <class Real>
    void compare_elements() const {
        for (std::size_t size = 1; size < 70; ++size) {
            const auto values = hostile_values<Real>(size, 1);
            const auto others = hostile_values<Real>(size, 2);
            for (const std::string& name : nn::activation_names()) {
                const Activation f = *nn::parse_activation(name);
                compare<Real>(values, "activation",
                              [&](const auto& kernels, auto& z) { kernels.elements.activate(f, z.data(), size); });
                compare<Real>(values, "derivative", [&](const auto& kernels, auto& gradient) {
                    kernels.elements.multiply_by_derivative(f, others.data(), gradient.data(), size);
                });
            }
            compare<Real>(values, "exponentials", [&](const auto& kernels, auto& to) {
                kernels.elements.exponentials(others.data(), Real{3}, to.data(), size);
            });
            compare<Real>(values, "sum", [&](const auto& kernels, auto& sum) {
                kernels.elements.add(sum.data(), others.data(), sum.data(), size);
            });
        }
    }

    template <class Real>
    void compare_lstm() const {
        for (const std::size_t size : {1U, 5U, 16U, 31U, 64U}) {
            const auto before = random_values<Real>(size, 1);
            const auto dh = random_values<Real>(size, 2);
            for (const Real* const c_before : {before.data(), static_cast<const Real*>(nullptr)}) {
                // gates, c, tanh c, and h or dc
                compare<Real>(random_values<Real>(7 * size, 3, 4), "LSTM", [&](const auto& kernels, auto& v) {
                    Real* const p = v.data();
                    kernels.elements.lstm_forward({size, p, c_before, p + 4 * size, p + 5 * size}, p + 6 * size);
                    kernels.elements.lstm_backward({size, p, c_before, p + 4 * size, p + 5 * size}, dh.data(),
                                                   p + 6 * size);
                });
            }
        }
    }
};

TEST_P(Tables, MultiplyAsTheReference) {
    compare_products<float>();
    compare_products<double>();
}
TEST_P(Tables, ConvolveAsTheReference) {
    compare_maps<float>();
    compare_maps<double>();
}
TEST_P(Tables, PoolAsTheReference) {
    compare_pooling<float>();
    compare_pooling<double>();
}
TEST_P(Tables, NormaliseAsTheReference) {
    compare_normalisation<float>();
    compare_normalisation<double>();
}
TEST_P(Tables, RearrangeAsTheReference) {
    compare_rearrangement<float>();
    compare_rearrangement<double>();
}
TEST_P(Tables, ComputeElementsAsTheReference) {
    compare_elements<float>();
    compare_elements<double>();
}
TEST_P(Tables, ComputeLstmCellsAsTheReference) {
    compare_lstm<float>();
    compare_lstm<double>();
}

TEST_P(Tables, UpdateAsTheReference) {
    using Rule = bool (*UpdateKernels::*)(const Update&) noexcept;
    for (const Rule rule : {&UpdateKernels::sgd, &UpdateKernels::momentum, &UpdateKernels::nesterov,
                            &UpdateKernels::adam, &UpdateKernels::lars}) {
        for (std::size_t size = 1; size < 70; ++size) {
            for (const bool diverged : {false, true}) {
                auto gradient = random_values<float>(size, 1, 100);
                if (diverged) {
                    gradient[size / 2] = std::numeric_limits<float>::infinity();
                }
                auto square = random_values<float>(size, 4);
                std::ranges::transform(square, square.begin(), [](float value) { return value * value; });
                const auto run = [&](const Table& table, std::vector<float>& p, std::vector<float>& first,
                                     std::vector<float>& second) {
                    return (table.updates.*rule)({p.data(),
                                                  gradient.data(),
                                                  size,
                                                  {first.data(), second.data()},
                                                  0.01F,
                                                  0.001F,
                                                  0.1F,
                                                  0.9F,
                                                  0.999F,
                                                  0.1F,
                                                  0.001F,
                                                  1.3F,
                                                  0.99F});
                };
                auto p = random_values<float>(size, 2);
                auto first = random_values<float>(size, 3);
                auto second = square;
                auto expected_p = p;
                auto expected_first = first;
                auto expected_second = second;
                EXPECT_EQ(run(reference(), expected_p, expected_first, expected_second), !diverged);
                EXPECT_EQ(run(tested(), p, first, second), !diverged);
                expect_same_bits(p, expected_p, "parameters");
                expect_same_bits(first, expected_first, "first state");
                expect_same_bits(second, expected_second, "second state");
            }
        }
    }
    for (std::size_t size = 0; size < 200; size += 16) {
        const auto values = hostile_values<float>(size, 5);
        EXPECT_TRUE(tested().updates.sum_squares(values.data(), size, 0.3F) ==
                    reference().updates.sum_squares(values.data(), size, 0.3F));
    }
}

TEST_P(Tables, PrepareDataAsTheReference) {
    std::array<std::uint8_t, 256> bytes;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<std::uint8_t>(i);
    }
    for (std::size_t size = 0; size <= bytes.size(); ++size) {
        std::vector<float> actual(size), expected(size);
        tested().data.to_unit_interval(bytes.data() + bytes.size() - size, actual.data(), size);
        reference().data.to_unit_interval(bytes.data() + bytes.size() - size, expected.data(), size);
        expect_same_bits(actual, expected, "bytes");
    }
    for (const std::size_t count : {1U, 7U, 25U}) {
        constexpr std::size_t stride = 64;
        const auto weights = random_values<float>(2 * count, 1);
        const auto rows = random_values<float>(2 * count * stride, 2);
        const auto run = [&](const Table& table) {
            std::vector<float> out(2 * image_tile);
            table.data.add_rows(count, stride, {weights.data(), rows.data(), out.data()},
                                {weights.data() + count, rows.data() + count * stride, out.data() + image_tile});
            return out;
        };
        expect_same_bits(run(tested()), run(reference()), "weighted rows");
    }
    for (const std::size_t side : {3U, 8U, 28U}) {
        const std::size_t size = side * side;
        const std::size_t room = (size + image_tile - 1) / image_tile * image_tile;
        const auto framed = random_values<float>((side + 3) * (side + 3), 3);
        const auto place_x = random_values<float>(room, 4, static_cast<double>(side));
        const auto place_y = random_values<float>(room, 5, static_cast<double>(side));
        const auto away = random_values<float>(room, 6, 2);
        const auto run = [&](const Table& table) {
            std::vector<float> image(size);
            const auto end = static_cast<float>(side + 1);
            table.data.warp({framed.data(), static_cast<std::int32_t>(side + 3), place_x.data(), place_y.data(),
                             away.data(), away.data(), 0.9F, 0.1F, -0.1F, 1.1F, end / 2, end / 2, end, end,
                             image.data(), size});
            return image;
        };
        expect_same_bits(run(tested()), run(reference()), "transformed image");
    }
}

TEST_P(Tables, CompressAsTheReference) {
    for (std::size_t size = 0; size < 130; ++size) {
        const auto left = hostile_values<float>(size, 1);
        const auto right = hostile_values<float>(size, 2);
        const auto run = [&](const CompressionKernels& kernels) {
            std::vector<float> values = left;
            values.insert(values.end(), right.begin(), right.end());
            kernels.add(left.data(), right.data(), values.data(), size); // the first half
            kernels.round(values.data() + size, size);
            return values;
        };
        const auto rounded = run(reference().compression);
        expect_same_bits(run(tested().compression), rounded, "rounded");

        const auto through_words = [&](const CompressionKernels& packing, const CompressionKernels& unpacking) {
            std::vector<std::uint16_t> words(rounded.size());
            std::vector<float> values(rounded.size());
            packing.pack(rounded.data(), words.data(), words.size());
            unpacking.unpack(words.data(), values.data(), values.size());
            return values;
        };
        expect_same_bits(through_words(tested().compression, reference().compression), rounded, "packed");
        expect_same_bits(through_words(reference().compression, tested().compression), rounded, "unpacked");
    }
}

std::string name_of(const ::testing::TestParamInfo<std::size_t>& index) {
    std::string name = tables()[index.param].name;
    std::ranges::replace_if(
        name, [](char c) { return c == '-' || c == '+'; }, '_');
    return name;
}
INSTANTIATE_TEST_SUITE_P(All, Tables, ::testing::Range(std::size_t{1}, tables().size()), name_of);

// Number 4b + w of a random stream is word w of its block b.
TEST(FillRandom, GivesTheNumbersOfTheStream) {
    for (std::size_t index = 0; index < tables().size(); ++index) {
        if (!is_supported(index)) {
            continue;
        }
        for (std::size_t blocks = 0; blocks < 70; ++blocks) { // with every remainder to whole vectors
            std::vector<std::uint32_t> words(4 * blocks);
            tables()[index].data.fill_random(
                core::start_of_stream(0x123456789, core::Purpose::displacement, 7, 0x9876543210), words.data(), blocks);
            core::RandomStream stream(0x123456789, core::Purpose::displacement, 7, 0x9876543210);
            for (std::size_t b = 0; b < blocks; ++b) {
                for (std::size_t w = 0; w < 4; ++w) {
                    ASSERT_EQ(words[w * blocks + b], stream.next())
                        << tables()[index].name << ", block " << b << " of " << blocks;
                }
            }
        }
    }
}

} // namespace
} // namespace dtrain::kernels
