// Inverted dropout (Srivastava et al., JMLR 2014). In training, each input becomes 0 with probability P; otherwise it
// is divided by 1 − P. Evaluation is then the identity. The mask is a pure function of (seed, epoch, sample, layer).
//
// x, y   N × I       mask  N × I   0 or 1 / (1 − P)
// dx = dy · mask

#include "dtrain/core/number.hpp"
#include "dtrain/kernels/random.hpp"
#include "dtrain/nn/layer.hpp"

#include "layer_arguments.hpp"

#include <algorithm>

namespace dtrain::nn {
namespace {

using core::MatrixView;

template <class Real>
class Dropout final : public Layer<Real> {
  public:
    Dropout(double probability, const LayerArguments& arguments)
        : Layer<Real>(arguments.label), shape_(arguments.input), size_(element_count(arguments.input)),
          probability_(probability), number_(arguments.number) {}

    [[nodiscard]] std::string description() const override { return fmt::format("dropout {}", probability_); }
    [[nodiscard]] const Shape& output_shape() const noexcept override { return shape_; }
    [[nodiscard]] double forward_flops() const noexcept override { return 0; } // only products are counted
    void initialise(std::span<Real>, std::uint64_t) const override {}

    void reserve(const Extent& extent, core::MemoryBook& book) override {
        book.grant(extent.rows * size_, mask_);
        book.grant((size_ + 3) / 4 * 4, words_); // whole blocks of the generator
    }

    void forward(std::span<const Real>, const Pass& pass, MatrixView<const Real> x, MatrixView<Real> y) override {
        if (pass.training == nullptr) {
            std::ranges::copy(x.values(), y.data);
            return;
        }
        const Draw& draw = *pass.training;
        const auto dropped_below = static_cast<std::uint32_t>(probability_ * 0x1p32);
        const auto scale = static_cast<Real>(1 / (1 - probability_));
        for (std::size_t n = 0; n < x.rows; ++n) {
            const auto sample = static_cast<std::uint64_t>(draw.first_sample) + draw.samples[n];
            kernels::fill_random(draw.seed, core::Purpose::dropout, draw.epoch, sample << 16 | number_,
                                 words_.values());
            Real* const mask = mask_.data() + n * size_;
            const std::uint32_t* const word = words_.data();
            for (std::size_t i = 0; i < size_; ++i) {
                mask[i] = word[i] < dropped_below ? Real{0} : scale;
            }
        }
        multiply(x.values(), y.values());
    }

    void backward(std::span<const Real>, ShardOffsets, MatrixView<const Real>, MatrixView<const Real>,
                  MatrixView<Real> dy, MatrixView<Real> dx, ShardGradients<Real>&) override {
        if (!dx.is_null()) {
            multiply(dy.values(), dx.values());
        }
    }

  private:
    void multiply(std::span<const Real> from, std::span<Real> to) const noexcept {
        const Real* const mask = mask_.data();
        for (std::size_t i = 0; i < to.size(); ++i) {
            to[i] = from[i] * mask[i];
        }
    }

    Shape shape_;
    std::size_t size_;
    double probability_;
    std::size_t number_;
    core::Buffer<Real> mask_;
    core::Buffer<std::uint32_t> words_; ///< random numbers for one sample
};

} // namespace

template <class Real>
std::unique_ptr<Layer<Real>> make_dropout(const LayerArguments& arguments) {
    const double probability =
        arguments.words.size() == 2 ? core::parse_number<double>(arguments.words[1]).value_or(-1) : -1;
    if (!(probability >= 0 && probability < 1)) {
        arguments.fail("expected `dropout P`, where P is a probability: at least 0 and less than 1");
    }
    return std::make_unique<Dropout<Real>>(probability, arguments);
}

template std::unique_ptr<Layer<float>> make_dropout(const LayerArguments&);
template std::unique_ptr<Layer<double>> make_dropout(const LayerArguments&);

} // namespace dtrain::nn
