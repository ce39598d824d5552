#pragma once

#include "support/idx_files.hpp"
#include <gtest/gtest.h>
#include <hdf5.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace dtrain::support {

/// How a dataset is stored.
struct Storage {
    std::vector<hsize_t> chunk{}; ///< empty = contiguous
    bool compressed = false;      ///< shuffle and gzip, as h5py's compression="gzip", shuffle=True
    bool written = true;          ///< false: the dataset has no values
};

/// An HDF5 file that is written as h5py does.
class Hdf5Writer {
  public:
    explicit Hdf5Writer(const std::filesystem::path& file)
        : file_(H5Fcreate(file.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)) {
        EXPECT_GE(file_, 0) << file;
        for (const char* const set : {"/train", "/test"}) {
            H5Gclose(H5Gcreate2(file_, set, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        }
    }
    ~Hdf5Writer() { H5Fclose(file_); }
    Hdf5Writer(const Hdf5Writer&) = delete;
    Hdf5Writer& operator=(const Hdf5Writer&) = delete;
    [[nodiscard]] hid_t id() const noexcept { return file_; }

    /// `values` have the type `memory`; the file gets the type `stored`.
    void write(const std::string& path, const std::vector<hsize_t>& shape, hid_t stored, hid_t memory,
               const void* values, const Storage& storage = {}) {
        const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
        const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
        if (!storage.chunk.empty()) {
            H5Pset_chunk(creation, static_cast<int>(storage.chunk.size()), storage.chunk.data());
        }
        if (storage.compressed) {
            H5Pset_shuffle(creation);
            H5Pset_deflate(creation, 4);
        }
        const hid_t dataset = H5Dcreate2(file_, path.c_str(), stored, space, H5P_DEFAULT, creation, H5P_DEFAULT);
        EXPECT_GE(dataset, 0) << path;
        if (storage.written) {
            EXPECT_GE(H5Dwrite(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), 0) << path;
        }
        H5Dclose(dataset);
        H5Pclose(creation);
        H5Sclose(space);
    }
    void write_bytes(const std::string& path, const std::vector<hsize_t>& shape, const std::string& values,
                     const Storage& storage = {}) {
        write(path, shape, H5T_STD_U8LE, H5T_NATIVE_UINT8, values.data(), storage);
    }

  private:
    hid_t file_;
};

/// The labels of digits as the integers that NumPy makes by default.
[[nodiscard]] inline std::vector<std::int64_t> integer_labels(const Digits& digits) {
    return {digits.labels.begin(), digits.labels.end()};
}

/// Writes the data set of write_digits() as one file. `chunk_rows` > 0: compressed chunks that also cut the images.
inline void write_hdf5_digits(const std::filesystem::path& file, std::uint32_t train_samples,
                              std::uint32_t test_samples, hsize_t chunk_rows = 0) {
    Hdf5Writer writer(file);
    const auto write = [&](const std::string& set, const Digits& digits) {
        const Storage images = chunk_rows > 0 ? Storage{{chunk_rows, 3, 8}, true} : Storage{};
        const Storage labels = chunk_rows > 0 ? Storage{{chunk_rows + 1}, true} : Storage{};
        writer.write_bytes(set + "/samples", {digits.samples, digits.side, digits.side}, digits.pixels, images);
        writer.write(set + "/labels", {digits.samples}, H5T_STD_I64LE, H5T_NATIVE_INT64, integer_labels(digits).data(),
                     labels);
    };
    write("/train", make_digits(train_samples, 1));
    write("/test", make_digits(test_samples, 2));
}

} // namespace dtrain::support
