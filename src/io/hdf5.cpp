#include "dtrain/io/hdf5.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/core/hash.hpp"

#include <fmt/format.h>
#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <utility>

namespace dtrain::io {
namespace {

constexpr std::size_t user_block_bytes = 512;
constexpr std::string_view user_block_text = "dtrain: XXH3-128 of everything after these 512 bytes: ";
constexpr std::size_t digest_characters = 32;
constexpr std::size_t chunk_elements = std::size_t{1} << 20;

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
    [[nodiscard]] bool valid() const noexcept { return id_ >= 0; }
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
hid_t memory_type() {
    return H5Tget_native_type(file_type<T>(), H5T_DIR_DEFAULT);
}

/// A file in memory only.
Handle in_memory_access() {
    Handle access = made(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "a property list");
    made(H5Pset_fapl_core(access, std::size_t{1} << 20, 0), "a file in memory");
    return access;
}

void write(hid_t file, const DatasetView& dataset) {
    std::visit(
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
            const Handle id =
                made(H5Dcreate2(file, dataset.path.c_str(), file_type<T>(), space, links, creation, H5P_DEFAULT),
                     H5Dclose, dataset.path);
            const Handle type = made(memory_type<T>(), H5Tclose, dataset.path);
            made(H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), dataset.path);
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
    const Handle space = made(H5Screate(H5S_SCALAR), H5Sclose, name);
    const Handle id = made(H5Acreate2(file, name.c_str(), stored, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose, name);
    made(H5Awrite(id, memory, value), name);
}

} // namespace

std::vector<std::byte> to_hdf5(std::span<const DatasetView> datasets, const Attributes& attributes) {
    silence();
    const Handle access = in_memory_access();
    const Handle creation = made(H5Pcreate(H5P_FILE_CREATE), H5Pclose, "a property list");
    made(H5Pset_userblock(creation, user_block_bytes), "a user block");
    const Handle file = made(H5Fcreate("in-memory", H5F_ACC_TRUNC, creation, access), H5Fclose, "a file in memory");
    for (const DatasetView& dataset : datasets) {
        write(file, dataset);
    }
    for (const auto& [name, value] : attributes) {
        if (const auto* text = std::get_if<std::string>(&value)) {
            const char* const characters = text->c_str();
            const Handle type = text_type();
            write_attribute(file, name, type, type, static_cast<const void*>(&characters));
        } else if (const auto* integer = std::get_if<std::int64_t>(&value)) {
            write_attribute(file, name, file_type<std::int64_t>(), H5T_NATIVE_INT64, integer);
        } else {
            write_attribute(file, name, file_type<std::uint64_t>(), H5T_NATIVE_UINT64, &std::get<std::uint64_t>(value));
        }
    }
    made(H5Fflush(file, H5F_SCOPE_LOCAL), "a file in memory");
    // The image begins behind the user block.
    const ssize_t size = made(H5Fget_file_image(file, nullptr, 0), "a file in memory");
    std::vector<std::byte> bytes(user_block_bytes + static_cast<std::size_t>(size));
    const std::span<std::byte> image = std::span(bytes).subspan(user_block_bytes);
    made(H5Fget_file_image(file, image.data(), image.size()), "a file in memory");

    const std::string label = std::string(user_block_text) + core::hash128(image) + "\n";
    std::memcpy(bytes.data(), label.data(), label.size());
    return bytes;
}

struct Hdf5Image::Open {
    Handle file;
};

Hdf5Image::Hdf5Image(std::vector<std::byte> bytes, std::string origin)
    : origin_(std::move(origin)), bytes_(std::move(bytes)) {
    silence();
    const std::string_view label(reinterpret_cast<const char*>(bytes_.data()),
                                 std::min(bytes_.size(), user_block_bytes));
    if (!label.starts_with(user_block_text) || bytes_.size() <= user_block_bytes) {
        fail("not a file written by dtrain");
    }
    if (label.substr(user_block_text.size(), digest_characters) !=
        core::hash128(std::span(bytes_).subspan(user_block_bytes))) {
        fail("damaged: its checksum does not match its contents");
    }
    const Handle access = in_memory_access();
    made(H5Pset_file_image(access, bytes_.data(), bytes_.size()), "a file in memory");
    Handle file(H5Fopen("in-memory", H5F_ACC_RDONLY, access), H5Fclose);
    if (!file.valid()) {
        fail("not an HDF5 file");
    }
    open_ = std::make_unique<Open>(Open{std::move(file)});
}

Hdf5Image::Hdf5Image(Hdf5Image&& other) noexcept = default;
Hdf5Image::~Hdf5Image() = default;

void Hdf5Image::fail(const std::string& problem) const {
    throw DamagedFile(fmt::format("{}: {}", origin_, problem));
}

void Hdf5Image::read_integer(const std::string& attribute, std::int64_t memory_type, void* value) const {
    const Handle id(H5Aopen(open_->file, attribute.c_str(), H5P_DEFAULT), H5Aclose);
    const Handle space(id.valid() ? H5Aget_space(id) : H5I_INVALID_HID, H5Sclose);
    const Handle type(id.valid() ? H5Aget_type(id) : H5I_INVALID_HID, H5Tclose);
    if (!type.valid() || !space.valid() || H5Tget_class(type) != H5T_INTEGER ||
        H5Sget_simple_extent_npoints(space) != 1 || H5Aread(id, memory_type, value) < 0) {
        fail(fmt::format("attribute {} is missing or not an integer", attribute));
    }
}

std::int64_t Hdf5Image::integer(const std::string& attribute) const {
    std::int64_t value = 0;
    read_integer(attribute, H5T_NATIVE_INT64, &value);
    return value;
}

std::uint64_t Hdf5Image::unsigned_integer(const std::string& attribute) const {
    std::uint64_t value = 0;
    read_integer(attribute, H5T_NATIVE_UINT64, &value);
    return value;
}

std::string Hdf5Image::text(const std::string& attribute) const {
    const Handle id(H5Aopen(open_->file, attribute.c_str(), H5P_DEFAULT), H5Aclose);
    const Handle space(id.valid() ? H5Aget_space(id) : H5I_INVALID_HID, H5Sclose);
    const Handle type(id.valid() ? H5Aget_type(id) : H5I_INVALID_HID, H5Tclose);
    char* characters = nullptr;
    if (!type.valid() || !space.valid() || H5Tis_variable_str(type) <= 0 || H5Sget_simple_extent_npoints(space) != 1 ||
        H5Aread(id, text_type(), static_cast<void*>(&characters)) < 0 || characters == nullptr) {
        fail(fmt::format("attribute {} is missing or not a text", attribute));
    }
    std::string value(characters);
    H5free_memory(characters);
    return value;
}

bool Hdf5Image::has(const std::string& path) const {
    // H5Lexists wants every group on the way to exist.
    for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
        if (H5Lexists(open_->file, path.substr(0, slash).c_str(), H5P_DEFAULT) <= 0) {
            return false;
        }
        if (slash == std::string::npos) {
            return true;
        }
    }
}

std::vector<std::string> Hdf5Image::members(const std::string& group) const {
    std::vector<std::string> names;
    const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
        static_cast<std::vector<std::string>*>(out)->emplace_back(name);
        return 0;
    };
    const Handle id(H5Gopen2(open_->file, group.c_str(), H5P_DEFAULT), H5Gclose);
    if (!id.valid() || H5Literate(id, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect, &names) < 0) {
        fail(fmt::format("group {} is missing or damaged", group));
    }
    return names;
}

