#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace dtrain::kernels {

/// Rows of memory that will be needed soon, in an order that hardware prefetchers cannot predict. Products
/// (kernels/products.hpp) prefetch a few rows with every tile, so that memory access overlaps with arithmetic.
class PrefetchQueue {
  public:
    PrefetchQueue() = default;
    /// Row number r has `row_bytes` bytes and starts at `base` + r · row_bytes. `rows` is not copied, so it must
    /// outlive the queue.
    PrefetchQueue(const void* base, std::size_t row_bytes, std::span<const std::uint32_t> rows) noexcept
        : base_(static_cast<const char*>(base)), row_bytes_(row_bytes), next_(rows.data()), rows_left_(rows.size()) {}

    /// Prefetches the next few rows, if there are any.
    [[gnu::always_inline]] void prefetch_some() noexcept {
        for (std::size_t n = rows_left_ < rows_at_once ? rows_left_ : rows_at_once; n > 0; --n) {
            const char* const row = base_ + *next_++ * row_bytes_;
            --rows_left_;
            for (std::size_t i = 0; i < row_bytes_; i += cache_line) {
                __builtin_prefetch(row + i, 0, 2); // into the second-level cache
            }
        }
    }

  private:
    static constexpr std::size_t rows_at_once = 2;
    static constexpr std::size_t cache_line = 64;
    const char* base_ = nullptr;
    std::size_t row_bytes_ = 0;
    const std::uint32_t* next_ = nullptr;
    std::size_t rows_left_ = 0;
};

} // namespace dtrain::kernels
