#pragma once

#include "dtrain/core/random.hpp"
#include "dtrain/kernels/feature_maps.hpp"
#include "dtrain/kernels/prefetch.hpp"

#include <cstddef>
#include <cstdint>

// The functions that decide the speed. They are compiled once for each instruction set (src/kernels/simd) and once more
// as plain loops (src/kernels/reference.cpp). All versions give the same bits: fused multiply-adds are part of the
// definition of a function, and the order of additions is too. Kernels take raw pointers and never allocate.

namespace dtrain::kernels {

enum class Activation : std::uint8_t { linear, sigmoid, relu, tanh };

/// A factor of a product without its size: element (i, j) is data[i * row_stride + j * col_stride].
template <class Real>
struct Elements {
    const Real* data = nullptr;
    std::size_t row_stride = 0;
    std::size_t col_stride = 1;
};

/// A part of a product, c = a · b or c += a · b, for `rows` rows of a. The inner indices are divided among the leaves
/// of a summation tree: leaf l has the indices offsets[l] to offsets[l + 1] - 1. After leaf l, the two newest partial
/// sums are replaced by their sum, merges[l] times (core/shard_tree.hpp).
template <class Real>
struct ProductJob {
    Elements<Real> a;
    std::size_t rows = 0;
    std::size_t depth = 0;          ///< columns of a, which are rows of b
    std::size_t tile_rows = 1;      ///< rows that are computed at once, at most: see ProductKernels
    const Real* packed_a = nullptr; ///< what pack_rows() wrote, or null
    Elements<Real> b;
    const std::size_t* offsets = nullptr;
    const std::uint8_t* merges = nullptr;
    std::size_t leaves = 1;
    bool add = false; ///< c += a · b; only for a single leaf
    Real* c = nullptr;
    std::size_t c_stride = 0;
};

template <class Real>
struct ProductKernels {
    std::size_t panel_columns;  ///< columns of b that multiply_panel() computes at once
    std::size_t tile_rows;      ///< rows of a that are computed at once, if there is a single leaf
    std::size_t tree_tile_rows; ///< and if there are several
    std::size_t panel_bytes;    ///< the size of multiply_panel()'s scratch memory
    /// Copies the rows of a, job.rows × job.depth values, in the order in which multiply_panel() reads them.
    void (*pack_rows)(const ProductJob<Real>& job, Real* to) noexcept;
    /// Computes columns [first, first + width) of c, where width is at most panel_columns.
    void (*multiply_panel)(const ProductJob<Real>& job, std::size_t first, std::size_t width, Real* panel,
                           PrefetchQueue& upcoming) noexcept;
};

/// The order in which a product of bfloat16 matrices adds up, an element of c and two operands of 32 values each at a
/// time. All operations are fused multiply-adds or additions of floats. Denormal operands and results become zero.
enum class Bfloat16Order : std::uint8_t {
    /// As the instruction TDPBF16PS (AMX): c + (even + odd), where `even` and `odd` are chains over the operands'
    /// values 0, 2, 4, ... and 1, 3, 5, ..., which start at 0. A last step that is not full has zeros at its end.
    two_chains,
    /// As the instruction VDPBF16PS: one chain on c over the values 1, 0, 3, 2, 5, 4, ..., up to the last pair.
    one_chain,
};

inline constexpr std::size_t bfloat16_depth = 32;   ///< inner indices of a step
inline constexpr std::size_t bfloat16_columns = 16; ///< columns of a panel of b
/// `depth`, rounded up to whole steps.
[[nodiscard, gnu::always_inline]] inline constexpr std::size_t in_whole_steps(std::size_t depth) noexcept {
    return (depth + bfloat16_depth - 1) / bfloat16_depth * bfloat16_depth;
}

/// c = start + a · b for bfloat16 matrices, with sums in float. The inner index k goes over `depth` values, which zeros
/// complete to whole steps. a is stored by rows: a(i, k) is a[i · a_stride + k]. b is stored in panels of
/// bfloat16_columns columns, as AMX reads it: b(k, 16 p + j) is b[p · panel_stride + (k / 2) · 32 + 2 j + k % 2].
struct Bfloat16Product {
    const std::uint16_t* a = nullptr;
    std::size_t a_stride = 0;
    std::size_t rows = 0; ///< of a
    const std::uint16_t* b = nullptr;
    std::size_t panel_stride = 0;
    std::size_t cols = 0;         ///< of c; b has zeros in the rest of its last panel
    std::size_t depth = 0;        ///< if 0, the product is `start`; otherwise denormal numbers of `start` become zero
    const float* start = nullptr; ///< c, with its stride, or a matrix that does not overlap it; zeros if null
    std::size_t start_stride = 0;
    float* c = nullptr;
    std::size_t c_stride = 0;
    /// If merges > 0, the product ends a leaf of a tree and is added to the partial sums before it, the newest first:
    /// c = c + (lefts[merges - 2] + ... + (lefts[0] + (start + a · b))). lefts[i] begins at lefts + i · left_size, and
    /// its rows are left_stride apart; they overlap neither c nor start. These are additions of floats, which keep
    /// denormal numbers.
    std::size_t merges = 0;
    const float* lefts = nullptr;
    std::size_t left_size = 0;
    std::size_t left_stride = 0;
};

struct Bfloat16Kernels {
    Bfloat16Order order;
    const char* unit; ///< what computes, for the log
    /// Rounds a matrix of rows × depth floats to bfloat16, in the arrangement of a. Fills up the last step with zeros.
    void (*round_rows)(const Elements<float>& from, std::size_t rows, std::size_t depth, std::uint16_t* a,
                       std::size_t a_stride) noexcept;
    /// Rounds a matrix of depth × cols floats, in the arrangement of b. Fills up the last step and the last panel.
    void (*round_panels)(const Elements<float>& from, std::size_t depth, std::size_t cols, std::uint16_t* b,
                         std::size_t panel_stride) noexcept;
    void (*multiply)(const Bfloat16Product&) noexcept;
    // For convolutions, which put panels of b together from blocks of samples, side by side:
    /// Rounds a block's feature maps. A pixel becomes, for each 16 channels and each group, 4 rows of pairs of samples:
    /// samples[((g · ⌈channels / 16⌉ + c / 16) · pixels + pixel) · 128 + l / 2 · 32 + 2 (c % 16) + l % 2] is lane 8 g +
    /// l of channel c. Missing channels are zeros.
    void (*round_samples)(const float* block, const Maps& maps, std::uint16_t* samples) noexcept;
    /// Copies `count` rows of 32 values: row i comes from from + offsets[i].
    void (*copy_rows)(const std::uint16_t* from, const std::uint32_t* offsets, std::size_t count,
                      std::uint16_t* to) noexcept;
};

/// For one block of samples, side by side.
template <class Real>
struct MapKernels {
    /// y[m, i, j] = bias[m] + Σ_c Σ_u Σ_v weight[m, c, u, v] x[c, i stride + u, j stride + v]
    void (*convolve)(const Convolution<Real>&) noexcept;
    /// sums[m, c, u, v] = Σ_i Σ_j dy[m, i, j] x[c, i stride + u, j stride + v]
    void (*sum_weight_gradients)(const WeightGradients<Real>&) noexcept;
    /// sums[m] = Σ_i Σ_j dy[m, i, j]
    void (*sum_bias_gradients)(const Real* dy, const Maps& dy_maps, Real* sums) noexcept;
    /// groups[g][i] = the sum of the lanes of sums[i] (count × lanes) that belong to group g, added in pairs.
    void (*add_lanes)(const Real* sums, std::size_t count, Real* const* groups, std::size_t group_count) noexcept;
    /// Each y is the maximum of its window. A NaN counts as the maximum.
    void (*max_pool)(const Pooling&, const Real* x, Real* y) noexcept;
    /// dx = dy at the first maximum of each window, 0 elsewhere in it. dx outside all windows stays.
    void (*max_pool_backward)(const Pooling&, const Real* x, const Real* y, const Real* dy, Real* dx) noexcept;
    void (*mean_pool)(const Pooling&, const Real* x, Real* y) noexcept;
    void (*mean_pool_backward)(const Pooling&, const Real* dy, Real* dx) noexcept;
    /// blocks[i · lanes + l] = rows[l][i] for i < size; a null row counts as zeros.
    void (*interleave)(const Real* const* rows, std::size_t size, Real* block) noexcept;
    /// rows[l][i] = block[i · lanes + l] for i < size, except for null rows.
    void (*deinterleave)(const Real* block, std::size_t size, Real* const* rows) noexcept;
};

/// Where values of channels are: each column has `rows` rows of `lanes` neighbouring values. The lanes of a column are
/// samples of one feature map, or features of one sample.
struct Columns {
    std::size_t columns = 0;
    std::size_t column_stride = 0;
    std::size_t rows = 0;
    std::size_t row_stride = 0;
    std::size_t lanes = group_rows; ///< at most group_rows
};

/// For batch normalisation (src/nn/batch_norm.cpp). Lane l of column c has slot c · group_rows + l in the arrays of
/// sums and factors, so that a sum is one chain of additions over the rows.
template <class Real>
struct NormalisationKernels {
    /// sums[slot] += x for all values.
    void (*add_values)(const Columns&, const Real* x, double* sums) noexcept;
    /// sums[slot] += (x − centre[slot])², computed in double.
    void (*add_squares)(const Columns&, const Real* x, const Real* centre, double* sums) noexcept;
    /// sums[slot] += dz, and products[slot] += dz · ((x − centre[slot]) · scale[slot]).
    void (*add_gradients)(const Columns&, const Real* x, const Real* dz, const Real* centre, const Real* scale,
                          double* sums, double* products) noexcept;
    /// y = (x − centre[slot]) · scale[slot] + shift[slot]
    void (*normalise)(const Columns&, const Real* x, const Real* centre, const Real* scale, const Real* shift,
                      Real* y) noexcept;
    /// dx = scale[slot] · ((dz − mean[slot]) − (x − centre[slot]) · slope[slot])
    void (*normalise_backward)(const Columns&, const Real* x, const Real* dz, const Real* centre, const Real* scale,
                               const Real* mean, const Real* slope, Real* dx) noexcept;
};

/// One time step of an LSTM for one sample, with `size` hidden units: the gates i, f, g, o are 4 · size values.
template <class Real>
struct LstmCell {
    std::size_t size = 0;
    Real* gates = nullptr;
    const Real* before = nullptr; ///< c of the previous time step; null counts as zeros
    Real* c = nullptr;
    Real* tanh_c = nullptr;
};

/// Element by element. `exponential` is e^x with an error of at most 2 ulp for floats, see
/// src/kernels/simd/exponential.hpp.
template <class Real>
struct ElementKernels {
    /// values[i] = f(values[i]). A NaN stays a NaN.
    void (*activate)(Activation, Real* values, std::size_t size) noexcept;
    /// gradient[i] *= f'(z[i]), where f' is computed from y = f(z).
    void (*multiply_by_derivative)(Activation, const Real* y, Real* gradient, std::size_t size) noexcept;
    /// to[i] = exponential(from[i] - shift)
    void (*exponentials)(const Real* from, Real shift, Real* to, std::size_t size) noexcept;
    /// sum[i] = left[i] + right[i]. `sum` may be `left` or `right`.
    void (*add)(const Real* left, const Real* right, Real* sum, std::size_t size) noexcept;
    /// Replaces weighted sums by the gates and computes c = f · before + i · g, tanh_c and h = o · tanh_c.
    void (*lstm_forward)(const LstmCell<Real>&, Real* h) noexcept;
    /// Computes ∂C/∂z and ∂C/∂before from dh and dc. They replace the gates and dc.
    void (*lstm_backward)(const LstmCell<Real>&, const Real* dh, Real* dc) noexcept;
};

/// An update of `size` parameters. The gradient of parameter p is g = scale · sum + decay · p.
struct Update {
    float* parameters = nullptr;
    const float* sum = nullptr; ///< of the gradients of all samples
    std::size_t size = 0;
    float* state[2] = {}; ///< as many as the rule has
    float scale = 1;
    float decay = 0;
    float rate = 0;
    float momentum = 0; ///< Adam's β₁
    // Only for Adam:
    float keep_square = 0;   ///< β₂
    float take_gradient = 0; ///< 1 − β₁
    float take_square = 0;   ///< 1 − β₂
    float root_scale = 1;
    float shrink = 1;
};

/// The rules are in optim/optimizer.hpp. Each returns whether all new parameters are finite.
struct UpdateKernels {
    bool (*sgd)(const Update&) noexcept;
    bool (*momentum)(const Update&) noexcept;
    bool (*nesterov)(const Update&) noexcept;
    bool (*adam)(const Update&) noexcept; ///< state: mean, square
    bool (*lars)(const Update&) noexcept;
    /// The sum of (scale · values[i])² in units of 2^-70, see optim/square_sum.hpp. `size` is a multiple of 16.
    __int128 (*sum_squares)(const float* values, std::size_t size, float scale) noexcept;
};

/// A weighted sum of rows: out[i] = Σ_k weights[k] rows[k · stride + i] for k < count and i < image_tile.
struct WeightedRows {
    const float* weights = nullptr;
    const float* rows = nullptr;
    float* out = nullptr;
};
inline constexpr std::size_t image_tile = 32;

/// A transformation of an image with bilinear interpolation. Pixel i takes its value from the framed image at
///   x = xx place_x[i] + xy place_y[i] + start_x + away_x[i], likewise y, clamped to [0, end].
/// All arrays are readable up to the next multiple of image_tile.
struct Warp {
    const float* framed = nullptr; ///< the image with a border of zeros
    std::int32_t framed_stride = 0;
    const float *place_x = nullptr, *place_y = nullptr, *away_x = nullptr, *away_y = nullptr;
    float xx = 1, xy = 0, yx = 0, yy = 1;
    float start_x = 0, start_y = 0, end_x = 0, end_y = 0;
    float* image = nullptr;
    std::size_t size = 0; ///< of the image
};

struct DataKernels {
    /// out[i] = bytes[i] / 255, correctly rounded.
    void (*to_unit_interval)(const std::uint8_t* bytes, float* out, std::size_t size) noexcept;
    /// The first 4 · blocks numbers of a random stream. Number 4b + w (word w of block b) goes to words[w · blocks +
    /// b].
    void (*fill_random)(const core::StreamStart& start, std::uint32_t* words, std::size_t blocks) noexcept;
    /// Two weighted sums of rows at once.
    void (*add_rows)(std::size_t count, std::size_t stride, const WeightedRows& a, const WeightedRows& b) noexcept;
    void (*warp)(const Warp&) noexcept;
};

/// Gradients as bfloat16 numbers (core/bfloat16.hpp). Floats that hold such numbers have 16 zero bits at the end.
struct CompressionKernels {
    /// values[i] = values[i], rounded.
    void (*round)(float* values, std::size_t size) noexcept;
    /// sum[i] = left[i] + right[i], rounded. `sum` may be `left` or `right`.
    void (*add)(const float* left, const float* right, float* sum, std::size_t size) noexcept;
    /// Copies numbers that are rounded already: pack() to 16-bit words, unpack() back to floats.
    void (*pack)(const float* from, std::uint16_t* to, std::size_t size) noexcept;
    void (*unpack)(const std::uint16_t* from, float* to, std::size_t size) noexcept;
};

template <class Real>
struct NetworkKernels {
    ProductKernels<Real> products;
    MapKernels<Real> maps;
    ElementKernels<Real> elements;
    NormalisationKernels<Real> normalisation;
};

/// All kernels of one instruction set.
struct Table {
    const char* name = nullptr;   ///< such as "x86-64-v4"
    std::size_t vector_bytes = 0; ///< 0 for the reference
    NetworkKernels<float> in_float;
    NetworkKernels<double> in_double;
    Bfloat16Kernels bfloat16;
    UpdateKernels updates;
    DataKernels data;
    CompressionKernels compression;

    template <class Real>
    [[nodiscard]] const NetworkKernels<Real>& network() const noexcept {
        if constexpr (sizeof(Real) == sizeof(float)) {
            return in_float;
        } else {
            return in_double;
        }
    }
};

} // namespace dtrain::kernels
