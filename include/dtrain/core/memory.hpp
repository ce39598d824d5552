#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <new>
#include <vector>

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

/// Physical memory that this process has at present and that is not a file's.
[[nodiscard]] std::size_t own_bytes();

/// The physical memory of this machine.
[[nodiscard]] std::size_t physical_bytes() noexcept;
/// And what of it is free at present, or held by files that can go.
[[nodiscard]] std::size_t available_bytes();

/// What the processes of a control group may have together: a container's limit, a Slurm step's.
struct GroupLimit {
    std::size_t bytes = 0;
    std::uint64_t group = 0; ///< tells groups of this machine apart
};
/// The limits that this process is under, as of cgroup v1 or v2; as they are found below `root`.
[[nodiscard]] std::vector<GroupLimit> group_limits(const std::filesystem::path& root = "/");

/// What this process may have beyond what it has by its own limits; the largest number where there are none.
struct UlimitRoom {
    std::size_t addresses = 0; ///< ulimit -v: of all memory that is mapped
    std::size_t data = 0;      ///< ulimit -d: of memory that it alone has
};
[[nodiscard]] UlimitRoom room_under_ulimit();

} // namespace dtrain::core
