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
        : base_(static_cast<const std::byte*>(base)), row_bytes_(row_bytes), rows_(rows) {}

    /// Prefetches the next few rows, if there are any.
    void prefetch_some() noexcept {
        for (std::size_t n = rows_.size() < rows_at_once ? rows_.size() : rows_at_once; n > 0; --n) {
            const std::byte* const row = base_ + rows_.front() * row_bytes_;
            rows_ = rows_.subspan(1);
            for (std::size_t i = 0; i < row_bytes_; i += cache_line) {
                __builtin_prefetch(row + i, 0, 2); // into the second-level cache
            }
        }
    }

  private:
    static constexpr std::size_t rows_at_once = 2;
    static constexpr std::size_t cache_line = 64;
    const std::byte* base_ = nullptr;
    std::size_t row_bytes_ = 0;
    std::span<const std::uint32_t> rows_;
};

} // namespace dtrain::kernels
