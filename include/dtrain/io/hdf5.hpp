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

/// A dataset to be written; the values are borrowed.
struct DatasetView {
    std::string path; ///< "/model/01_dense/weight"; the groups on the way are made
    std::vector<std::size_t> shape;
    std::variant<std::span<const float>, std::span<const double>, std::span<const std::int64_t>,
                 std::span<const std::uint64_t>>
        values;
};

/// By name, those of the root; "/surface/samples" is the attribute `samples` of a group that holds datasets.
using Attributes = std::map<std::string, std::variant<std::int64_t, std::uint64_t, double, std::string>>;

/// An HDF5 file as bytes, made in memory: what then goes wrong on a full disk is a plain write. Every dataset carries a
/// Fletcher32 checksum. In front of what HDF5 reads, in its user block, stands an index of the contents as plain text,
/// with digests of itself and of the values (src/io/hdf5_format.hpp shows it). Names and paths hold no blanks. Same
/// contents, same bytes. HDF5 is not used from two threads at a time: callers see to that. Throws core::Error
/// (bad_output) with HDF5's reason, or std::bad_alloc where that is a lack of memory.
[[nodiscard]] std::vector<std::byte> to_hdf5(std::span<const DatasetView> datasets, const Attributes& attributes);

/// A file that is not what it should be, as against one that is whole but does not fit.
class DamagedFile : public core::Error {
  public:
    explicit DamagedFile(const std::string& message) : core::Error(core::ExitCode::bad_checkpoint, message) {}
};

/// What to_hdf5 made, read back from its bytes without HDF5, whose parser is no match for hostile files: the index says
/// where every value lies. Every reader throws DamagedFile naming `origin` and what is wrong with it. All datasets
/// together are no larger than the file, so that nothing is allocated on its word alone.
class Hdf5Image {
  public:
    /// Digests notice whatever changes an attribute or a value, and let pass what another program changes around them,
    /// which is not read. Throws core::Error (bad_checkpoint) for files of earlier versions of dtrain, which are not
    /// damaged.
    Hdf5Image(std::vector<std::byte> bytes, std::string origin);

    [[nodiscard]] std::int64_t integer(const std::string& name) const;
    [[nodiscard]] std::uint64_t unsigned_integer(const std::string& name) const;
    [[nodiscard]] double real(const std::string& name) const;
    [[nodiscard]] const std::string& text(const std::string& name) const;

    /// Whether there is such a dataset.
    [[nodiscard]] bool has(const std::string& path) const;
    [[nodiscard]] const std::vector<std::size_t>& shape(const std::string& path) const;
    /// Reads a whole dataset, whose number of elements has to be out.size().
    template <class T>
    void read(const std::string& path, std::span<T> out) const;
    /// Reads a whole 1-D or n-D dataset of whatever length.
    template <class T>
    [[nodiscard]] std::vector<T> values(const std::string& path) const;

    [[noreturn]] void fail(const std::string& problem) const;

  private:
    struct Dataset {
        std::string type; ///< "f4", "f8", "i8" or "u8"
        std::vector<std::size_t> shape;
        std::size_t bytes = 0;
        std::size_t piece_bytes = 0;      ///< of every piece but the last
        std::vector<std::size_t> offsets; ///< of the pieces in bytes_
        bool intact = true;               ///< every piece is what its digest says
    };
    /// Returns the length of the index. `of_pieces`: there is a digest behind the offset of each piece.
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
