// Reads a pair of IDX files, plain or gzip-compressed, as dtrain-eval does. The first two bytes of the input are the
// length of the label file. The label file follows, then the image file.

#include "dtrain/data/dataset.hpp"
#include "dtrain/data/idx.hpp"

#include "fuzzing.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace {

using namespace dtrain;
using fuzzing::require;

constexpr std::size_t classes = 10;

bool is_gzip(std::span<const std::byte> file) {
    return file.size() >= 2 && file[0] == std::byte{0x1f} && file[1] == std::byte{0x8b};
}

/// `rank` is the number of dimensions. Each has four bytes in the header. Floats are big-endian in a file and
/// little-endian in memory.
void require_elements(std::span<const std::byte> file, std::size_t rank, std::span<const std::byte> elements,
                      data::Element element) {
    if (is_gzip(file)) {
        return;
    }
    const auto expected = file.subspan(4 + 4 * rank);
    require(expected.size() == elements.size(), "the elements are the bytes after the header");
    for (std::size_t i = 0; i < elements.size(); ++i) {
        const std::size_t place = element == data::Element::ubyte ? i : i ^ 3U;
        require(elements[i] == expected[place], "the elements are the bytes after the header");
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
    require(split.elements.size() == static_cast<std::size_t>(split.total) * split.sample_bytes(),
            "no element is missing");
    require_elements(images, 1 + split.sample_shape.size(), split.elements.values(), split.element);
    std::vector<float> sample(split.sample_size);
    for (std::int64_t n = 0; n < split.total; ++n) {
        split.fetch(n, sample);
        require(std::ranges::all_of(sample, [](float value) { return std::isfinite(value); }), "all values are finite");
    }
    if (!labels.empty()) {
        require(split.labels.size() == static_cast<std::size_t>(split.total), "no label is missing");
        require(std::ranges::all_of(split.labels.values(), [](std::uint8_t label) { return label < classes; }),
                "labels are classes");
        require_elements(labels, 1, std::as_bytes(split.labels.values()), data::Element::ubyte);
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
