// Reads files without the HDF5 library.

#include "dtrain/core/hash.hpp"
#include "dtrain/core/number.hpp"
#include "dtrain/io/hdf5.hpp"

#include "hdf5_format.hpp"
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>

namespace dtrain::io {
namespace {

/// Labels begin with "dtrain ", the version of the index and a colon.
bool is_of_later_version(std::string_view text) {
    constexpr std::string_view start = label.substr(0, label.find_first_of("0123456789"));
    if (!text.starts_with(start)) {
        return false;
    }
    const std::string_view word = text.substr(start.size(), text.find(':') - start.size());
    const auto version = core::parse_number<int>(word);
    return version && *version > index_version;
}

constexpr std::string_view restore_original =
    "The file is damaged or another program, such as h5repack, changed it; put back the file that dtrain wrote";

} // namespace

Hdf5Image::Hdf5Image(std::vector<std::byte> bytes, std::string origin)
    : origin_(std::move(origin)), bytes_(std::move(bytes)) {
    std::string_view text(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
    if (text.starts_with(label_1)) {
        throw core::Error(core::ExitCode::bad_checkpoint,
                          fmt::format("{}: an earlier version of dtrain wrote this file, and this version cannot "
                                      "read its format",
                                      origin_));
    }
    if (is_of_later_version(text)) {
        throw core::Error(
            core::ExitCode::bad_checkpoint,
            fmt::format("{}: a later version of dtrain wrote this file, and this version cannot read its format",
                        origin_));
    }
    const bool of_pieces = text.starts_with(label);
    const std::size_t digest_at = of_pieces ? label.size() : label_2.size();
    const std::size_t index_at = digest_at + digest_characters + 1;
    if (!(of_pieces || text.starts_with(label_2)) || text.size() < index_at) {
        throw DamagedFile(fmt::format("{}: damaged, or not a file that dtrain wrote: its beginning is not the index "
                                      "that dtrain writes",
                                      origin_));
    }
    const std::size_t index_bytes = read_index(text.substr(index_at), of_pieces);
    const std::size_t digest_of = of_pieces ? index_bytes : bytes_.size() - index_at;
    if (text.substr(digest_at, digest_characters) != core::hash128(std::span(bytes_).subspan(index_at, digest_of)) ||
        text[index_at - 1] != '\n') {
        fail(of_pieces ? "the index does not match its checksum"
                       : "the contents do not match their checksum; the file may have been changed by another program");
    }
    const auto is_changed = [](const auto& dataset) { return !dataset.second.intact; };
    if (const auto changed = std::ranges::count_if(datasets_, is_changed); changed > 0) {
        fail(fmt::format("{} of its {} datasets (the first is {}) do not match their checksums. {}", changed,
                         datasets_.size(), std::ranges::find_if(datasets_, is_changed)->first, restore_original));
    }
}

void Hdf5Image::fail(const std::string& problem) const {
    throw DamagedFile(fmt::format("{}: damaged: {}", origin_, problem));
}

template <class T>
T Hdf5Image::number(std::string_view word) const {
    if (const auto value = core::parse_number<T>(word)) {
        return *value;
    }
    fail("a number in the index is invalid");
}

std::size_t Hdf5Image::read_index(std::string_view text, bool of_pieces) {
    const std::size_t bytes = text.size();
    const auto take = [&](std::size_t length) {
        if (length >= text.size() || text[length] != '\n') {
            fail("the index is truncated");
        }
        const std::string_view taken = text.substr(0, length);
        text.remove_prefix(length + 1);
        return taken;
    };
    // Messages contain these names, so they must be short and have no control characters.
    const auto check_name = [this](std::string_view name) {
        constexpr std::size_t max_name = 255;
        const auto visible = [](char c) { return c > ' ' && c < '\x7f'; };
        if (name.empty() || name.size() > max_name || !std::ranges::all_of(name, visible)) {
            fail("a name in the index is invalid");
        }
    };
    const auto add = [this](auto& map, std::string_view name, auto value) {
        if (!map.emplace(name, std::move(value)).second) {
            fail(fmt::format("the index has {} twice", name));
        }
    };
    std::size_t bytes_left = bytes_.size();
    for (;;) {
        const std::vector<std::string_view> words = split(take(text.find('\n')), ' ');
        if (words[0] == "end" && words.size() == 1) {
            return bytes - text.size();
        }
        if (words[0] == "attribute" && words.size() == 4) {
            check_name(words[2]);
            if (words[1] == "text") {
                add(attributes_, words[2], std::string(take(number<std::size_t>(words[3]))));
            } else if (words[1] == "i8") {
                add(attributes_, words[2], number<std::int64_t>(words[3]));
            } else if (words[1] == "u8") {
                add(attributes_, words[2], number<std::uint64_t>(words[3]));
            } else if (words[1] == "f8") {
                add(attributes_, words[2], number<double>(words[3]));
            } else {
                fail(fmt::format("attribute {} has an unknown type", words[2]));
            }
        } else if (words[0] == "dataset" && words.size() >= 5) {
            check_name(words[3]);
            Dataset dataset = read_dataset(words, of_pieces);
            // The sum of all datasets is limited, so that overlapping datasets in a small file cannot use much memory.
            if (dataset.bytes > bytes_left) {
                fail(fmt::format("dataset {} is larger than the file", words[3]));
            }
            bytes_left -= dataset.bytes;
            add(datasets_, words[3], std::move(dataset));
        } else if (words[0] == "bytes" && words.size() == 2) {
            if (number<std::size_t>(words[1]) > bytes_.size()) {
                fail(fmt::format("truncated: the file had {} bytes and now has {}. {}", words[1], bytes_.size(),
                                 restore_original));
            }
        } else {
            fail("a line of the index is unknown");
        }
    }
}

Hdf5Image::Dataset Hdf5Image::read_dataset(std::span<const std::string_view> words, bool of_pieces) const {
    const std::string_view path = words[3];
    Dataset dataset;
    dataset.type = words[1];
    if (dataset.type == "f4") {
        dataset.bytes = 4;
    } else if (dataset.type == "f8" || dataset.type == "i8" || dataset.type == "u8") {
        dataset.bytes = 8;
    } else {
        fail(fmt::format("dataset {} has an unknown type", path));
    }
    for (const std::string_view word : split(words[2], 'x')) {
        const auto extent = number<std::size_t>(word);
        if (extent > bytes_.size() || __builtin_mul_overflow(dataset.bytes, extent, &dataset.bytes)) {
            fail(fmt::format("dataset {} is larger than the file", path));
        }
        dataset.shape.push_back(extent);
    }
    if (dataset.bytes > bytes_.size()) { // otherwise many overlapping pieces could take very long to check
        fail(fmt::format("dataset {} is larger than the file", path));
    }
    dataset.piece_bytes = number<std::size_t>(words[4]);
    std::size_t bytes = dataset.bytes;
    for (words = words.subspan(5); !words.empty(); words = words.subspan(of_pieces ? 2 : 1)) {
        const auto offset = number<std::size_t>(words[0]);
        const std::size_t piece = std::min(bytes, dataset.piece_bytes);
        if (piece == 0 || offset > bytes_.size() || piece > bytes_.size() - offset) {
            fail(fmt::format("dataset {} is outside the file", path));
        }
        if (of_pieces) {
            if (words.size() < 2) {
                fail(fmt::format("dataset {} has a piece without a checksum", path));
            }
            dataset.intact = dataset.intact && words[1] == core::hash128(std::span(bytes_).subspan(offset, piece));
        }
        bytes -= piece;
        dataset.offsets.push_back(offset);
    }
    if (bytes > 0) {
        fail(fmt::format("dataset {} is incomplete", path));
    }
    return dataset;
}

template <class T>
const T& Hdf5Image::attribute(const std::string& name, std::string_view kind) const {
    const auto found = attributes_.find(name);
    const T* const value = found == attributes_.end() ? nullptr : std::get_if<T>(&found->second);
    if (value == nullptr) {
        fail(fmt::format("attribute {} is missing or not {}", name, kind));
    }
    return *value;
}

std::int64_t Hdf5Image::integer(const std::string& name) const {
    return attribute<std::int64_t>(name, "an integer");
}

std::uint64_t Hdf5Image::unsigned_integer(const std::string& name) const {
    return attribute<std::uint64_t>(name, "an unsigned integer");
}

double Hdf5Image::real(const std::string& name) const {
    return attribute<double>(name, "a number");
}

const std::string& Hdf5Image::text(const std::string& name) const {
    return attribute<std::string>(name, "a text");
}

bool Hdf5Image::has_attribute(const std::string& name) const {
    return attributes_.contains(name);
}

bool Hdf5Image::has(const std::string& path) const {
    return datasets_.contains(path);
}

const Hdf5Image::Dataset& Hdf5Image::dataset(const std::string& path) const {
    const auto found = datasets_.find(path);
    if (found == datasets_.end()) {
        fail(fmt::format("dataset {} is missing", path));
    }
    return found->second;
}

const std::vector<std::size_t>& Hdf5Image::shape(const std::string& path) const {
    return dataset(path).shape;
}

template <class T>
void Hdf5Image::read(const std::string& path, std::span<T> out) const {
    const Dataset& stored = dataset(path);
    if (stored.type != type_name<T>()) {
        fail(fmt::format("dataset {} has elements of type {}, expected {}", path, stored.type, type_name<T>()));
    }
    if (stored.bytes != out.size_bytes()) {
        fail(fmt::format("dataset {} has {} elements, expected {}", path, stored.bytes / sizeof(T), out.size()));
    }
    std::span<std::byte> rest = std::as_writable_bytes(out);
    for (const std::size_t offset : stored.offsets) {
        const std::size_t piece = std::min(rest.size(), stored.piece_bytes);
        std::memcpy(rest.data(), bytes_.data() + offset, piece);
        rest = rest.subspan(piece);
    }
}

template <class T>
std::vector<T> Hdf5Image::values(const std::string& path) const {
    std::vector<T> out(dataset(path).bytes / sizeof(T));
    read(path, std::span(out));
    return out;
}

template void Hdf5Image::read(const std::string&, std::span<float>) const;
template std::vector<float> Hdf5Image::values(const std::string&) const;
template std::vector<double> Hdf5Image::values(const std::string&) const;
template std::vector<std::int64_t> Hdf5Image::values(const std::string&) const;
template std::vector<std::uint64_t> Hdf5Image::values(const std::string&) const;

} // namespace dtrain::io
