#pragma once

#include "dtrain/core/matrix.hpp"

#include <cstddef>

namespace dtrain::core {

/// Grants memory and keeps count of it, so that the size of a buffer is stated in one place.
class MemoryBook {
  public:
    /// Makes each of `buffers` one of `size` elements.
    template <class... T>
    void grant(std::size_t size, Buffer<T>&... buffers) {
        ((buffers = Buffer<T>(size), bytes_ += size * sizeof(T)), ...);
    }
    /// Of all that was granted.
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

  private:
    std::size_t bytes_ = 0;
};

} // namespace dtrain::core
