#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace dtrain::kernels {

/// Rows of memory that will be needed soon, in an order that no hardware prefetcher guesses. Products
/// (kernels/products.hpp) take a few from it with every tile, so that memory works while the arithmetic units do.
class PrefetchQueue {
  public:
    PrefetchQueue() = default;
    /// Row numbers `rows`, each of `row_bytes` from `base` + number · row_bytes. The numbers are the caller's and have
    /// to live until they are taken.
    PrefetchQueue(const void* base, std::size_t row_bytes, std::span<const std::uint32_t> rows) noexcept
        : base_(static_cast<const std::byte*>(base)), row_bytes_(row_bytes), rows_(rows) {}

    /// Asks for the next rows, if there are any.
    void take_some() noexcept {
        for (std::size_t n = rows_.size() < rows_at_once ? rows_.size() : rows_at_once; n > 0; --n) {
            const std::byte* const row = base_ + rows_.front() * row_bytes_;
            rows_ = rows_.subspan(1);
            for (std::size_t i = 0; i < row_bytes_; i += cache_line) {
                __builtin_prefetch(row + i, 0, 2); // for the second-level cache
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
