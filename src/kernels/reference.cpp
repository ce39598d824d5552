// The table of kernels as plain loops: the algorithm that one can read, and what tests compare the fast tables with. It
// gives the same bits, one fused multiply-add at a time.

#include "reference.hpp"

#include "dtrain/core/random.hpp"
#include "dtrain/core/shard_tree.hpp"
#include "dtrain/kernels/table.hpp"

#include "simd/exponential.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

namespace dtrain::kernels::reference {
namespace {

// --- products ---

template <class Real>
void pack_rows(const ProductJob<Real>&, Real*) noexcept {} // rows are read in place

/// start + Σ_k a(i, k) b(k, j) for the inner indices of a leaf, as one chain of fused multiply-adds.
template <class Real>
Real chain(const ProductJob<Real>& job, std::size_t i, std::size_t j, std::size_t leaf, Real start) noexcept {
    for (std::size_t k = job.offsets[leaf]; k < job.offsets[leaf + 1]; ++k) {
        start = std::fma(job.a.data[i * job.a.row_stride + k * job.a.col_stride],
                         job.b.data[k * job.b.row_stride + j * job.b.col_stride], start);
    }
    return start;
}

template <class Real>
Real along_tree(const ProductJob<Real>& job, std::size_t i, std::size_t j) noexcept {
    std::array<Real, core::max_tree_depth + 1> partial{};
    std::size_t count = 0;
    for (std::size_t leaf = 0; leaf < job.leaves; ++leaf) {
        partial[count++] = chain(job, i, j, leaf, Real{0});
        for (std::uint8_t merges = job.merges[leaf]; merges > 0; --merges) {
            --count;
            partial[count - 1] += partial[count];
        }
    }
    return partial[0];
}

template <class Real>
void multiply_panel(const ProductJob<Real>& job, std::size_t first, std::size_t width, Real*,
                    PrefetchQueue& upcoming) noexcept {
    for (std::size_t i = 0; i < job.rows; ++i) {
        upcoming.prefetch_some();
        for (std::size_t j = first; j < first + width; ++j) {
            Real& c = job.c[i * job.c_stride + j];
            c = job.leaves == 1 ? chain(job, i, j, 0, job.add ? c : Real{0}) : along_tree(job, i, j);
        }
    }
}

// --- feature maps: `l` is a sample's lane in the block ---

template <class Real>
constexpr std::size_t lanes = block_lanes<Real>;

template <class Real>
void convolve(const Convolution<Real>& job) noexcept {
    for (std::size_t m = 0; m < job.y_maps.channels; ++m) {
        for (std::size_t i = 0; i < job.y_maps.height; ++i) {
            for (std::size_t j = 0; j < job.y_maps.width; ++j) {
                for (std::size_t l = 0; l < lanes<Real>; ++l) {
                    Real sum = job.bias == nullptr ? Real{0} : job.bias[m];
                    const Real* weight = job.weight + m * job.channels * job.kernel_rows * job.kernel_cols;
                    for (std::size_t c = 0; c < job.channels; ++c) {
                        for (std::size_t u = 0; u < job.kernel_rows; ++u) {
                            for (std::size_t v = 0; v < job.kernel_cols; ++v) {
                                const Real* const x = job.x.at(i * job.stride + u, j * job.stride + v);
                                sum = std::fma(*weight++, x[c * job.x.map_stride + l], sum);
                            }
                        }
                    }
                    job.y.at(i, j)[m * job.y.map_stride + l] = sum;
                }
            }
        }
    }
}

template <class Real>
void sum_weight_gradients(const WeightGradients<Real>& job) noexcept {
    Real* sums = job.sums;
    for (std::size_t m = 0; m < job.dy_maps.channels; ++m) {
        for (std::size_t c = 0; c < job.x_maps.channels; ++c) {
            for (std::size_t u = 0; u < job.kernel; ++u) {
                for (std::size_t v = 0; v < job.kernel; ++v) {
                    for (std::size_t l = 0; l < lanes<Real>; ++l) {
                        Real sum = 0;
                        for (std::size_t i = 0; i < job.dy_maps.height; ++i) {
                            for (std::size_t j = 0; j < job.dy_maps.width; ++j) {
                                const std::size_t dy = (m * job.dy_maps.height + i) * job.dy_maps.width + j;
                                const std::size_t x = (c * job.x_maps.height + i * job.stride + u) * job.x_maps.width +
                                                      j * job.stride + v;
                                sum = std::fma(job.dy[dy * lanes<Real> + l], job.x[x * lanes<Real> + l], sum);
                            }
                        }
                        *sums++ = sum;
                    }
                }
            }
        }
    }
}

template <class Real>
void sum_bias_gradients(const Real* dy, const Maps& maps, Real* sums) noexcept {
    for (std::size_t m = 0; m < maps.channels; ++m) {
        for (std::size_t l = 0; l < lanes<Real>; ++l) {
            Real sum = 0;
            for (std::size_t i = 0; i < maps.pixels(); ++i) {
                sum += dy[(m * maps.pixels() + i) * lanes<Real> + l];
            }
            sums[m * lanes<Real> + l] = sum;
        }
    }
}

template <class Real>
void add_lanes(const Real* sums, std::size_t count, Real* const* groups, std::size_t group_count) noexcept {
    for (std::size_t g = 0; g < group_count; ++g) {
        for (std::size_t i = 0; i < count; ++i) {
            const Real* const l = sums + i * lanes<Real> + g * group_rows;
            groups[g][i] = ((l[0] + l[1]) + (l[2] + l[3])) + ((l[4] + l[5]) + (l[6] + l[7]));
        }
    }
}

/// Calls action(window's first value in x, its value in y) for every window and lane.
template <class Real, class Action>
void for_each_window(const Pooling& job, Action&& action) {
    for (std::size_t c = 0; c < job.y_maps.channels; ++c) {
        for (std::size_t i = 0; i < job.y_maps.height; ++i) {
            for (std::size_t j = 0; j < job.y_maps.width; ++j) {
                const std::size_t x = (c * job.x_maps.height + i * job.window) * job.x_maps.width + j * job.window;
                const std::size_t y = (c * job.y_maps.height + i) * job.y_maps.width + j;
                for (std::size_t l = 0; l < lanes<Real>; ++l) {
                    action(x * lanes<Real> + l, y * lanes<Real> + l);
                }
            }
        }
    }
}
/// Calls action(offset) for every pixel of a window.
template <class Real, class Action>
void for_each_pixel(const Pooling& job, Action&& action) {
    for (std::size_t u = 0; u < job.window; ++u) {
        for (std::size_t v = 0; v < job.window; ++v) {
            action((u * job.x_maps.width + v) * lanes<Real>);
        }
    }
}

template <class Real>
void max_pool(const Pooling& job, const Real* x, Real* y) noexcept {
    for_each_window<Real>(job, [&](std::size_t from, std::size_t to) {
        y[to] = x[from];
        for_each_pixel<Real>(job, [&](std::size_t pixel) {
            const Real value = x[from + pixel];
            if (value > y[to] || std::isnan(value)) {
                y[to] = value;
            }
        });
    });
}

template <class Real>
void max_pool_backward(const Pooling& job, const Real* x, const Real* y, const Real* dy, Real* dx) noexcept {
    for_each_window<Real>(job, [&](std::size_t from, std::size_t to) {
        bool found = false;
        for_each_pixel<Real>(job, [&](std::size_t pixel) {
            const bool here = !found && x[from + pixel] == y[to];
            dx[from + pixel] = here ? dy[to] : Real{0};
            found = found || here;
        });
    });
}

template <class Real>
void mean_pool(const Pooling& job, const Real* x, Real* y) noexcept {
    for_each_window<Real>(job, [&](std::size_t from, std::size_t to) {
        Real sum = 0;
        for_each_pixel<Real>(job, [&](std::size_t pixel) { sum += x[from + pixel]; });
        y[to] = sum * (Real{1} / static_cast<Real>(job.window * job.window));
    });
}

template <class Real>
void mean_pool_backward(const Pooling& job, const Real* dy, Real* dx) noexcept {
    for_each_window<Real>(job, [&](std::size_t from, std::size_t to) {
        for_each_pixel<Real>(job, [&](std::size_t pixel) {
            dx[from + pixel] = dy[to] * (Real{1} / static_cast<Real>(job.window * job.window));
        });
    });
}

template <class Real>
void interleave(const Real* const* rows, std::size_t size, Real* block) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        for (std::size_t l = 0; l < lanes<Real>; ++l) {
            block[i * lanes<Real> + l] = rows[l] == nullptr ? Real{0} : rows[l][i];
        }
    }
}

