#include "dtrain/data/idx.hpp"

#include "dtrain/core/error.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace dtrain::data {
namespace {

constexpr const char* truncated = "damaged: the file is truncated; its header announces more data";
constexpr std::size_t piece_bytes = std::size_t{1} << 20;

std::size_t big_endian(std::span<const std::byte, 4> bytes) {
    std::size_t value = 0;
    for (const std::byte byte : bytes) {
        value = value << 8 | std::to_integer<std::size_t>(byte);
    }
    return value;
}

} // namespace

struct IdxReader::Stream {
    gzFile file;
    explicit Stream(gzFile opened) : file(opened) {}
    ~Stream() { gzclose_r(file); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
};

IdxReader::IdxReader(const std::filesystem::path& file) : name_(file.string()) {
    std::error_code error;
    if (std::filesystem::is_directory(file, error)) {
        fail("expected an IDX file, not a folder");
    }
    const gzFile opened = gzopen(name_.c_str(), "rb");
    if (opened == nullptr) {
        fail(std::strerror(errno));
    }
    stream_ = std::make_unique<Stream>(opened);
    gzbuffer(opened, 1U << 15);

    std::array<std::byte, 4> word{};
    read(word);
    const auto rank = std::to_integer<std::size_t>(word[3]);
    if (word[0] != std::byte{0} || word[1] != std::byte{0}) {
        fail("not an IDX file: wrong magic number");
    }
    element_ = Element{std::to_integer<std::uint8_t>(word[2])};
    if (element_ != Element::ubyte && element_ != Element::float32) {
        fail(fmt::format("unsupported IDX element type 0x{:02x}; expected unsigned bytes (0x08) or float32 (0x0d)",
                         std::to_integer<int>(word[2])));
    }
    if (rank == 0 || rank > max_dimensions) {
        fail(fmt::format("unsupported number of dimensions {}; expected 1 to {}", rank, max_dimensions));
    }
    std::size_t product = 1;
    for (std::size_t i = 0; i < rank; ++i) {
        read(word);
        dimensions_.push_back(big_endian(word));
        if (__builtin_mul_overflow(product, dimensions_.back(), &product) || product > std::size_t{1} << 48) {
            fail(fmt::format("damaged: impossible dimensions {}", fmt::join(dimensions_, " x ")));
        }
    }
    size_ = product;
    // Deflate compresses by at most 1032 : 1, so the size of the file limits the number of elements.
    const std::uintmax_t bytes = std::filesystem::file_size(file, error);
    if (!error && size_ * size_of(element_) / (gzdirect(opened) != 0 ? 1 : 1032) > bytes) {
        fail(truncated);
    }
}

IdxReader::~IdxReader() = default;

void IdxReader::fail(const std::string& problem) const {
    throw core::Error(core::ExitCode::bad_data, fmt::format("{}: {}", name_, problem));
}

void IdxReader::read(std::span<std::byte> bytes) {
    while (!bytes.empty()) {
        const std::size_t wanted = std::min(bytes.size(), piece_bytes);
        const int got = gzread(stream_->file, bytes.data(), static_cast<unsigned>(wanted));
        if (got < 0 || static_cast<std::size_t>(got) < wanted) {
            int code = Z_OK;
            const char* text = gzerror(stream_->file, &code);
            if (code == Z_ERRNO) {
                fail(std::strerror(errno));
            }
            if (code == Z_OK || code == Z_BUF_ERROR) {
                fail(truncated);
            }
            fail(fmt::format("damaged: cannot decompress the gzip data ({})", text));
        }
        bytes = bytes.subspan(wanted);
    }
}

void IdxReader::expect_end() {
    std::byte extra{};
    const int got = gzread(stream_->file, &extra, 1);
    if (got > 0) {
        fail("damaged: the file has more data than its header announces");
    }
    int code = Z_OK;
    const char* text = gzerror(stream_->file, &code);
    if (code == Z_BUF_ERROR) {
        fail("damaged: the file is truncated; its gzip trailer is missing");
    }
    if (got < 0) {
        fail(fmt::format("damaged: cannot decompress the gzip data ({})", text));
    }
}

} // namespace dtrain::data
