#include "dtrain/io/hdf5.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/core/hash.hpp"
#include "dtrain/core/number.hpp"

#include <fmt/format.h>
#include <hdf5.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace dtrain::io {
namespace {

// A file begins with an HDF5 user block, which HDF5 itself skips:
//
//   dtrain 2: XXH3-128 of everything after this line: 0123456789abcdef0123456789abcdef
//   attribute i8 epoch 3
//   attribute text config 812                              the text follows, then a newline
//   dataset f4 16x784 /model/01_dense/weight 50176 4016    bytes per piece, then where in the file each piece begins
//   end                                                    zeros up to the user block's end
//
// A piece holds whole rows, the last one of a dataset what is left. Values are little-endian.
constexpr std::string_view label = "dtrain 2: XXH3-128 of everything after this line: ";
constexpr std::string_view earlier_label = "dtrain: ";
constexpr std::size_t digest_characters = 32;
constexpr std::size_t label_bytes = label.size() + digest_characters + 1;
constexpr std::size_t smallest_user_block = 512;
constexpr std::size_t longest_name = 255;
constexpr std::size_t chunk_elements = std::size_t{1} << 20;
constexpr std::size_t fletcher32_bytes = 4;
static_assert(std::endian::native == std::endian::little, "values are copied between files and memory as they are");

/// An HDF5 identifier, closed in the end.
class Handle {
  public:
    Handle(hid_t id, herr_t (*close)(hid_t)) noexcept : id_(id), close_(close) {}
    Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
    ~Handle() {
        if (id_ >= 0) {
            close_(id_);
        }
    }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    Handle& operator=(Handle&&) = delete;
    operator hid_t() const noexcept { return id_; }

  private:
    hid_t id_;
    herr_t (*close_)(hid_t);
};
static_assert(!std::is_copy_constructible_v<Handle> && std::is_nothrow_move_constructible_v<Handle>);

/// Errors become exceptions here; HDF5's own stack never reaches a user's screen.
void silence() {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

[[noreturn]] void cannot_write(std::string_view what) {
    throw core::Error(core::ExitCode::bad_output, fmt::format("HDF5 cannot make {}", what));
}

template <class Id>
Id made(Id id, std::string_view what) {
    if (id < 0) {
        cannot_write(what);
    }
    return id;
}

Handle made(hid_t id, herr_t (*close)(hid_t), std::string_view what) {
    return {made(id, what), close};
}

template <class T>
hid_t file_type() {
    if constexpr (std::is_same_v<T, float>) {
        return H5T_IEEE_F32LE;
    } else if constexpr (std::is_same_v<T, double>) {
        return H5T_IEEE_F64LE;
    } else if constexpr (std::is_same_v<T, std::int64_t>) {
        return H5T_STD_I64LE;
    } else {
        static_assert(std::is_same_v<T, std::uint64_t>);
        return H5T_STD_U64LE;
    }
}

template <class T>
constexpr std::string_view type_name() {
    if constexpr (std::is_same_v<T, float>) {
        return "f4";
    } else if constexpr (std::is_same_v<T, double>) {
        return "f8";
    } else if constexpr (std::is_same_v<T, std::int64_t>) {
        return "i8";
    } else {
        static_assert(std::is_same_v<T, std::uint64_t>);
        return "u8";
    }
}

/// A dataset as it lies in the HDF5 file.
struct Written {
    std::string description; ///< "f4 16x784 /model/01_dense/weight"
    std::size_t piece_bytes = 0;
    std::vector<std::size_t> offsets; ///< of the pieces, from the beginning of the HDF5 file
};

Written write(hid_t file, const DatasetView& dataset) {
    return std::visit(
        [&](auto values) {
            using T = std::remove_const_t<typename decltype(values)::element_type>;
            std::vector<hsize_t> extent(dataset.shape.begin(), dataset.shape.end());
            std::vector<hsize_t> limit = extent;
            std::vector<hsize_t> chunk = extent;
            hsize_t row = 1;
            for (std::size_t i = 1; i < chunk.size(); ++i) {
                chunk[i] = std::max<hsize_t>(chunk[i], 1);
                row *= chunk[i];
            }
            chunk[0] = std::clamp<hsize_t>(chunk_elements / row, 1, std::max<hsize_t>(extent[0], 1));
            if (extent[0] == 0) {
                limit[0] = H5S_UNLIMITED; // a chunk may not exceed a fixed extent
            }
            const auto rank = static_cast<int>(extent.size());
            const Handle space = made(H5Screate_simple(rank, extent.data(), limit.data()), H5Sclose, dataset.path);
            const Handle creation = made(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, dataset.path);
            made(H5Pset_chunk(creation, rank, chunk.data()), dataset.path);
            made(H5Pset_fletcher32(creation), dataset.path);
            made(H5Pset_obj_track_times(creation, false), dataset.path);
            const Handle links = made(H5Pcreate(H5P_LINK_CREATE), H5Pclose, dataset.path);
            made(H5Pset_create_intermediate_group(links, 1), dataset.path);
            const hid_t type = file_type<T>();
            const Handle id = made(H5Dcreate2(file, dataset.path.c_str(), type, space, links, creation, H5P_DEFAULT),
                                   H5Dclose, dataset.path);
            made(H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), dataset.path);
            made(H5Dflush(id), dataset.path);

            Written written{fmt::format("{} {} {}", type_name<T>(), fmt::join(extent, "x"), dataset.path),
                            chunk[0] * row * sizeof(T),
                            {}};
            std::vector<hsize_t> corner(extent.size());
            for (; !values.empty() && corner[0] < extent[0]; corner[0] += chunk[0]) {
                unsigned skipped_filters = 0;
                haddr_t offset = HADDR_UNDEF;
                hsize_t bytes = 0;
                made(H5Dget_chunk_info_by_coord(id, corner.data(), &skipped_filters, &offset, &bytes), dataset.path);
                if (offset == HADDR_UNDEF || skipped_filters != 0 || bytes != written.piece_bytes + fletcher32_bytes) {
                    cannot_write(dataset.path);
                }
                written.offsets.push_back(offset);
            }
            return written;
        },
        dataset.values);
}

Handle text_type() {
    Handle type = made(H5Tcopy(H5T_C_S1), H5Tclose, "a string type");
    made(H5Tset_size(type, H5T_VARIABLE), "a string type");
    made(H5Tset_cset(type, H5T_CSET_UTF8), "a string type");
    return type;
}

void write_attribute(hid_t file, const std::string& name, hid_t stored, hid_t memory, const void* value) {
    const std::size_t own = name.rfind('/') + 1; // 0 where it is the root's
    const std::string owner = own == 0 ? "/" : name.substr(0, own);
    const Handle space = made(H5Screate(H5S_SCALAR), H5Sclose, name);
    const Handle id = made(H5Acreate_by_name(file, owner.c_str(), name.c_str() + own, stored, space, H5P_DEFAULT,
                                             H5P_DEFAULT, H5P_DEFAULT),
                           H5Aclose, name);
    made(H5Awrite(id, memory, value), name);
}

} // namespace