template <class Real>
void deinterleave(const Real* block, std::size_t size, Real* const* rows) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        for (std::size_t l = 0; l < lanes<Real>; ++l) {
            if (rows[l] != nullptr) {
                rows[l][i] = block[i * lanes<Real> + l];
            }
        }
    }
}

// --- elements ---

template <class Real>
Real activation_of(Activation activation, Real z) noexcept {
    switch (activation) {
    case Activation::linear:
        break;
    case Activation::sigmoid:
        return 1 / (1 + exponential(-z));
    case Activation::relu:
        return z < 0 ? Real{0} : z;
    case Activation::tanh:
        return 1 - 2 / (1 + exponential(2 * z));
    }
    return z;
}

/// The derivative of y = f(z), as a function of y.
template <class Real>
Real derivative_of(Activation activation, Real y) noexcept {
    switch (activation) {
    case Activation::linear:
        break;
    case Activation::sigmoid:
        return y * (1 - y);
    case Activation::relu:
        return y > 0 ? Real{1} : Real{0};
    case Activation::tanh:
        return std::fma(-y, y, Real{1});
    }
    return 1;
}

template <class Real>
void activate(Activation activation, Real* values, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        values[i] = activation_of(activation, values[i]);
    }
}

template <class Real>
void multiply_by_derivative(Activation activation, const Real* y, Real* gradient, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        gradient[i] = activation == Activation::relu && !(y[i] > 0) ? Real{0} // also if the gradient is not finite
                                                                    : gradient[i] * derivative_of(activation, y[i]);
    }
}

