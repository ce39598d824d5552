#pragma once

#include "dtrain/data/source.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dtrain::data {

inline constexpr std::size_t max_dimensions = 8; ///< of an IDX file

/// Reads one file in the IDX format (http://yann.lecun.com/exdb/mnist, "file formats"), plain or gzip-compressed. The
/// file has a magic number with the element type and the number of dimensions, then the dimensions, then the elements.
/// Elements are unsigned bytes or big-endian float32. Sizes in the header are checked against the size of the file
/// before memory is allocated. Functions throw core::Error (bad_data).
class IdxReader {
  public:
    explicit IdxReader(const std::filesystem::path& file);
    ~IdxReader();
    IdxReader(const IdxReader&) = delete;
    IdxReader& operator=(const IdxReader&) = delete;

    [[nodiscard]] const std::vector<std::size_t>& dimensions() const noexcept { return dimensions_; }
    [[nodiscard]] Element element() const noexcept { return element_; }
    /// The number of elements in the file: the product of the dimensions.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    /// Reads the next bytes of the elements, in the byte order of the file. Throws if the file ends before.
    void read(std::span<std::byte> bytes);
    /// Throws unless all elements were read and nothing follows them.
    void expect_end();

    /// Throws core::Error (bad_data) with the message "FILE: problem".
    [[noreturn]] void fail(const std::string& problem) const;

  private:
    struct Stream;
    std::string name_;
    std::unique_ptr<Stream> stream_;
    std::vector<std::size_t> dimensions_;
    Element element_ = Element::ubyte;
    std::size_t size_ = 0;
};

/// Opens a set with one file of samples and one file of labels. `labels` may be empty: then the set has no labels.
/// Throws core::Error (bad_data).
[[nodiscard]] std::unique_ptr<SetReader> open_idx_pair(const std::filesystem::path& samples,
                                                       const std::filesystem::path& labels);

} // namespace dtrain::data