std::vector<std::byte> to_hdf5(std::span<const DatasetView> datasets, const Attributes& attributes) {
    silence();
    const Handle access = made(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "a property list");
    made(H5Pset_fapl_core(access, std::size_t{1} << 20, 0), "a file in memory");
    const Handle file = made(H5Fcreate("in-memory", H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose, "a file in memory");
    std::vector<Written> written;
    for (const DatasetView& dataset : datasets) {
        written.push_back(write(file, dataset));
    }
    std::string index;
    for (const auto& [name, value] : attributes) {
        if (const auto* text = std::get_if<std::string>(&value)) {
            const char* const characters = text->c_str();
            const Handle type = text_type();
            write_attribute(file, name, type, type, static_cast<const void*>(&characters));
            index += fmt::format("attribute text {} {}\n{}\n", name, text->size(), *text);
        } else if (const auto* integer = std::get_if<std::int64_t>(&value)) {
            write_attribute(file, name, file_type<std::int64_t>(), H5T_NATIVE_INT64, integer);
            index += fmt::format("attribute i8 {} {}\n", name, *integer);
        } else if (const auto* real = std::get_if<double>(&value)) {
            write_attribute(file, name, file_type<double>(), H5T_NATIVE_DOUBLE, real);
            index += fmt::format("attribute f8 {} {}\n", name, *real);
        } else {
            const std::uint64_t number = std::get<std::uint64_t>(value);
            write_attribute(file, name, file_type<std::uint64_t>(), H5T_NATIVE_UINT64, &number);
            index += fmt::format("attribute u8 {} {}\n", name, number);
        }
    }
    made(H5Fflush(file, H5F_SCOPE_LOCAL), "a file in memory");

    const auto datasets_behind = [&](std::size_t user_block) {
        std::string lines;
        for (const Written& dataset : written) {
            lines += fmt::format("dataset {} {}", dataset.description, dataset.piece_bytes);
            for (const std::size_t offset : dataset.offsets) {
                lines += fmt::format(" {}", user_block + offset);
            }
            lines += '\n';
        }
        return lines + "end\n";
    };
    // As long as the index can become: offsets have more digits the larger the user block is.
    const std::size_t longest = label_bytes + index.size() + datasets_behind(std::size_t{1} << 62).size();
    const std::size_t user_block = std::max(smallest_user_block, std::bit_ceil(longest));
    index += datasets_behind(user_block);

    // HDF5 looks for its signature at every power of two from 512 and counts its addresses from there.
    const ssize_t size = made(H5Fget_file_image(file, nullptr, 0), "a file in memory");
    std::vector<std::byte> bytes(user_block + static_cast<std::size_t>(size));
    made(H5Fget_file_image(file, bytes.data() + user_block, static_cast<std::size_t>(size)), "a file in memory");
    std::memcpy(bytes.data() + label_bytes, index.data(), index.size());
    const std::string line = fmt::format("{}{}\n", label, core::hash128(std::span(bytes).subspan(label_bytes)));
    std::memcpy(bytes.data(), line.data(), line.size());
    return bytes;
}

namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> words;
    for (;;) {
        const std::size_t end = text.find(separator);
        words.push_back(text.substr(0, end));
        if (end == std::string_view::npos) {
            return words;
        }
        text.remove_prefix(end + 1);
    }
}

} // namespace

