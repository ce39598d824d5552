#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <new>
#include <optional>

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

/// What the processes of a control group may have together: a container's limit, a Slurm step's.
struct GroupLimit {
    std::size_t bytes = 0;
    std::uint64_t group = 0; ///< tells groups of this machine apart
};
/// The tightest limit that this process is under, as of cgroup v1 or v2, if there is one; as it is found below `root`.
[[nodiscard]] std::optional<GroupLimit> group_limit(const std::filesystem::path& root = "/");

/// What its own limits (ulimit -v and -d) leave to this process beyond what it has; the largest number where there are
/// none.
[[nodiscard]] std::size_t bytes_left_by_ulimit();

} // namespace dtrain::core
