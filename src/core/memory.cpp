#include "dtrain/core/memory.hpp"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <memory>

namespace dtrain::core {
namespace {

constexpr std::size_t cache_line = 64;
constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t large = 2 * huge_page;

} // namespace

std::align_val_t alignment_of(std::size_t bytes) noexcept {
    return std::align_val_t{bytes >= large ? huge_page : cache_line};
}

void advise_huge_pages(void* block, std::size_t bytes) noexcept {
    // Only whole pages inside the block, because other data may share the first and the last page. madvise may fail.
    void* begin = block;
    if (bytes >= large && std::align(huge_page, huge_page, begin, bytes) != nullptr) {
        madvise(begin, bytes / huge_page * huge_page, MADV_HUGEPAGE);
    }
}

bool has_addresses(std::size_t bytes) noexcept {
    void* const block = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return block != MAP_FAILED && munmap(block, bytes) == 0;
}

std::size_t peak_resident_bytes() noexcept {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

std::size_t physical_bytes() noexcept {
    return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

} // namespace dtrain::core