template <class Real>
void exponentials(const Real* from, Real shift, Real* to, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        to[i] = exponential(from[i] - shift);
    }
}

template <class Real>
void add(const Real* left, const Real* right, Real* sum, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        sum[i] = left[i] + right[i];
    }
}

template <class Real>
void lstm_forward(const LstmCell<Real>& cell, Real* h) noexcept {
    for (std::size_t j = 0; j < cell.size; ++j) {
        Real& i = cell.gates[j];
        Real& f = cell.gates[cell.size + j];
        Real& g = cell.gates[2 * cell.size + j];
        Real& o = cell.gates[3 * cell.size + j];
        i = activation_of(Activation::sigmoid, i);
        f = activation_of(Activation::sigmoid, f);
        g = activation_of(Activation::tanh, g);
        o = activation_of(Activation::sigmoid, o);
        cell.c[j] = cell.before == nullptr ? i * g : std::fma(f, cell.before[j], i * g);
        cell.tanh_c[j] = activation_of(Activation::tanh, cell.c[j]);
        h[j] = o * cell.tanh_c[j];
    }
}

template <class Real>
void lstm_backward(const LstmCell<Real>& cell, const Real* dh, Real* dc) noexcept {
    for (std::size_t j = 0; j < cell.size; ++j) {
        Real& i = cell.gates[j];
        Real& f = cell.gates[cell.size + j];
        Real& g = cell.gates[2 * cell.size + j];
        Real& o = cell.gates[3 * cell.size + j];
        const Real tanh_c = cell.tanh_c[j];
        const Real dcell = std::fma(dh[j] * o, std::fma(-tanh_c, tanh_c, Real{1}), dc[j]);
        const Real dinput = dcell * g * i * (1 - i);
        const Real dforget = dcell * f * (1 - f);
        g = dcell * i * std::fma(-g, g, Real{1});
        o = dh[j] * tanh_c * o * (1 - o);
        dc[j] = dcell * f;
        i = dinput;
        f = cell.before == nullptr ? Real{0} : dforget * cell.before[j];
    }
}

// --- updates ---

template <class Rule>
bool update_each(const Update& job, Rule&& rule) noexcept {
    bool finite = true;
    for (std::size_t i = 0; i < job.size; ++i) {
        float& p = job.parameters[i];
        p = rule(i, p, std::fma(job.scale, job.sum[i], job.decay * p));
        finite = finite && std::isfinite(p);
    }
    return finite;
}

bool sgd(const Update& job) noexcept {
    return update_each(job, [&](std::size_t, float p, float g) { return std::fma(-job.rate, g, p); });
}
bool momentum(const Update& job) noexcept {
    return update_each(job, [&](std::size_t i, float p, float g) {
        float& v = job.state[0][i];
        v = std::fma(job.momentum, v, g);
        return std::fma(-job.rate, v, p);
    });
}
bool nesterov(const Update& job) noexcept {
    return update_each(job, [&](std::size_t i, float p, float g) {
        float& v = job.state[0][i];
        v = std::fma(job.momentum, v, g);
        return std::fma(-job.rate, std::fma(job.momentum, v, g), p);
    });
}
bool adam(const Update& job) noexcept {
    return update_each(job, [&](std::size_t i, float p, float g) {
        float& mean = job.state[0][i];
        float& square = job.state[1][i];
        mean = std::fma(job.momentum, mean, job.take_gradient * g);
        square = std::fma(job.keep_square, square, job.take_square * g * g);
        const float root = std::fma(std::sqrt(square), job.root_scale, 1e-8F);
        return std::fma(-job.rate, mean / root, job.shrink * p);
    });
}
bool lars(const Update& job) noexcept {
    return update_each(job, [&](std::size_t i, float p, float g) {
        float& v = job.state[0][i];
        v = std::fma(job.momentum, v, job.rate * g);
        return p - v;
    });
}

