#pragma once

#include "dtrain/core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
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

using Attributes = std::map<std::string, std::variant<std::int64_t, std::uint64_t, std::string>>;

/// An HDF5 file as bytes, made in memory: what then goes wrong on a full disk is a plain write. Every dataset carries a
/// Fletcher32 checksum, and the file a digest of the whole (see Hdf5Image). Same contents,
/// same bytes. HDF5 is not used from two threads at a time: callers see to that.
[[nodiscard]] std::vector<std::byte> to_hdf5(std::span<const DatasetView> datasets, const Attributes& attributes);

/// A file that is not what it should be, as against one that is whole but does not fit.
class DamagedFile : public core::Error {
  public:
    explicit DamagedFile(const std::string& message) : core::Error(core::ExitCode::bad_checkpoint, message) {}
};

/// An HDF5 file opened from its bytes. Every reader throws DamagedFile naming `origin` and what is wrong with it;
/// nothing is allocated on the word of the file beyond its own size.
class Hdf5Image {
  public:
    /// The first 512 bytes of files written here are an HDF5 user block with a digest of the rest, which is what
    /// notices a truncated file or a flipped bit before HDF5 has to make sense of it.
    Hdf5Image(std::vector<std::byte> bytes, std::string origin);
    ~Hdf5Image();
    Hdf5Image(Hdf5Image&& other) noexcept;

    [[nodiscard]] std::int64_t integer(const std::string& attribute) const;
    [[nodiscard]] std::uint64_t unsigned_integer(const std::string& attribute) const;
    [[nodiscard]] std::string text(const std::string& attribute) const;

    [[nodiscard]] bool has(const std::string& path) const;
    [[nodiscard]] std::vector<std::size_t> shape(const std::string& path) const;
    /// Names of the links in a group, sorted.
    [[nodiscard]] std::vector<std::string> members(const std::string& group) const;

    /// Reads a whole dataset, whose number of elements has to be out.size().
    void read(const std::string& path, std::span<float> out) const;
    void read(const std::string& path, std::span<double> out) const;
    void read(const std::string& path, std::span<std::int64_t> out) const;
    /// Reads a whole 1-D or n-D dataset of whatever length.
    template <class T>
    [[nodiscard]] std::vector<T> values(const std::string& path) const;

    [[noreturn]] void fail(const std::string& problem) const;

  private:
    struct Open;
    /// `memory_type` is an HDF5 identifier (hid_t).
    void read_integer(const std::string& attribute, std::int64_t memory_type, void* value) const;

    std::string origin_;
    std::vector<std::byte> bytes_;
    std::unique_ptr<Open> open_;
};

} // namespace dtrain::io
