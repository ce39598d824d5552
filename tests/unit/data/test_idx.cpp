#include "dtrain/data/idx.hpp"

#include "support/errors.hpp"
#include "support/gzip.hpp"
#include "support/idx_files.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::data {
namespace {

using support::error_of;
using support::gzip;
using support::idx;

class Idx : public ::testing::Test {
  protected:
    /// Reads `contents` as a file from beginning to end.
    [[nodiscard]] std::string elements_of(std::string_view contents) {
        support::write_file(file_, contents);
        IdxReader reader(file_);
        std::string elements(reader.size() * size_of(reader.element()), '\0');
        reader.read(std::as_writable_bytes(std::span(elements)));
        reader.expect_end();
        return elements;
    }

    /// Reading `contents` must fail with a message that names the file and contains `problem`.
    void expect_bad(std::string_view contents, std::string_view problem) {
        const auto error = error_of([&] { (void)elements_of(contents); });
        ASSERT_TRUE(error) << "accepted, expected the message: " << problem;
        EXPECT_EQ(error->code(), core::ExitCode::bad_data);
        EXPECT_TRUE(std::string_view(error->what()).starts_with(file_.string() + ": ")) << error->what();
        EXPECT_NE(std::string_view(error->what()).find(problem), std::string_view::npos) << error->what();
    }

