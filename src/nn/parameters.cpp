#include "dtrain/nn/parameters.hpp"

#include <fmt/format.h>

#include <functional>
#include <numeric>
#include <utility>

namespace dtrain::nn {

std::size_t element_count(const Shape& shape) noexcept {
    return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

std::string to_string(const Shape& shape) {
    return fmt::format("{}", fmt::join(shape, " x "));
}

std::size_t ParameterLayout::add(const std::string& layer, const std::string& part, Shape shape, Role role) {
    const std::size_t size = element_count(shape);
    tensors_.push_back({layer + "/" + part, layer, part, std::move(shape), arena_size_, size, role});
    arena_size_ += (size + alignment - 1) / alignment * alignment;
    parameter_count_ += role == Role::parameter ? size : 0;
    return tensors_.size() - 1;
}

} // namespace dtrain::nn
