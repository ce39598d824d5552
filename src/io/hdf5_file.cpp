// Reads HDF5 files of other programs with the HDF5 library.

#include "dtrain/io/hdf5_file.hpp"

#include "dtrain/core/error.hpp"

#include "hdf5_library.hpp"
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <numeric>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace dtrain::io {
namespace {

[[noreturn]] void fail_with(const std::string& place, const std::string& problem) {
    throw core::Error(core::ExitCode::bad_data, fmt::format("{}: {}", place, problem));
}

/// Throws an error with HDF5's description of the last failure.
[[noreturn]] void cannot_read(const std::string& place) {
    fail_with(place, fmt::format("HDF5 cannot read it: {}", last_hdf5_failure().reason.data()));
}

template <class Id>
Id valid(Id id, const std::string& place) {
    if (id < 0) {
        cannot_read(place);
    }
    return id;
}

Handle valid(hid_t id, herr_t (*close)(hid_t), const std::string& place) {
    return {valid(id, place), close};
}

/// NumPy's name of an element type, or a description.
std::string type_name(hid_t type) {
    const std::size_t bits = 8 * H5Tget_size(type);
    switch (H5Tget_class(type)) {
    case H5T_INTEGER:
        return fmt::format("{}int{}", H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "", H5Tget_precision(type));
    case H5T_FLOAT:
        // The byte order does not matter, but other formats have 32 bits too.
        return bits != 32 || H5Tequal(type, H5T_IEEE_F32LE) > 0 || H5Tequal(type, H5T_IEEE_F32BE) > 0
                   ? fmt::format("float{}", bits)
                   : "floats of an unknown format";
    case H5T_STRING:
        return "text";
    case H5T_COMPOUND:
        return "compounds";
    case H5T_ENUM:
        return "an enumeration, such as bool";
    default:
        return "of another kind";
    }
}

/// Opens a file. HDF5 waits for a pipe and has unclear messages about some files, so these are checked before.
Handle open_file(const std::filesystem::path& file) {
    std::error_code error;
    const auto status = std::filesystem::status(file, error);
    if (!error && !std::filesystem::is_regular_file(status)) {
        fail_with(file.string(), "this is not a file");
    }
    if (error || !std::ifstream(file)) {
        throw core::Error(core::ExitCode::bad_data, fmt::format("cannot read {}: {}", file.string(),
                                                                error ? error.message() : std::strerror(errno)));
    }
    const hid_t id = H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    if (id < 0) {
        const Hdf5Failure failure = last_hdf5_failure();
        if (failure.kind == H5E_NOTHDF5) {
            fail_with(file.string(), "this is not an HDF5 file");
        }
        if (std::string_view(failure.reason.data())
                .starts_with(fmt::format("unable to lock file, errno = {},", EWOULDBLOCK))) {
            fail_with(file.string(), "another program has this file open for writing");
        }
    }
    return valid(id, H5Fclose, file.string());
}

/// The name of the file that contains an object.
std::string file_name(hid_t object, const std::string& place) {
    std::string name(static_cast<std::size_t>(valid(H5Fget_name(object, nullptr, 0), place)), '\0');
    valid(H5Fget_name(object, name.data(), name.size() + 1), place);
    return name;
}

/// The number of filters of a dataset. Throws unless this library has all of them.
int count_filters(hid_t creation, const std::string& place) {
    const int filters = valid(H5Pget_nfilters(creation), place);
    for (int i = 0; i < filters; ++i) {
        unsigned flags = 0;
        std::size_t no_values = 0;
        std::array<char, 64> name{};
        const H5Z_filter_t filter = valid(H5Pget_filter2(creation, static_cast<unsigned>(i), &flags, &no_values,
                                                         nullptr, name.size() - 1, name.data(), nullptr),
                                          place);
        if (H5Zfilter_avail(filter) <= 0) {
            fail_with(place,
                      fmt::format("it is compressed with filter {} ({}), which HDF5 does not have here. Write it "
                                  "with compression=\"gzip\"",
                                  filter, name.data()));
        }
    }
    return filters;
}

template <class T>
hid_t memory_type() {
    if constexpr (std::is_same_v<T, std::uint8_t>) {
        return H5T_NATIVE_UINT8;
    } else if constexpr (std::is_same_v<T, float>) {
        return H5T_NATIVE_FLOAT;
    } else {
        static_assert(std::is_same_v<T, std::int64_t>);
        return H5T_NATIVE_INT64;
    }
}

} // namespace

struct Hdf5Dataset::Handles {
    Handle file;
    Handle dataset;
};

Hdf5Dataset::Hdf5Dataset(Hdf5Dataset&&) noexcept = default;
Hdf5Dataset::~Hdf5Dataset() = default;

Hdf5Dataset::Hdf5Dataset(const std::filesystem::path& file, const std::string& path)
    : name_(fmt::format("{}: {}", file.string(), path)) {
    silence_hdf5();
    Handle opened = open_file(file);
    // The groups on the way are checked one by one, because HDF5 fails if one of them is missing.
    for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
        const std::string part = path.substr(0, end);
        if (valid(H5Lexists(opened, part.c_str(), H5P_DEFAULT), name_) == 0) {
            fail_with(file.string(), fmt::format("the file has no {}", path));
        }
        if (end == std::string::npos) {
            break;
        }
    }
    Handle dataset = valid(H5Dopen2(opened, path.c_str(), H5P_DEFAULT), H5Dclose, name_);
    if (file_name(dataset, name_) != file_name(opened, name_)) { // an external link leads to it
        fail_in_other_files();
    }

    const Handle type = valid(H5Dget_type(dataset), H5Tclose, name_);
    type_ = type_name(type);
    is_integer_ = H5Tget_class(type) == H5T_INTEGER && H5Tget_size(type) <= sizeof(std::int64_t);

    const Handle space = valid(H5Dget_space(dataset), H5Sclose, name_);
    std::vector<hsize_t> extent(static_cast<std::size_t>(valid(H5Sget_simple_extent_ndims(space), name_)));
    valid(H5Sget_simple_extent_dims(space, extent.data(), nullptr), name_);
    std::uint64_t bytes = H5Tget_size(type);
    for (const hsize_t length : extent) {
        if (__builtin_mul_overflow(bytes, length, &bytes) || bytes > std::numeric_limits<std::int64_t>::max()) {
            fail("it is too large");
        }
    }
    shape_.assign(extent.begin(), extent.end());

    const Handle creation = valid(H5Dget_create_plist(dataset), H5Pclose, name_);
    const bool filtered = count_filters(creation, name_) > 0;
    const H5D_layout_t layout = valid(H5Pget_layout(creation), name_);
    if (layout == H5D_VIRTUAL || valid(H5Pget_external_count(creation), name_) > 0) {
        fail_in_other_files();
    }
    bool complete = true;
    if (layout == H5D_CHUNKED) {
        std::vector<hsize_t> chunk(extent.size());
        valid(H5Pget_chunk(creation, static_cast<int>(chunk.size()), chunk.data()), name_);
        hsize_t expected = 1;
        std::size_t chunk_bytes = H5Tget_size(type); // HDF5 limits it to 4 GB
        for (std::size_t i = 0; i < chunk.size(); ++i) {
            const hsize_t length = std::max<hsize_t>(chunk[i], 1);
            expected *= extent[i] / length + (extent[i] % length > 0 ? 1 : 0);
            chunk_bytes *= length;
        }
        hsize_t written = 0;
        valid(H5Dget_num_chunks(dataset, space, &written), name_);
        complete = written >= expected;
        if (filtered) {
            chunk_rows_ = static_cast<std::size_t>(std::clamp<hsize_t>(chunk[0], 1, std::max<hsize_t>(extent[0], 1)));
            unpacking_bytes_ = 2 * chunk_bytes;
        }
    } else if (layout == H5D_CONTIGUOUS) {
        complete = H5Dget_storage_size(dataset) >= bytes;
    }
    if (!complete) {
        fail("a part of it was never written");
    }
    handles_ = std::make_unique<Handles>(Handles{std::move(opened), std::move(dataset)});
}

