#pragma once

#include "dtrain/core/partition.hpp"

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dtrain::io {

/// A dataset in an HDF5 file that any program wrote, read with the HDF5 library. The library is not safe for malicious
/// files: read files that dtrain wrote with Hdf5Image instead. All functions throw core::Error (bad_data) with the
/// message "FILE: PATH: problem". Callers must not use HDF5 in two threads at once.
class Hdf5Dataset {
  public:
    /// Opens the file and the dataset. Throws if a part of the dataset was not written, is in another file, or needs a
    /// filter that the library does not have.
    Hdf5Dataset(const std::filesystem::path& file, const std::string& path);
    Hdf5Dataset(Hdf5Dataset&&) noexcept;
    ~Hdf5Dataset();

    [[nodiscard]] const std::string& name() const noexcept { return name_; } ///< "FILE: PATH"
    /// The lengths of all dimensions. Their product and the size of each element fit into 63 bits.
    [[nodiscard]] const std::vector<std::size_t>& shape() const noexcept { return shape_; }
    /// NumPy's name of the element type ("uint8", "float32"), or a description of other types.
    [[nodiscard]] const std::string& type() const noexcept { return type_; }
    /// Whether elements are integers of at most 64 bits.
    [[nodiscard]] bool is_integer() const noexcept { return is_integer_; }
    /// The rows (first dimension) that HDF5 unpacks at once, since they are compressed together; otherwise 1.
    [[nodiscard]] std::size_t chunk_rows() const noexcept { return chunk_rows_; }
    /// The memory with which HDF5 unpacks them: before and after a filter; otherwise 0.
    [[nodiscard]] std::size_t unpacking_bytes() const noexcept { return unpacking_bytes_; }

    /// Reads whole rows. T is std::uint8_t, float or std::int64_t. HDF5 converts the elements; those that T cannot
    /// represent become the nearest value.
    template <class T>
    void read(core::Range rows, std::span<T> out) const;

    [[noreturn]] void fail(const std::string& problem) const;

  private:
    [[noreturn]] void fail_in_other_files() const;

    struct Handles;
    std::string name_;
    std::vector<std::size_t> shape_;
    std::string type_;
    bool is_integer_ = false;
    std::size_t chunk_rows_ = 1;
    std::size_t unpacking_bytes_ = 0;
    std::unique_ptr<Handles> handles_;
};

} // namespace dtrain::io
