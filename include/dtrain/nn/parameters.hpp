#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace dtrain::nn {

using Shape = std::vector<std::size_t>;

[[nodiscard]] std::size_t element_count(const Shape& shape) noexcept;
/// The shape as text, such as "16 x 784".
[[nodiscard]] std::string to_string(const Shape& shape);

/// What training does with a tensor.
enum class Role {
    parameter, ///< a weight or a bias, which the optimizer changes
    statistic, ///< a running mean of what layers measure. Its "gradient" is its distance to what they measure.
};

/// One named tensor in a flat buffer.
struct Tensor {
    std::string name;  ///< "01_dense/weight"
    std::string layer; ///< the label of its layer, "01_dense"
    std::string part;  ///< its name within the layer, "weight"
    Shape shape;
    std::size_t offset = 0; ///< in elements, a multiple of ParameterLayout::alignment
    std::size_t size = 0;   ///< in elements
    Role role = Role::parameter;

    template <class T>
    [[nodiscard]] std::span<T> in(std::span<T> arena) const noexcept {
        return arena.subspan(offset, size);
    }
};

/// The position of each tensor in the flat buffer of parameters (arena). Gradients and optimizer state use the same
/// layout. Each tensor begins on a cache line. The gaps between tensors contain zeros and stay zero with every
/// optimizer.
class ParameterLayout {
  public:
    static constexpr std::size_t alignment = 16; ///< in elements

    /// Appends a tensor and returns its number.
    std::size_t add(const std::string& layer, const std::string& part, Shape shape, Role role = Role::parameter);

    [[nodiscard]] const std::vector<Tensor>& tensors() const noexcept { return tensors_; }
    [[nodiscard]] const Tensor& operator[](std::size_t number) const noexcept { return tensors_[number]; }
    /// Elements of the flat buffer, gaps included.
    [[nodiscard]] std::size_t arena_size() const noexcept { return arena_size_; }
    /// Number of weights and biases, without the gaps and without statistics.
    [[nodiscard]] std::size_t parameter_count() const noexcept { return parameter_count_; }

  private:
    std::vector<Tensor> tensors_;
    std::size_t arena_size_ = 0;
    std::size_t parameter_count_ = 0;
};

} // namespace dtrain::nn
