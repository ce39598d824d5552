#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <new>
#include <vector>

namespace dtrain::core {

/// The alignment for a block of memory: a cache line, which is also the size of the widest vector register. Large
/// blocks are aligned to a huge page.
[[nodiscard]] std::align_val_t alignment_of(std::size_t bytes) noexcept;
/// Asks the system to back large blocks by huge pages. Training accesses samples and weights in random order, and a TLB
/// miss can cost as much as a cache miss.
void advise_huge_pages(void* block, std::size_t bytes) noexcept;

/// Whether this process can map `bytes` more bytes of address space (RLIMIT_AS). Check this before calls that do not
/// report that they ran out of memory, such as MPI's.
[[nodiscard]] bool has_addresses(std::size_t bytes) noexcept;

/// The peak physical memory of this process so far, including shared memory that it has touched.
[[nodiscard]] std::size_t peak_resident_bytes() noexcept;

/// Physical memory that this process uses now, without pages of files.
[[nodiscard]] std::size_t own_bytes();

/// The physical memory of this machine.
[[nodiscard]] std::size_t physical_bytes() noexcept;
/// The physical memory that is free now or that only caches files.
[[nodiscard]] std::size_t available_bytes();

/// The memory that the processes of a control group may use together, such as the limit of a container or a Slurm step.
struct GroupLimit {
    std::size_t bytes = 0;
    std::uint64_t group = 0; ///< identifies the group on this machine
};
/// The control group limits (cgroup v1 and v2) that apply to this process. The files are looked up below `root`.
[[nodiscard]] std::vector<GroupLimit> group_limits(const std::filesystem::path& root = "/");

/// The bytes that this process can still allocate before it reaches its own limits. The largest number means no limit.
struct UlimitRoom {
    std::size_t addresses = 0; ///< ulimit -v: all mapped memory
    std::size_t data = 0;      ///< ulimit -d: private memory
};
[[nodiscard]] UlimitRoom room_under_ulimit();

} // namespace dtrain::core
