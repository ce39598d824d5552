#include "dtrain/data/dataset.hpp"

#include "dtrain/core/memory.hpp"
#include "dtrain/data/idx.hpp"
#include "dtrain/kernels/instruction_set.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace dtrain::data {
namespace {

/// Loads the first `samples` samples of a set and validates the rest.
Split load_first(SetReader& reader, std::int64_t samples, std::size_t classes) {
    SetHeader header = reader.header();
    const core::Range rest{samples, header.samples};
    reader.require_classes(classes, {0, header.samples});
    header.samples = samples;
    Split split = allocate_split(header, {0, samples});
    reader.read(split.local, split.elements.values(), split.labels.values());
    (void)reader.finish(rest);
    return split;
}

} // namespace

core::Range samples_of_shards(std::int64_t samples, std::int64_t shards, core::Range part) noexcept {
    const std::int64_t begin = core::partition(samples, shards, part.begin).begin;
    return {begin, part.empty() ? begin : core::partition(samples, shards, part.end - 1).end};
}

Split allocate_split(const SetHeader& header, core::Range local) {
    Split split;
    split.total = header.samples;
    split.local = local;
    split.sample_shape = header.sample_shape;
    split.sample_size = header.sample_size();
    split.element = header.element;
    const auto count = static_cast<std::size_t>(local.size());
    split.elements = core::Buffer<std::byte>(count * split.sample_bytes());
    split.labels = core::Buffer<std::uint8_t>(header.labelled ? count : 0);
    return split;
}

double require_room(const SourceSettings& settings, Set set, const SetHeader& header, double room) {
    constexpr auto countable = static_cast<double>(std::numeric_limits<std::uint32_t>::max()); // as in an IDX file
    const auto bytes = static_cast<double>(header.sample_bytes() + 1);
    const auto max_samples = static_cast<std::int64_t>(std::clamp(room / bytes, 0.0, countable));
    if (header.samples > max_samples) {
        throw settings.invalid(limit_key(set), fmt::format("expected at most {}, because more samples do not fit into "
                                                           "memory",
                                                           max_samples));
    }
    return room - static_cast<double>(header.samples) * bytes;
}

Split load_set(const Source& source, Set set, std::size_t classes) {
    const std::unique_ptr<SetReader> reader = source.open(set);
    SetHeader header = reader->header();
    if (const std::int64_t limit = source.settings().limits.of(set); limit > 0) {
        header.samples = std::min(header.samples, limit);
    }
    if (set == Set::train) {
        header.samples -= std::min(source.settings().validation, header.samples);
    }
    require_room(source.settings(), set, header, static_cast<double>(core::physical_bytes()));
    return load_first(*reader, header.samples, classes);
}

Split load_split(const std::filesystem::path& images, const std::filesystem::path& labels, std::size_t classes) {
    const std::unique_ptr<SetReader> reader = open_idx_pair(images, labels);
    return load_first(*reader, reader->header().samples, classes);
}

void Split::fetch(std::int64_t local_index, std::span<float> out) const noexcept {
    const std::byte* const first = elements.data() + static_cast<std::size_t>(local_index) * sample_bytes();
    switch (element) {
    case Element::ubyte:
        to_unit_interval({reinterpret_cast<const std::uint8_t*>(first), sample_size}, out);
        break;
    case Element::float32:
        std::memcpy(out.data(), first, sample_bytes());
        break;
    }
}

void to_unit_interval(std::span<const std::uint8_t> bytes, std::span<float> out) noexcept {
    kernels::table().data.to_unit_interval(bytes.data(), out.data(), out.size());
}

} // namespace dtrain::data