namespace {

/// A dataset whose claims about its size the file's own size bears out.
struct OpenDataset {
    Handle id;
    std::vector<std::size_t> shape;
    std::size_t elements = 0;
};

OpenDataset open_dataset(const Hdf5Image& image, hid_t file, const std::string& path, std::size_t file_bytes) {
    OpenDataset dataset{Handle(H5Dopen2(file, path.c_str(), H5P_DEFAULT), H5Dclose), {}, 1};
    if (!dataset.id.valid()) {
        image.fail(fmt::format("dataset {} is missing or damaged", path));
    }
    const Handle space(H5Dget_space(dataset.id), H5Sclose);
    const Handle creation(H5Dget_create_plist(dataset.id), H5Pclose);
    const int rank = space.valid() ? H5Sget_simple_extent_ndims(space) : -1;
    if (rank < 1 || rank > H5S_MAX_RANK || !creation.valid() || H5Pget_layout(creation) != H5D_CHUNKED) {
        image.fail(fmt::format("dataset {} is not stored the way dtrain does", path));
    }
    std::array<hsize_t, H5S_MAX_RANK> extent{};
    std::array<hsize_t, H5S_MAX_RANK> chunk{};
    if (H5Sget_simple_extent_dims(space, extent.data(), nullptr) != rank ||
        H5Pget_chunk(creation, H5S_MAX_RANK, chunk.data()) != rank) {
        image.fail(fmt::format("dataset {} is damaged", path));
    }
    // Unsigned overflow aside, sizes are refused before anything is allocated for them.
    std::size_t in_chunk = 1;
    for (int i = 0; i < rank; ++i) {
        const auto axis = static_cast<std::size_t>(i);
        if (__builtin_mul_overflow(dataset.elements, extent[axis], &dataset.elements) ||
            __builtin_mul_overflow(in_chunk, chunk[axis], &in_chunk) || dataset.elements > file_bytes ||
            in_chunk > file_bytes) {
            image.fail(fmt::format("dataset {} claims more than the file holds", path));
        }
        dataset.shape.push_back(extent[axis]);
    }
    if (H5Pget_nfilters(creation) != 1) {
        image.fail(fmt::format("dataset {} is not stored the way dtrain does", path));
    }
    unsigned flags = 0;
    unsigned configuration = 0;
    std::size_t values = 0;
    if (H5Pget_filter2(creation, 0, &flags, &values, nullptr, 0, nullptr, &configuration) != H5Z_FILTER_FLETCHER32) {
        image.fail(fmt::format("dataset {} has no Fletcher32 checksum", path));
    }
    return dataset;
}

template <class T>
void read_values(const Hdf5Image& image, const OpenDataset& dataset, const std::string& path, std::span<T> out) {
    const Handle stored(H5Dget_type(dataset.id), H5Tclose);
    if (!stored.valid() || H5Tequal(stored, file_type<T>()) <= 0) {
        image.fail(fmt::format("dataset {} has another element type than it should", path));
    }
    if (dataset.elements != out.size()) {
        image.fail(fmt::format("dataset {} has {} elements where {} fit", path, dataset.elements, out.size()));
    }
    const Handle type(memory_type<T>(), H5Tclose);
    if (H5Dread(dataset.id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out.data()) < 0) {
        image.fail(fmt::format("dataset {} is damaged", path));
    }
}

} // namespace

