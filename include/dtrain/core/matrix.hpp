#pragma once

#include "dtrain/core/memory.hpp"

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

namespace dtrain::core {

/// A view of a dense row-major matrix, rows × cols.
template <class T>
struct MatrixView {
    T* data = nullptr;
    std::size_t rows = 0;
    std::size_t cols = 0;

    [[nodiscard]] std::size_t size() const noexcept { return rows * cols; }
    [[nodiscard]] bool is_null() const noexcept { return data == nullptr; } ///< no matrix at all
    [[nodiscard]] std::span<T> values() const noexcept { return {data, size()}; }
    [[nodiscard]] std::span<T> row(std::size_t i) const noexcept { return {data + i * cols, cols}; }
    [[nodiscard]] MatrixView block(std::size_t first_row, std::size_t count) const noexcept {
        return {data + first_row * cols, count, cols};
    }
    operator MatrixView<const T>() const noexcept requires(!std::is_const_v<T>) { return {data, rows, cols}; }
};

/// Zeroed memory of a fixed number of elements, aligned as alignment_of() says. Throws std::bad_alloc.
template <class T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(std::size_t size)
        : data_(static_cast<T*>(::operator new(size * sizeof(T), alignment_of(size * sizeof(T)))),
                Free{alignment_of(size * sizeof(T))}),
          size_(size) {
        advise_huge_pages(data_.get(), size * sizeof(T));
        std::uninitialized_value_construct_n(data_.get(), size);
    }
    Buffer(Buffer&& other) noexcept : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        data_ = std::move(other.data_);
        size_ = std::exchange(other.size_, 0);
        return *this;
    }

    [[nodiscard]] T* data() const noexcept { return data_.get(); }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::span<T> values() const noexcept { return {data_.get(), size_}; }
    [[nodiscard]] MatrixView<T> matrix(std::size_t rows, std::size_t cols) const noexcept {
        return {data_.get(), rows, cols};
    }

  private:
    static_assert(std::is_trivially_destructible_v<T>);
    struct Free {
        std::align_val_t alignment{};
        void operator()(T* p) const noexcept { ::operator delete(p, alignment); }
    };
    std::unique_ptr<T[], Free> data_;
    std::size_t size_ = 0;
};

} // namespace dtrain::core
