#pragma once

#include "dtrain/core/matrix.hpp"

#include <cstddef>

namespace dtrain::core {

/// Allocates buffers and counts their bytes. In the mode `count` it only counts, so that the same code also predicts
/// how much memory is needed.
class MemoryBook {
  public:
    enum class Mode { grant, count };
    explicit MemoryBook(Mode mode = Mode::grant) noexcept : mode_(mode) {}

    /// Gives each of `buffers` `size` elements. In the mode `count` it leaves the buffers as they are.
    template <class... T>
    void grant(std::size_t size, Buffer<T>&... buffers) {
        ((bytes_ += size * sizeof(T)), ...);
        if (mode_ == Mode::grant) {
            ((buffers = Buffer<T>(size)), ...);
        }
    }
    /// The bytes of all grants so far, in both modes.
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

  private:
    Mode mode_;
    std::size_t bytes_ = 0;
};

} // namespace dtrain::core