__int128 sum_squares(const float* values, std::size_t size, float scale) noexcept {
    __int128 total = 0;
    for (std::size_t begin = 0; begin < size; begin += 16) {
        std::array<double, 8> s{};
        for (std::size_t i = 0; i < s.size(); ++i) {
            const double left = scale * values[begin + i];
            const double right = scale * values[begin + 8 + i];
            s[i] = left * left + right * right;
        }
        const double units = (((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))) * 0x1p70;
        total += static_cast<__int128>(std::isless(units, 0x1p100) ? units : 0x1p100);
    }
    return total;
}

// --- data ---

void to_unit_interval(const std::uint8_t* bytes, float* out, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; ++i) {
        out[i] = static_cast<float>(bytes[i]) / 255.0F;
    }
}

void fill_random(const core::StreamStart& start, std::uint32_t* words, std::size_t blocks) noexcept {
    core::PhiloxBlock counter = start.counter;
    for (std::size_t b = 0; b < blocks; ++b, ++counter.word0) {
        const auto [word0, word1, word2, word3] = core::philox(counter, start.key0, start.key1);
        words[b] = word0;
        words[blocks + b] = word1;
        words[2 * blocks + b] = word2;
        words[3 * blocks + b] = word3;
    }
}

void add_rows(std::size_t count, std::size_t stride, const WeightedRows& a, const WeightedRows& b) noexcept {
    for (const WeightedRows* const sum : {&a, &b}) {
        for (std::size_t i = 0; i < image_tile; ++i) {
            float result = 0;
            for (std::size_t k = 0; k < count; ++k) {
                result = std::fma(sum->weights[k], sum->rows[k * stride + i], result);
            }
            sum->out[i] = result;
        }
    }
}

void warp(const Warp& job) noexcept {
    const auto mix = [](float share, float from, float to) { return std::fma(share, to, (1 - share) * from); };
    for (std::size_t i = 0; i < job.size; ++i) {
        const float x = std::fma(job.xx, job.place_x[i], std::fma(job.xy, job.place_y[i], job.start_x)) + job.away_x[i];
        const float y = std::fma(job.yx, job.place_x[i], std::fma(job.yy, job.place_y[i], job.start_y)) + job.away_y[i];
        const float inside_x = std::clamp(x, 0.0F, job.end_x);
        const float inside_y = std::clamp(y, 0.0F, job.end_y);
        const float left = std::floor(inside_x);
        const float top = std::floor(inside_y);
        const float* const upper = job.framed +
                                   static_cast<std::size_t>(top) * static_cast<std::size_t>(job.framed_stride) +
                                   static_cast<std::size_t>(left);
        const float* const lower = upper + job.framed_stride;
        const float right_share = inside_x - left;
        job.image[i] = mix(inside_y - top, mix(right_share, upper[0], upper[1]), mix(right_share, lower[0], lower[1]));
    }
}

template <class Real>
NetworkKernels<Real> network_kernels() noexcept {
    return {{16, 16, 16, 64, pack_rows<Real>, multiply_panel<Real>},
            {convolve<Real>, sum_weight_gradients<Real>, sum_bias_gradients<Real>, add_lanes<Real>, max_pool<Real>,
             max_pool_backward<Real>, mean_pool<Real>, mean_pool_backward<Real>, interleave<Real>, deinterleave<Real>},
            {activate<Real>, multiply_by_derivative<Real>, exponentials<Real>, add<Real>, lstm_forward<Real>,
             lstm_backward<Real>},
            normalisation_kernels<Real>()};
}

} // namespace

Table make_table() noexcept {
    return {"reference",
            0,
            network_kernels<float>(),
            network_kernels<double>(),
            bfloat16_kernels(),
            {sgd, momentum, nesterov, adam, lars, sum_squares},
            {to_unit_interval, fill_random, add_rows, warp},
            compression_kernels()};
}

} // namespace dtrain::kernels::reference
