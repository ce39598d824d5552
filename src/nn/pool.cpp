// Pooling layers: each K × K window of a feature map is replaced by its maximum or its mean. Windows do not overlap.
// Rows and columns at the bottom and right edge that do not fill a window are dropped, as in PyTorch by default.
//
// x  C × H × W              dx  ∂C/∂x
// y  C × H / K × W / K      dy  ∂C/∂y
//
// Samples are interleaved (nn/interleave.hpp).

#include "dtrain/kernels/instruction_set.hpp"
#include "dtrain/nn/layer.hpp"

#include "layer_arguments.hpp"

#include <algorithm>
#include <utility>

namespace dtrain::nn {
namespace {

using core::MatrixView;
using kernels::Pooling;

/// Max pooling. If several pixels have the maximum, the first one receives the gradient.
struct Max {
    static constexpr const char* name = "maxpool";

    template <class Real>
    static void forward(const Pooling& job, const Real* x, Real* y) noexcept {
        kernels::network_kernels<Real>().maps.max_pool(job, x, y);
    }
    template <class Real>
    static void backward(const Pooling& job, const Real* x, const Real* y, const Real* dy, Real* dx) noexcept {
        kernels::network_kernels<Real>().maps.max_pool_backward(job, x, y, dy, dx);
    }
};

struct Mean {
    static constexpr const char* name = "avgpool";

    template <class Real>
    static void forward(const Pooling& job, const Real* x, Real* y) noexcept {
        kernels::network_kernels<Real>().maps.mean_pool(job, x, y);
    }
    template <class Real>
    static void backward(const Pooling& job, const Real*, const Real*, const Real* dy, Real* dx) noexcept {
        kernels::network_kernels<Real>().maps.mean_pool_backward(job, dy, dx);
    }
};

template <class Real, class Kind>
class Pool final : public Layer<Real> {
  public:
    Pool(const Shape& input, std::size_t kernel, std::string label)
        : Layer<Real>(std::move(label)), job_{{input[0], input[1], input[2]},
                                              kernel,
                                              {input[0], input[1] / kernel, input[2] / kernel}},
          output_shape_{input[0], input[1] / kernel, input[2] / kernel} {}

    [[nodiscard]] std::string description() const override { return fmt::format("{} {}", Kind::name, job_.window); }
    [[nodiscard]] const Shape& output_shape() const noexcept override { return output_shape_; }
    [[nodiscard]] Arrangement arrangement() const noexcept override { return Arrangement::interleaved; }
    [[nodiscard]] double forward_flops() const noexcept override { return 0; } // only products are counted
    void initialise(std::span<Real>, std::uint64_t) const override {}

    void forward(std::span<const Real>, const Pass&, MatrixView<const Real> x, MatrixView<Real> y) override {
        for (std::size_t block = 0; block < y.rows; ++block) {
            Kind::template forward<Real>(job_, x.row(block).data(), y.row(block).data());
        }
    }

    void backward(std::span<const Real>, ShardOffsets, MatrixView<const Real> x, MatrixView<const Real> y,
                  MatrixView<Real> dy, MatrixView<Real> dx, ShardGradients<Real>&) override {
        if (dx.is_null()) {
            return;
        }
        if (job_.x_maps.height % job_.window != 0 || job_.x_maps.width % job_.window != 0) {
            std::ranges::fill(dx.values(), Real{0});
        }
        for (std::size_t block = 0; block < y.rows; ++block) {
            Kind::template backward<Real>(job_, x.row(block).data(), y.row(block).data(), dy.row(block).data(),
                                          dx.row(block).data());
        }
    }

  private:
    Pooling job_;
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
