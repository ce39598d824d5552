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

constexpr std::byte type_ubyte{0x08};
constexpr const char* truncated = "the file is truncated: it ends before the data its header announces";
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
    if (std::filesystem::is_directory(file)) {
        fail("is a folder, not an IDX file");
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
        fail("not an IDX file (wrong magic number)");
    }
    if (word[2] != type_ubyte) {
        fail(fmt::format("IDX element type 0x{:02x} is not supported; unsigned bytes (0x08) are",
                         std::to_integer<int>(word[2])));
    }
    if (rank == 0 || rank > 8) {
        fail(fmt::format("an IDX file of {} dimensions; 1 to 8 are supported", rank));
    }
    std::size_t product = 1;
    for (std::size_t i = 0; i < rank; ++i) {
        read(word);
        dimensions_.push_back(big_endian(word));
        if (__builtin_mul_overflow(product, dimensions_.back(), &product) || product > std::size_t{1} << 48) {
            fail(fmt::format("impossible dimensions {}", fmt::join(dimensions_, " x ")));
        }
    }
    size_ = product;
    // Deflate never packs tighter than 1032 : 1, so the file's own size bounds what may be believed and allocated.
    std::error_code error;
    const std::uintmax_t bytes = std::filesystem::file_size(file, error);
    if (!error && size_ / (gzdirect(opened) != 0 ? 1 : 1032) > bytes) {
        fail(truncated);
    }
}

IdxReader::~IdxReader() = default;

void IdxReader::fail(const std::string& problem) const {
    throw core::Error(core::ExitCode::bad_data, fmt::format("{}: {}", name_, problem));
}

void IdxReader::read(std::span<std::byte> elements) {
    while (!elements.empty()) {
        const std::size_t wanted = std::min(elements.size(), piece_bytes);
        const int got = gzread(stream_->file, elements.data(), static_cast<unsigned>(wanted));
        if (got < 0 || static_cast<std::size_t>(got) < wanted) {
            int code = Z_OK;
            const char* text = gzerror(stream_->file, &code);
            if (code == Z_ERRNO) {
                fail(std::strerror(errno));
            }
            if (code == Z_OK || code == Z_BUF_ERROR) {
                fail(truncated);
            }
            fail(fmt::format("damaged gzip data ({})", text));
        }
        elements = elements.subspan(wanted);
    }
}

void IdxReader::expect_end() {
    std::byte extra{};
    const int got = gzread(stream_->file, &extra, 1);
    if (got > 0) {
        fail("more data than its header announces");
    }
    int code = Z_OK;
    const char* text = gzerror(stream_->file, &code);
    if (code == Z_BUF_ERROR) {
        fail("the file is truncated: its gzip trailer is missing");
    }
    if (got < 0) {
        fail(fmt::format("damaged gzip data ({})", text));
    }
}

std::filesystem::path find_idx(const std::filesystem::path& directory, const std::string& name) {
    std::filesystem::path plain = directory / name;
    std::filesystem::path compressed = directory / (name + ".gz");
    std::error_code ignored;
    if (std::filesystem::exists(plain, ignored)) {
        return plain;
    }
    if (std::filesystem::exists(compressed, ignored)) {
        return compressed;
    }
    throw core::Error(core::ExitCode::bad_data,
                      fmt::format("{}: no such file, plain or .gz (`./quickstart.sh data` puts MNIST into data/mnist)",
                                  plain.string()));
}

} // namespace dtrain::data
