#pragma once

#include "dtrain/core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace dtrain::io {

/// A dataset to be written. `values` is not copied.
struct DatasetView {
    std::string path; ///< "/model/01_dense/weight"; missing groups are created
    std::vector<std::size_t> shape;
    std::variant<std::span<const float>, std::span<const double>, std::span<const std::int64_t>,
                 std::span<const std::uint64_t>>
        values;
};

/// Attributes by name. A plain name is an attribute of the root group. "/surface/samples" is the attribute `samples` of
/// the group /surface, which must have datasets.
using Attributes = std::map<std::string, std::variant<std::int64_t, std::uint64_t, double, std::string>>;

/// Makes an HDF5 file in memory and returns its bytes. So a full disk is only an error of a plain write, not of HDF5.
/// Every dataset has a Fletcher32 checksum. The user block, which HDF5 skips, has an index of the contents as plain
/// text with digests of the index and of the values (see src/io/hdf5_format.hpp). Names and paths must not contain
/// blanks. The same contents give the same bytes. Callers must not use HDF5 in two threads at once. Throws core::Error
/// (bad_output) with HDF5's reason, or std::bad_alloc if memory is short.
[[nodiscard]] std::vector<std::byte> to_hdf5(std::span<const DatasetView> datasets, const Attributes& attributes);

/// The error that a file is damaged or was not written by dtrain (bad_checkpoint). A valid file that does not fit the
/// config is a plain core::Error instead.
class DamagedFile : public core::Error {
  public:
    explicit DamagedFile(const std::string& message) : core::Error(core::ExitCode::bad_checkpoint, message) {}
};

/// Reads the bytes that to_hdf5 made. It uses the index, not the HDF5 library, because HDF5's parser is not safe for
/// malicious files. Every function throws DamagedFile with `origin` and the problem. The constructor checks that all
/// datasets together are not larger than the file, so sizes in the index cannot cause huge allocations.
class Hdf5Image {
  public:
    /// `origin` is the file name for messages. The digests detect every change of an attribute or a value. Other
    /// changes by other programs are ignored, because those bytes are not read. Throws core::Error (bad_checkpoint) for
    /// files of other versions of dtrain, because they are not damaged.
    Hdf5Image(std::vector<std::byte> bytes, std::string origin);

    [[nodiscard]] std::int64_t integer(const std::string& name) const;
    [[nodiscard]] std::uint64_t unsigned_integer(const std::string& name) const;
    [[nodiscard]] double real(const std::string& name) const;
    [[nodiscard]] const std::string& text(const std::string& name) const;
    /// For attributes that files of earlier versions do not have.
    [[nodiscard]] bool has_attribute(const std::string& name) const;

    /// Whether there is a dataset with that path.
    [[nodiscard]] bool has(const std::string& path) const;
    [[nodiscard]] const std::vector<std::size_t>& shape(const std::string& path) const;
    /// Reads a whole dataset, which must have out.size() elements of type T.
    template <class T>
    void read(const std::string& path, std::span<T> out) const;
    /// Reads a whole dataset of any shape.
    template <class T>
    [[nodiscard]] std::vector<T> values(const std::string& path) const;

    /// Throws DamagedFile with the message "ORIGIN: damaged: problem".
    [[noreturn]] void fail(const std::string& problem) const;

  private:
    struct Dataset {
        std::string type; ///< "f4", "f8", "i8" or "u8"
        std::vector<std::size_t> shape;
        std::size_t bytes = 0;
        std::size_t piece_bytes = 0;      ///< size of every piece except the last one
        std::vector<std::size_t> offsets; ///< positions of the pieces in bytes_
        bool intact = true;               ///< every piece matches its digest
    };
    /// Reads the index and returns its length. `of_pieces`: each piece has a digest after its offset.
    std::size_t read_index(std::string_view text, bool of_pieces);
    [[nodiscard]] Dataset read_dataset(std::span<const std::string_view> words, bool of_pieces) const;
    template <class T>
    [[nodiscard]] T number(std::string_view word) const;
    template <class T>
    [[nodiscard]] const T& attribute(const std::string& name, std::string_view kind) const;
    [[nodiscard]] const Dataset& dataset(const std::string& path) const;

    std::string origin_;
    std::vector<std::byte> bytes_;
    Attributes attributes_;
    std::map<std::string, Dataset> datasets_;
};

} // namespace dtrain::io
