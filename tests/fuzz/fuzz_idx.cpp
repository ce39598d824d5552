// An IDX file, plain or gzip-compressed, read to its end.

#include "dtrain/core/error.hpp"
#include "dtrain/data/idx.hpp"

#include "memory_file.hpp"
#include "require.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace {

using namespace dtrain;

/// Deflate makes at most this many bytes out of one.
constexpr std::size_t largest_expansion = 1032;

bool is_gzip(std::span<const std::byte> file) {
    return file.size() >= 2 && file[0] == std::byte{0x1f} && file[1] == std::byte{0x8b};
}

void read(std::span<const std::byte> file) {
    const MemoryFile stored(file);
    data::IdxReader reader(stored.path());
    // Readers allocate this much.
    require(reader.size() <= file.size() * (is_gzip(file) ? largest_expansion : 1), "the file bears out its size");
    std::vector<std::byte> elements(reader.size());
    reader.read(elements);
    reader.expect_end();
    if (!is_gzip(file)) {
        const std::size_t header = 4 + 4 * reader.dimensions().size();
        require(std::ranges::equal(file.subspan(header), elements), "the elements are what follows the header");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        read(std::as_bytes(std::span(data, size)));
    } catch (const core::Error& error) {
        require(error.code() == core::ExitCode::bad_data, "a bad file is bad data");
    }
    return 0;
}
