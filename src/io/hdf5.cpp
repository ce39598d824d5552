// Writes HDF5 files with the HDF5 library.

#include "dtrain/io/hdf5.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/core/hash.hpp"

#include "hdf5_format.hpp"
#include "hdf5_library.hpp"
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <string_view>
#include <type_traits>

namespace dtrain::io {
namespace {

constexpr std::size_t min_user_block = 512;
constexpr std::size_t chunk_elements = std::size_t{1} << 20;
constexpr std::size_t fletcher32_bytes = 4;

/// Throws an error with HDF5's description of the last failure.
[[noreturn]] void cannot_write(std::string_view what) {
    const Hdf5Failure failure = last_hdf5_failure();
    if (failure.kind == H5E_NOSPACE ||
        failure.kind == H5E_CANTALLOC) { // the file is in memory, so this is a lack of memory
        throw std::bad_alloc();
    }
    throw core::Error(core::ExitCode::bad_output, fmt::format("HDF5 cannot write {}: {}", what, failure.reason.data()));
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
    constexpr bool real = std::is_floating_point_v<T>;
    return sizeof(T) == 4        ? H5T_IEEE_F32LE
           : real                ? H5T_IEEE_F64LE
           : std::is_signed_v<T> ? H5T_STD_I64LE
                                 : H5T_STD_U64LE;
}

/// The position and digests of a dataset in the HDF5 file.
struct Written {
    std::string description; ///< "f4 16x784 /model/01_dense/weight"
    std::size_t piece_bytes = 0;
    struct Piece {
        std::size_t offset; ///< from the end of the user block
        std::string digest;
    };
    std::vector<Piece> pieces;
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
            for (auto rest = std::as_bytes(values); !rest.empty(); corner[0] += chunk[0]) {
                unsigned skipped_filters = 0;
                haddr_t offset = HADDR_UNDEF;
                hsize_t bytes = 0;
                made(H5Dget_chunk_info_by_coord(id, corner.data(), &skipped_filters, &offset, &bytes), dataset.path);
                if (offset == HADDR_UNDEF || skipped_filters != 0 || bytes != written.piece_bytes + fletcher32_bytes) {
                    cannot_write(dataset.path);
                }
                const auto piece = rest.first(std::min(rest.size(), written.piece_bytes));
                written.pieces.push_back({offset, core::hash128(piece)});
                rest = rest.subspan(piece.size());
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
    const std::size_t own = name.rfind('/') + 1; // 0 for an attribute of the root
    const std::string owner = own == 0 ? "/" : name.substr(0, own);
    const Handle space = made(H5Screate(H5S_SCALAR), H5Sclose, name);
    const Handle id = made(H5Acreate_by_name(file, owner.c_str(), name.c_str() + own, stored, space, H5P_DEFAULT,
                                             H5P_DEFAULT, H5P_DEFAULT),
                           H5Aclose, name);
    made(H5Awrite(id, memory, value), name);
}

} // namespace

std::vector<std::byte> to_hdf5(std::span<const DatasetView> datasets, const Attributes& attributes) {
    silence_hdf5();
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
    const ssize_t size = made(H5Fget_file_image(file, nullptr, 0), "a file in memory");

    const auto index_end = [&](std::size_t user_block) {
        std::string lines;
        for (const Written& dataset : written) {
            lines += fmt::format("dataset {} {}", dataset.description, dataset.piece_bytes);
            for (const Written::Piece& piece : dataset.pieces) {
                lines += fmt::format(" {} {}", user_block + piece.offset, piece.digest);
            }
            lines += '\n';
        }
        return lines + fmt::format("bytes {}\nend\n", user_block + static_cast<std::size_t>(size));
    };
    // The maximum length of the index. Offsets include the size of the user block, so their digits depend on it.
    const std::size_t max_bytes = label_bytes + index.size() + index_end(std::size_t{1} << 62).size();
    const std::size_t user_block = std::max(min_user_block, std::bit_ceil(max_bytes));
    index += index_end(user_block);

    // HDF5 searches for its signature at every power of two from 512. Its addresses count from there.
    std::vector<std::byte> bytes(user_block + static_cast<std::size_t>(size));
    made(H5Fget_file_image(file, bytes.data() + user_block, static_cast<std::size_t>(size)), "a file in memory");
    std::memcpy(bytes.data() + label_bytes, index.data(), index.size());
    const std::string line = fmt::format("{}{}\n", label, core::hash128(std::as_bytes(std::span(index))));
    std::memcpy(bytes.data(), line.data(), line.size());
    return bytes;
}

} // namespace dtrain::io
