#pragma once

#include <cstddef>
#include <new>

namespace dtrain::core {

/// The alignment for a block of memory: a cache line, which is also the widest vector register, or for large blocks a
/// huge page.
[[nodiscard]] std::align_val_t alignment_of(std::size_t bytes) noexcept;
/// Asks the system to back large blocks by huge pages: training jumps about in its samples and weights, and a miss of
/// the translation buffer can cost as much as one of the cache.
void advise_huge_pages(void* block, std::size_t bytes) noexcept;

/// Whether this process may have so many bytes of addresses more (RLIMIT_AS). To be asked before memory is reserved by
/// those who do not tell that they have got none, such as MPI.
[[nodiscard]] bool has_addresses(std::size_t bytes) noexcept;

/// The most physical memory that this process has had at any time so far, shared memory that it touched included.
[[nodiscard]] std::size_t peak_resident_bytes() noexcept;

/// The physical memory of this machine.
[[nodiscard]] std::size_t physical_bytes() noexcept;

} // namespace dtrain::core
