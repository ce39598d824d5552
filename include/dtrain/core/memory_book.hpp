#pragma once

#include "dtrain/core/matrix.hpp"

#include <cstddef>

namespace dtrain::core {

/// Grants memory and keeps count of it, so that the size of a buffer is stated in one place; or counts alone, to know
/// beforehand.
class MemoryBook {
  public:
    enum class Mode { grant, count };
    explicit MemoryBook(Mode mode = Mode::grant) noexcept : mode_(mode) {}

    /// Makes each of `buffers` one of `size` elements, or leaves them as they are.
    template <class... T>
    void grant(std::size_t size, Buffer<T>&... buffers) {
        ((bytes_ += size * sizeof(T)), ...);
        if (mode_ == Mode::grant) {
            ((buffers = Buffer<T>(size)), ...);
        }
    }
    /// Of all that was granted, or would have been.
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

  private:
    Mode mode_;
    std::size_t bytes_ = 0;
};

} // namespace dtrain::core