template <class T>
void Hdf5Dataset::read(core::Range rows, std::span<T> out) const {
    if (out.empty()) {
        return;
    }
    assert(out.size() * shape_.at(0) ==
           static_cast<std::size_t>(rows.size()) *
               std::accumulate(shape_.begin(), shape_.end(), std::size_t{1}, std::multiplies<>()));
    const Handle stored = valid(H5Dget_space(handles_->dataset), H5Sclose, name_);
    std::vector<hsize_t> start(shape_.size());
    std::vector<hsize_t> count(shape_.begin(), shape_.end());
    start.at(0) = static_cast<hsize_t>(rows.begin);
    count.at(0) = static_cast<hsize_t>(rows.size());
    valid(H5Sselect_hyperslab(stored, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr), name_);
    // Both spaces have the same dimensions. Otherwise HDF5 copies chunks element by element.
    const Handle memory =
        valid(H5Screate_simple(static_cast<int>(count.size()), count.data(), nullptr), H5Sclose, name_);
    valid(H5Dread(handles_->dataset, memory_type<T>(), memory, stored, H5P_DEFAULT, out.data()), name_);
}

void Hdf5Dataset::fail(const std::string& problem) const {
    fail_with(name_, problem);
}

void Hdf5Dataset::fail_in_other_files() const {
    fail("it is stored in other files. Copy it into this file");
}

template void Hdf5Dataset::read(core::Range, std::span<std::uint8_t>) const;
template void Hdf5Dataset::read(core::Range, std::span<float>) const;
template void Hdf5Dataset::read(core::Range, std::span<std::int64_t>) const;

} // namespace dtrain::io