std::vector<std::size_t> Hdf5Image::shape(const std::string& path) const {
    return open_dataset(*this, open_->file, path, bytes_.size()).shape;
}

void Hdf5Image::read(const std::string& path, std::span<float> out) const {
    read_values(*this, open_dataset(*this, open_->file, path, bytes_.size()), path, out);
}

void Hdf5Image::read(const std::string& path, std::span<double> out) const {
    read_values(*this, open_dataset(*this, open_->file, path, bytes_.size()), path, out);
}

void Hdf5Image::read(const std::string& path, std::span<std::int64_t> out) const {
    read_values(*this, open_dataset(*this, open_->file, path, bytes_.size()), path, out);
}

template <class T>
std::vector<T> Hdf5Image::values(const std::string& path) const {
    const OpenDataset dataset = open_dataset(*this, open_->file, path, bytes_.size());
    std::vector<T> out(dataset.elements);
    read_values(*this, dataset, path, std::span(out));
    return out;
}

template std::vector<float> Hdf5Image::values(const std::string&) const;
template std::vector<double> Hdf5Image::values(const std::string&) const;
template std::vector<std::int64_t> Hdf5Image::values(const std::string&) const;
template std::vector<std::uint64_t> Hdf5Image::values(const std::string&) const;

} // namespace dtrain::io
