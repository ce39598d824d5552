// A pair of IDX files, plain or gzip-compressed, as dtrain-eval reads them. The first two bytes of the input say how
// long the file of labels is; it comes next, then the file of images.

#include "dtrain/data/dataset.hpp"
#include "dtrain/data/idx.hpp"

#include "fuzzing.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace {

using namespace dtrain;
using fuzzing::require;

constexpr int classes = 10;

bool is_gzip(std::span<const std::byte> file) {
    return file.size() >= 2 && file[0] == std::byte{0x1f} && file[1] == std::byte{0x8b};
}

/// `rank` is the number of dimensions, each of them four bytes of the header.
void require_elements(std::span<const std::byte> file, std::size_t rank, std::span<const std::uint8_t> elements) {
    if (!is_gzip(file)) {
        require(std::ranges::equal(file.subspan(4 + 4 * rank), std::as_bytes(elements)),
                "the elements are what follows the header");
    }
}

void read(std::span<const std::byte> labels, std::span<const std::byte> images) {
    static fuzzing::MemoryFile label_file;
    static fuzzing::MemoryFile image_file;
    label_file.write(labels);
    image_file.write(images);
    const data::Split split =
        data::load_split(image_file.path(), labels.empty() ? std::filesystem::path() : label_file.path(), classes);
    require(split.total > 0 && split.sample_size > 0, "a split holds samples");
    require(split.pixels.size() == static_cast<std::size_t>(split.total) * split.sample_size, "every pixel is there");
    require_elements(images, 1 + split.sample_shape.size(), split.pixels.values());
    if (!labels.empty()) {
        require(split.labels.size() == static_cast<std::size_t>(split.total), "every label is there");
        require(std::ranges::all_of(split.labels.values(), [](std::uint8_t label) { return label < classes; }),
                "labels are classes");
        require_elements(labels, 1, split.labels.values());
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span(data, size));
    if (size < 2) {
        return 0;
    }
    const std::size_t label_bytes = std::min<std::size_t>(size - 2, static_cast<std::size_t>(data[0]) * 256 + data[1]);
    try {
        read(input.subspan(2, label_bytes), input.subspan(2 + label_bytes));
    } catch (const core::Error& error) {
        fuzzing::require_refusal(error, core::ExitCode::bad_data);
    }
    return 0;
}