Hdf5Image::Hdf5Image(std::vector<std::byte> bytes, std::string origin)
    : origin_(std::move(origin)), bytes_(std::move(bytes)) {
    std::string_view text(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
    if (text.starts_with(earlier_label)) {
        throw core::Error(core::ExitCode::bad_checkpoint,
                          fmt::format("{}: written by an earlier version of dtrain, in a format that this one does "
                                      "not read",
                                      origin_));
    }
    if (!text.starts_with(label) || text.size() < label_bytes) {
        fail("not a file written by dtrain");
    }
    if (text.substr(label.size(), digest_characters) != core::hash128(std::span(bytes_).subspan(label_bytes)) ||
        text[label_bytes - 1] != '\n') {
        fail("damaged: its checksum does not match its contents");
    }
    text.remove_prefix(label_bytes);
    read_index(text);
}

void Hdf5Image::fail(const std::string& problem) const {
    throw DamagedFile(fmt::format("{}: {}", origin_, problem));
}

template <class T>
T Hdf5Image::number(std::string_view word) const {
    if (const auto value = core::parse_number<T>(word)) {
        return *value;
    }
    fail("its index has something else where a number should be");
}

void Hdf5Image::read_index(std::string_view text) {
    const auto take = [&](std::size_t length) {
        if (length >= text.size() || text[length] != '\n') {
            fail("its index is cut off");
        }
        const std::string_view taken = text.substr(0, length);
        text.remove_prefix(length + 1);
        return taken;
    };
    // Messages may show names: short ones, that leave a terminal alone.
    const auto check_name = [this](std::string_view name) {
        const auto visible = [](char c) { return c > ' ' && c < '\x7f'; };
        if (name.empty() || name.size() > longest_name || !std::ranges::all_of(name, visible)) {
            fail("its index has an impossible name");
        }
    };
    const auto add = [this](auto& map, std::string_view name, auto value) {
        if (!map.emplace(name, std::move(value)).second) {
            fail(fmt::format("its index has {} twice", name));
        }
    };
    std::size_t bytes_left = bytes_.size();
    for (;;) {
        const std::vector<std::string_view> words = split(take(text.find('\n')), ' ');
        if (words[0] == "end" && words.size() == 1) {
            return;
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
                fail(fmt::format("attribute {} is of an unknown type", words[2]));
            }
        } else if (words[0] == "dataset" && words.size() >= 5) {
            check_name(words[3]);
            Dataset dataset = read_dataset(words);
            // All of them together, so that a file is never a small one that unfolds into a large one.
            if (dataset.bytes > bytes_left) {
                fail(fmt::format("dataset {} claims more than the file holds", words[3]));
            }
            bytes_left -= dataset.bytes;
            add(datasets_, words[3], std::move(dataset));
        } else {
            fail("its index has an unknown line");
        }
    }
}

Hdf5Image::Dataset Hdf5Image::read_dataset(std::span<const std::string_view> words) const {
    const std::string_view path = words[3];
    Dataset dataset;
    dataset.type = words[1];
    if (dataset.type == "f4") {
        dataset.bytes = 4;
    } else if (dataset.type == "f8" || dataset.type == "i8" || dataset.type == "u8") {
        dataset.bytes = 8;
    } else {
        fail(fmt::format("dataset {} is of an unknown type", path));
    }
    for (const std::string_view word : split(words[2], 'x')) {
        const auto extent = number<std::size_t>(word);
        if (extent > bytes_.size() || __builtin_mul_overflow(dataset.bytes, extent, &dataset.bytes)) {
            fail(fmt::format("dataset {} claims more than the file holds", path));
        }
        dataset.shape.push_back(extent);
    }
    dataset.piece_bytes = number<std::size_t>(words[4]);
    std::size_t bytes = dataset.bytes;
    for (const std::string_view word : words.subspan(5)) {
        const auto offset = number<std::size_t>(word);
        const std::size_t piece = std::min(bytes, dataset.piece_bytes);
        if (piece == 0 || offset > bytes_.size() || piece > bytes_.size() - offset) {
            fail(fmt::format("dataset {} lies outside of the file", path));
        }
        bytes -= piece;
        dataset.offsets.push_back(offset);
    }
    if (bytes > 0) {
        fail(fmt::format("dataset {} is not there as a whole", path));
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
        fail(fmt::format("dataset {} has {} elements where {} fit", path, stored.bytes / sizeof(T), out.size()));
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
