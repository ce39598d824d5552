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

inline constexpr std::size_t most_dimensions = 8; ///< of an IDX file

/// Reads one file of the IDX format (http://yann.lecun.com/exdb/mnist, "file formats"): a magic number that tells the
/// element type and the number of dimensions, the dimensions, then the elements. Plain or gzip-compressed. Elements
/// are unsigned bytes or big-endian float32. Nothing is allocated on the word of the header alone. Throws core::Error
/// (bad_data).
class IdxReader {
  public:
    explicit IdxReader(const std::filesystem::path& file);
    ~IdxReader();
    IdxReader(const IdxReader&) = delete;
    IdxReader& operator=(const IdxReader&) = delete;

    [[nodiscard]] const std::vector<std::size_t>& dimensions() const noexcept { return dimensions_; }
    [[nodiscard]] Element element() const noexcept { return element_; }
    /// Elements in the whole file, the product of the dimensions.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    /// The next bytes of the elements, as the file has them; throws if it ends before.
    void read(std::span<std::byte> bytes);
    /// Throws unless all elements were read and nothing follows them.
    void expect_end();

    /// "FILE: problem", as an exception.
    [[noreturn]] void fail(const std::string& problem) const;

  private:
    struct Stream;
    std::string name_;
    std::unique_ptr<Stream> stream_;
    std::vector<std::size_t> dimensions_;
    Element element_ = Element::ubyte;
    std::size_t size_ = 0;
};

/// A set of samples and their labels from one file each. `labels` may be empty. Throws core::Error (bad_data).
[[nodiscard]] std::unique_ptr<SetReader> open_idx_pair(const std::filesystem::path& samples,
                                                       const std::filesystem::path& labels);

} // namespace dtrain::data
