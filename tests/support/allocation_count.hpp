// Counts allocations with operator new, by all threads and by this thread. It replaces the global operators, so exactly
// one source of an executable includes it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace dtrain::support {

inline std::atomic<std::size_t> allocation_count = 0;
inline thread_local std::size_t own_allocation_count = 0;

inline void* counted_allocation(std::size_t size, std::size_t alignment) {
    ++allocation_count;
    ++own_allocation_count;
    const std::size_t rounded = (size + alignment) / alignment * alignment;
    void* const memory = std::aligned_alloc(alignment, rounded);
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}

} // namespace dtrain::support

void* operator new(std::size_t size) {
    return dtrain::support::counted_allocation(size, alignof(std::max_align_t));
}
void* operator new[](std::size_t size) {
    return dtrain::support::counted_allocation(size, alignof(std::max_align_t));
}
void* operator new(std::size_t size, std::align_val_t alignment) {
    return dtrain::support::counted_allocation(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
    return dtrain::support::counted_allocation(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete[](void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept {
    std::free(memory);
}