    support::TemporaryFolder folder_;
    std::filesystem::path file_ = folder_ / "file-idx";
    std::string elements_{"\x00\x01\x02\x7f\x80\xff", 6};
};

TEST_F(Idx, IsReadPlainOrCompressed) {
    EXPECT_EQ(elements_of(idx({6}, elements_)), elements_);
    EXPECT_EQ(elements_of(idx({3, 1, 2}, elements_)), elements_);
    EXPECT_EQ(elements_of(gzip(idx({3, 2}, elements_))), elements_);

    support::write_file(file_, idx({3, 1, 2}, elements_));
    const IdxReader reader(file_);
    EXPECT_EQ(reader.dimensions(), (std::vector<std::size_t>{3, 1, 2}));
    EXPECT_EQ(reader.size(), 6U);
}

TEST_F(Idx, MayHoldFloats) {
    const std::string floats = support::big_endian({1, -0.5, 3e38F, 0, 1e-40F, 2});
    for (const std::string& contents : {idx({3, 2}, floats, 0x0d), gzip(idx({3, 2}, floats, 0x0d))}) {
        support::write_file(file_, contents);
        IdxReader reader(file_);
        EXPECT_EQ(reader.element(), Element::float32);
        EXPECT_EQ(reader.size(), 6U);
        std::string bytes(24, '\0');
        reader.read(std::as_writable_bytes(std::span(bytes)));
        reader.expect_end();
        EXPECT_EQ(bytes, floats);
    }
    support::write_file(file_, idx({6}, elements_));
    EXPECT_EQ(IdxReader(file_).element(), Element::ubyte);
    expect_bad(idx({3, 2}, floats.substr(0, 23), 0x0d), "truncated"); // the header alone shows it
}

TEST_F(Idx, IsReadPieceByPiece) {
    support::write_file(file_, gzip(idx({6}, elements_)));
    IdxReader reader(file_);
    std::string all;
    for (const std::size_t piece : {1U, 3U, 2U}) {
        std::string part(piece, '\0');
        reader.read(std::as_writable_bytes(std::span(part)));
        all += part;
    }
    reader.expect_end();
    EXPECT_EQ(all, elements_);
}

TEST_F(Idx, LargerThanABufferIsRead) {
    std::string elements(3'000'017, '\0');
    for (std::size_t i = 0; i < elements.size(); ++i) {
        elements[i] = static_cast<char>(i * 7 + i / 1000);
    }
    const auto size = static_cast<std::uint32_t>(elements.size());
    EXPECT_EQ(elements_of(idx({size}, elements)), elements);
    EXPECT_EQ(elements_of(gzip(idx({size}, elements))), elements);
}

TEST_F(Idx, TruncatedAnywhereIsRefused) {
    const std::string valid = idx({3, 2}, elements_);
    for (std::size_t length = 0; length < valid.size(); ++length) {
        expect_bad(valid.substr(0, length), "truncated");
    }
}

TEST_F(Idx, CompressedAndTruncatedAnywhereIsRefused) {
    std::string noise(2000, '\0');
    for (std::size_t i = 0; i < noise.size(); ++i) {
        noise[i] = static_cast<char>(i * i * 31 >> 3);
    }
    const std::string valid = gzip(idx({2000}, noise));
    // One or two bytes have no gzip signature, so they are a wrong magic number.
    for (std::size_t length = 3; length < valid.size(); ++length) {
        expect_bad(std::string_view(valid).substr(0, length), "");
    }
    expect_bad(std::string_view(valid).substr(0, valid.size() / 2), "truncated");
    expect_bad(std::string_view(valid).substr(0, valid.size() - 1), "truncated");
}

TEST_F(Idx, CompressedAndTruncatedInsideIsRefused) {
    expect_bad(gzip(idx({7}, elements_)), "truncated");
}

TEST_F(Idx, DamagedCompressionIsRefused) {
    const std::string valid = gzip(idx({6}, elements_));
    std::string checksum = valid;
    checksum[valid.size() - 8] ^= 1;
    expect_bad(checksum, "damaged: cannot decompress the gzip data");
    std::string data = valid;
    data[10] = '\x07'; // a block type that does not exist
    expect_bad(data, "damaged: cannot decompress the gzip data");
}

TEST_F(Idx, AnotherMagicNumberIsRefused) {
    expect_bad("PNG file or so", "wrong magic number");
    expect_bad(std::string("\x00\x01\x08\x01\x00\x00\x00\x00", 8), "wrong magic number");
    expect_bad(std::string("\x01\x00\x08\x01\x00\x00\x00\x00", 8), "wrong magic number");
}

TEST_F(Idx, AnotherElementTypeIsRefused) {
    for (const int type : {0x00, 0x09, 0x0b, 0x0c, 0x0e, 0xff}) {
        expect_bad(idx({6}, elements_, static_cast<std::uint8_t>(type)), "element type");
    }
}

TEST_F(Idx, ImpossibleNumbersOfDimensionsAreRefused) {
    expect_bad(idx({}, ""), "dimensions");
    expect_bad(idx({1, 1, 1, 1, 1, 1, 1, 1, 1}, "x"), "dimensions");
    EXPECT_EQ(elements_of(idx({1, 1, 1, 1, 1, 1, 1, 1}, "x")), "x");
}

TEST_F(Idx, OverflowingDimensionsAreRefusedWithoutAllocating) {
    constexpr std::uint32_t huge = 0xffffffff;
    expect_bad(idx({huge, huge}, elements_), "impossible dimensions");
    expect_bad(idx({huge, huge, huge}, elements_), "impossible dimensions");
    expect_bad(idx({1U << 31, 1U << 31, 4}, elements_), "impossible dimensions"); // 2^64 is 0 in 64 bits
    expect_bad(idx({1U << 31, 1U << 31, 4, 6}, elements_), "impossible dimensions");
}

TEST_F(Idx, TrailingDataIsRefused) {
    expect_bad(idx({5}, elements_), "more data");
    expect_bad(idx({0}, elements_), "more data");
    expect_bad(gzip(idx({5}, elements_)), "more data");
}

TEST_F(Idx, MissingFilesAndFoldersAreRefused) {
    for (const auto& path : {folder_ / "absent", folder_.path()}) {
        const auto error = error_of([&] { const IdxReader reader(path); });
        ASSERT_TRUE(error);
        EXPECT_EQ(error->code(), core::ExitCode::bad_data);
        EXPECT_NE(std::string_view(error->what()).find(path.string()), std::string_view::npos);
    }
}

} // namespace
} // namespace dtrain::data
