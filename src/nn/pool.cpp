// Pooling layers: each K × K window of a feature map is replaced by its maximum or its mean. Windows do not overlap.
// Rows and columns at the bottom and right edge that do not fill a window are dropped, as in PyTorch by default.
//
// x  C × H × W              dx  ∂C/∂x
// y  C × H / K × W / K      dy  ∂C/∂y
//
// Samples are interleaved (nn/interleave.hpp).

#include "dtrain/nn/layer.hpp"

#include "layer_arguments.hpp"

#include <algorithm>
#include <utility>

namespace dtrain::nn {
namespace {

using core::MatrixView;

template <class Real>
constexpr std::size_t lanes = block_lanes<Real>;
template <class Real>
using Vector = typename Block<Real>::Vector;

/// Max pooling. If several pixels have the maximum, the first one receives the gradient.
struct Max {
    static constexpr const char* name = "maxpool";

    template <class Real>
    static void forward(const Real* window, std::size_t row, std::size_t kernel, Real* y) noexcept {
        Vector<Real> largest = Block<Real>::load(window);
        for (std::size_t i = 0; i < kernel; ++i) {
            for (std::size_t j = 0; j < kernel; ++j) {
                const Vector<Real> x = Block<Real>::load(window + i * row + j * lanes<Real>);
                largest = (x > largest) | (x != x) ? x : largest; // a NaN stays the maximum
            }
        }
        Block<Real>::store(y, largest);
    }
    template <class Real>
    static void backward(const Real* window, std::size_t row, std::size_t kernel, const Real* y, const Real* dy,
                         Real* dx) noexcept {
        const Vector<Real> largest = Block<Real>::load(y);
        Vector<Real> left = Block<Real>::load(dy);
        for (std::size_t i = 0; i < kernel; ++i) {
            for (std::size_t j = 0; j < kernel; ++j) {
                const auto here = Block<Real>::load(window + i * row + j * lanes<Real>) == largest;
                Block<Real>::store(dx + i * row + j * lanes<Real>, here ? left : Vector<Real>{});
                left = here ? Vector<Real>{} : left;
            }
        }
    }
};

struct Mean {
    static constexpr const char* name = "avgpool";

    template <class Real>
    static void forward(const Real* window, std::size_t row, std::size_t kernel, Real* y) noexcept {
        Vector<Real> sum{};
        for (std::size_t i = 0; i < kernel; ++i) {
            for (std::size_t j = 0; j < kernel; ++j) {
                sum += Block<Real>::load(window + i * row + j * lanes<Real>);
            }
        }
        Block<Real>::store(y, sum * (Real{1} / static_cast<Real>(kernel * kernel)));
    }
    template <class Real>
    static void backward(const Real*, std::size_t row, std::size_t kernel, const Real*, const Real* dy,
                         Real* dx) noexcept {
        const Vector<Real> share = Block<Real>::load(dy) * (Real{1} / static_cast<Real>(kernel * kernel));
        for (std::size_t i = 0; i < kernel; ++i) {
            for (std::size_t j = 0; j < kernel; ++j) {
                Block<Real>::store(dx + i * row + j * lanes<Real>, share);
            }
        }
    }
};

template <class Real, class Kind>
class Pool final : public Layer<Real> {
  public:
    Pool(const Shape& input, std::size_t kernel, std::string label)
        : Layer<Real>(std::move(label)), maps_(input[0]), height_(input[1]), width_(input[2]),
          kernel_(kernel), output_shape_{input[0], input[1] / kernel, input[2] / kernel} {}

    [[nodiscard]] std::string description() const override { return fmt::format("{} {}", Kind::name, kernel_); }
    [[nodiscard]] const Shape& output_shape() const noexcept override { return output_shape_; }
    [[nodiscard]] Arrangement arrangement() const noexcept override { return Arrangement::interleaved; }
    [[nodiscard]] double forward_flops() const noexcept override { return 0; } // only products are counted
    void initialise(std::span<Real>, std::uint64_t) const override {}

    void forward(std::span<const Real>, const Pass&, MatrixView<const Real> x, MatrixView<Real> y) override {
        for_each_window(y.rows, x, y, [&](std::size_t from, std::size_t to) {
            Kind::template forward<Real>(x.data + from, width_ * lanes<Real>, kernel_, y.data + to);
        });
    }

    void backward(std::span<const Real>, ShardOffsets, MatrixView<const Real> x, MatrixView<const Real> y,
                  MatrixView<Real> dy, MatrixView<Real> dx, ShardGradients<Real>&) override {
        if (dx.is_null()) {
            return;
        }
        if (height_ % kernel_ != 0 || width_ % kernel_ != 0) {
            std::ranges::fill(dx.values(), Real{0});
        }
        for_each_window(y.rows, x, y, [&](std::size_t from, std::size_t to) {
            Kind::template backward<Real>(x.data + from, width_ * lanes<Real>, kernel_, y.data + to, dy.data + to,
                                          dx.data + from);
        });
    }

  private:
    /// Calls action(offset of the window in x, offset of its pixel in y).
    template <class Action>
    void for_each_window(std::size_t blocks, MatrixView<const Real> x, MatrixView<const Real> y,
                         Action&& action) const noexcept {
        for (std::size_t block = 0; block < blocks; ++block) {
            std::size_t to = block * y.cols;
            for (std::size_t c = 0; c < maps_; ++c) {
                for (std::size_t i = 0; i < output_shape_[1]; ++i) {
                    const std::size_t row = block * x.cols + ((c * height_ + i * kernel_) * width_) * lanes<Real>;
                    for (std::size_t j = 0; j < output_shape_[2]; ++j, to += lanes<Real>) {
                        action(row + j * kernel_ * lanes<Real>, to);
                    }
                }
            }
        }
    }

    std::size_t maps_;
    std::size_t height_;
    std::size_t width_;
    std::size_t kernel_;
    Shape output_shape_;
};

template <class Real, class Kind>
std::unique_ptr<Layer<Real>> make_pool(const LayerArguments& arguments) {
    if (arguments.words.size() != 2) {
        arguments.fail(fmt::format("expected `{} K`, where windows have K x K pixels", Kind::name));
    }
    const Shape input = arguments.input_maps();
    const std::size_t kernel = arguments.number_in(
        arguments.words[1], fmt::format("the window size for feature maps of {} x {}", input[1], input[2]), 1,
        std::min(input[1], input[2]));
    return std::make_unique<Pool<Real, Kind>>(input, kernel, arguments.label);
}

} // namespace

template <class Real>
std::unique_ptr<Layer<Real>> make_max_pool(const LayerArguments& arguments) {
    return make_pool<Real, Max>(arguments);
}
template <class Real>
std::unique_ptr<Layer<Real>> make_average_pool(const LayerArguments& arguments) {
    return make_pool<Real, Mean>(arguments);
}

template std::unique_ptr<Layer<float>> make_max_pool(const LayerArguments&);
template std::unique_ptr<Layer<double>> make_max_pool(const LayerArguments&);
template std::unique_ptr<Layer<float>> make_average_pool(const LayerArguments&);
template std::unique_ptr<Layer<double>> make_average_pool(const LayerArguments&);

} // namespace dtrain::nn
