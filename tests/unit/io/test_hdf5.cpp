#include "dtrain/core/hash.hpp"
#include "dtrain/io/file.hpp"
#include "dtrain/io/hdf5.hpp"

#include "support/errors.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>
#include <hdf5.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace dtrain::io {
namespace {

using support::error_of;

static_assert(!std::is_copy_constructible_v<Hdf5Image> && std::is_nothrow_move_constructible_v<Hdf5Image>);

constexpr std::size_t user_block_bytes = 512;
constexpr std::string_view user_block_text = "dtrain: XXH3-128 of everything after these 512 bytes: ";

const std::vector<float> floats{1.5F, -0.0F, std::numeric_limits<float>::infinity(), 3e-40F, 5, 6};
const std::vector<double> doubles{0.1, -1e300};
const std::vector<std::int64_t> integers{std::numeric_limits<std::int64_t>::min(), 0, 7};
const std::string config_text = "[data]\nsource = idx\nname = Grüße\n";

std::vector<std::byte> make_file() {
    const std::vector<DatasetView> datasets{
        {"/model/01_dense/weight", {2, 3}, std::span<const float>(floats)},
        {"/epochs/train_cost", {2}, std::span<const double>(doubles)},
        {"/epochs/step", {3}, std::span<const std::int64_t>(integers)},
    };
    return to_hdf5(datasets, {{"epoch", std::int64_t{-3}}, {"seed", std::uint64_t{12}}, {"config", config_text}});
}

/// What reading everything from an image complains about, if it does.
std::optional<DamagedFile> damage_of(std::vector<std::byte> bytes) {
    return error_of<DamagedFile>([&] {
        const Hdf5Image image(std::move(bytes), "run/file.h5");
        std::vector<float> weight(6);
        image.read("/model/01_dense/weight", std::span(weight));
        EXPECT_EQ(std::memcmp(weight.data(), floats.data(), sizeof(float) * 6), 0);
        EXPECT_EQ(image.values<double>("/epochs/train_cost"), doubles);
        EXPECT_EQ(image.values<std::int64_t>("/epochs/step"), integers);
        EXPECT_EQ(image.integer("epoch"), -3);
        EXPECT_EQ(image.integer("seed"), 12);
        EXPECT_EQ(image.text("config"), config_text);
    });
}

TEST(Hdf5, RoundTripIsExact) {
    EXPECT_FALSE(damage_of(make_file()));
    const Hdf5Image image(make_file(), "file.h5");
    EXPECT_EQ(image.shape("/model/01_dense/weight"), (std::vector<std::size_t>{2, 3}));
    EXPECT_TRUE(image.has("/model/01_dense/weight"));
    EXPECT_TRUE(image.has("/model"));
    EXPECT_FALSE(image.has("/model/02_dense/weight"));
    EXPECT_FALSE(image.has("/absent"));
    EXPECT_EQ(image.members("/epochs"), (std::vector<std::string>{"step", "train_cost"}));
    EXPECT_EQ(image.members("/"), (std::vector<std::string>{"epochs", "model"}));
}

TEST(Hdf5, SurvivesBeingMoved) {
    Hdf5Image image(make_file(), "file.h5");
    const Hdf5Image moved(std::move(image));
    EXPECT_EQ(moved.integer("epoch"), -3);
}

TEST(Hdf5, HoldsSeveralChunks) {
    std::vector<float> large(3'000'001);
    for (std::size_t i = 0; i < large.size(); ++i) {
        large[i] = static_cast<float>(i);
    }
    const std::vector<DatasetView> datasets{{"/large", {large.size()}, std::span<const float>(large)}};
    const Hdf5Image image(to_hdf5(datasets, {}), "file.h5");
    EXPECT_EQ(image.values<float>("/large"), large);
}

TEST(Hdf5, HoldsEmptyColumns) {
    const std::vector<double> none;
    const std::vector<DatasetView> datasets{{"/one", {0}, std::span<const double>(none)},
                                            {"/none_of_none", {0, 0}, std::span<const double>(none)},
                                            {"/none_of_three", {0, 3}, std::span<const double>(none)},
                                            {"/three_of_none", {3, 0}, std::span<const double>(none)}};
    const Hdf5Image image(to_hdf5(datasets, {}), "file.h5");
    for (const DatasetView& dataset : datasets) {
        EXPECT_EQ(image.shape(dataset.path), dataset.shape);
        EXPECT_TRUE(image.values<double>(dataset.path).empty());
    }
}

TEST(Hdf5, SameContentsGiveTheSameBytes) {
    const auto first = make_file();
    EXPECT_EQ(make_file(), first);
    std::this_thread::sleep_for(std::chrono::milliseconds(1100)); // HDF5's times are in seconds
    EXPECT_EQ(make_file(), first);
}

TEST(Hdf5, IsReadByOtherPrograms) {
    const support::TemporaryFolder folder;
    replace_file(folder / "file.h5", make_file());
    const hid_t file = H5Fopen((folder / "file.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    ASSERT_GE(file, 0);
    const hid_t dataset = H5Dopen2(file, "/model/01_dense/weight", H5P_DEFAULT);
    const hid_t creation = H5Dget_create_plist(dataset);
    EXPECT_EQ(H5Pget_nfilters(creation), 1);
    EXPECT_GE(H5Pget_filter_by_id2(creation, H5Z_FILTER_FLETCHER32, nullptr, nullptr, nullptr, 0, nullptr, nullptr), 0);
    std::vector<float> values(6);
    EXPECT_GE(H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
    EXPECT_EQ(values.front(), 1.5F);
    H5Pclose(creation);
    H5Dclose(dataset);
    H5Fclose(file);
}

TEST(Hdf5, AFlippedBitAnywhereIsRefused) {
    const auto whole = make_file();
    // Behind its text the user block is padding, which says nothing.
    const std::size_t text_end = user_block_text.size() + 32;
    for (std::size_t place = 0; place < whole.size(); ++place) {
        auto bytes = whole;
        bytes[place] ^= std::byte{1} << (place % 8);
        const auto damage = damage_of(std::move(bytes));
        if (place < text_end || place >= user_block_bytes) {
            ASSERT_TRUE(damage) << "byte " << place;
            ASSERT_TRUE(std::string_view(damage->what()).starts_with("run/file.h5: ")) << damage->what();
            ASSERT_EQ(damage->code(), core::ExitCode::bad_checkpoint);
        }
    }
}

TEST(Hdf5, TruncatedFilesAreRefused) {
    const auto whole = make_file();
    for (std::size_t length = 0; length < whole.size(); length += 97) {
        EXPECT_TRUE(damage_of({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)})) << length;
    }
    for (const std::size_t length : {std::size_t{512}, std::size_t{513}, whole.size() - 1}) {
        EXPECT_TRUE(damage_of({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)})) << length;
    }
    auto longer = whole;
    longer.push_back(std::byte{0});
    EXPECT_TRUE(damage_of(longer));
}

TEST(Hdf5, SaysWhatIsMissingOrOfAnotherKind) {
    const Hdf5Image image(make_file(), "run/file.h5");
    const auto expect_damage = [&](std::string_view name, const std::function<void()>& action) {
        const auto error = error_of<DamagedFile>(action);
        ASSERT_TRUE(error) << name;
        EXPECT_TRUE(std::string_view(error->what()).starts_with("run/file.h5: ")) << error->what();
        EXPECT_NE(std::string_view(error->what()).find(name), std::string_view::npos) << error->what();
    };
    expect_damage("absent", [&] { (void)image.integer("absent"); });
    expect_damage("absent", [&] { (void)image.text("absent"); });
    expect_damage("config", [&] { (void)image.integer("config"); });
    expect_damage("epoch", [&] { (void)image.text("epoch"); });
    expect_damage("/absent", [&] { (void)image.shape("/absent"); });
    expect_damage("/absent", [&] { (void)image.members("/absent"); });
    expect_damage("/absent/deep", [&] { (void)image.values<float>("/absent/deep"); });
    expect_damage("/model", [&] { (void)image.values<float>("/model"); });
    expect_damage("/epochs/train_cost", [&] { (void)image.values<float>("/epochs/train_cost"); });
    expect_damage("/model/01_dense/weight", [&] { (void)image.values<double>("/model/01_dense/weight"); });
    std::vector<float> five(5);
    expect_damage("/model/01_dense/weight", [&] { image.read("/model/01_dense/weight", std::span(five)); });
}

/// Makes a file with HDF5 itself, then signs it as to_hdf5 does: the digest is right and every claim inside is the
/// attacker's.
class SignedFile {
  public:
    SignedFile() {
        const hid_t creation = H5Pcreate(H5P_FILE_CREATE);
        H5Pset_userblock(creation, user_block_bytes);
        file_ = H5Fcreate((folder_ / "file.h5").c_str(), H5F_ACC_TRUNC, creation, H5P_DEFAULT);
        H5Pclose(creation);
    }
    [[nodiscard]] hid_t id() const { return file_; }

    /// A dataset without data.
    template <std::size_t rank>
    void claim(
        const char* name, const std::array<hsize_t, rank>& extent, const std::array<hsize_t, rank>& chunk,
        hid_t type = H5T_IEEE_F32LE,
        const std::function<void(hid_t)>& with = [](hid_t creation) { H5Pset_fletcher32(creation); }) {
        const hid_t space = H5Screate_simple(static_cast<int>(rank), extent.data(), nullptr);
        const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
        H5Pset_chunk(creation, static_cast<int>(rank), chunk.data());
        with(creation);
        const hid_t id = H5Dcreate2(file_, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
        EXPECT_GE(id, 0) << name;
        H5Dclose(id);
        H5Pclose(creation);
        H5Sclose(space);
    }

    void attribute(const char* name, hid_t type, const std::vector<hsize_t>& extent, const void* value) {
        const hid_t space = extent.empty() ? H5Screate(H5S_SCALAR)
                                           : H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr);
        const hid_t id = H5Acreate2(file_, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
        EXPECT_GE(id, 0) << name;
        if (value != nullptr) {
            H5Awrite(id, type, value);
        }
        H5Aclose(id);
        H5Sclose(space);
    }

    [[nodiscard]] std::vector<std::byte> bytes() {
        H5Fclose(file_);
        std::vector<std::byte> all = read_file(folder_ / "file.h5");
        const std::string text =
            std::string(user_block_text) + core::hash128(std::span(all).subspan(user_block_bytes)) + "\n";
        std::memcpy(all.data(), text.data(), text.size());
        return all;
    }

  private:
    support::TemporaryFolder folder_;
    hid_t file_;
};

void expect_refused(const Hdf5Image& image, const std::string& path) {
    std::vector<float> some(16);
    EXPECT_TRUE(error_of<DamagedFile>([&] { (void)image.shape(path); })) << path;
    EXPECT_TRUE(error_of<DamagedFile>([&] { (void)image.values<float>(path); })) << path;
    EXPECT_TRUE(error_of<DamagedFile>([&] { image.read(path, std::span(some)); })) << path;
}

TEST(Hdf5, SignedFilesAreRead) {
    SignedFile file;
    file.claim("/zeros", std::array<hsize_t, 1>{16}, {16});
    const Hdf5Image image(file.bytes(), "file.h5");
    EXPECT_EQ(image.values<float>("/zeros"), std::vector<float>(16));
}

TEST(Hdf5, ClaimsOfHugeDatasetsAreRefused) {
    SignedFile file;
    constexpr hsize_t huge = hsize_t{1} << 40;
    file.claim("/huge", std::array<hsize_t, 1>{huge}, {16});
    file.claim("/huge_chunk", std::array<hsize_t, 1>{hsize_t{1} << 29}, {hsize_t{1} << 29});
    file.claim("/overflowing", std::array<hsize_t, 2>{hsize_t{1} << 32, hsize_t{1} << 31}, {4, 4});
    file.claim("/many_dimensions", std::array<hsize_t, 4>{1 << 12, 1 << 12, 1 << 12, 1 << 12}, {1, 1, 1, 16});
    file.claim("/few_of_many", std::array<hsize_t, 2>{16, huge}, {16, 1});
    const Hdf5Image image(file.bytes(), "file.h5");
    for (const std::string& path : image.members("/")) {
        expect_refused(image, "/" + path);
    }
}

TEST(Hdf5, OtherWaysOfStorageAreRefused) {
    SignedFile file;
    const std::array<hsize_t, 1> extent{16};
    const auto claim = [&](const char* name, const std::function<void(hid_t)>& with) {
        file.claim(name, extent, extent, H5T_IEEE_F32LE, with);
    };
    claim("/no_checksum", [](hid_t) {});
    claim("/deflate", [](hid_t creation) { H5Pset_deflate(creation, 6); });
    claim("/checksum_and_deflate", [](hid_t creation) {
        H5Pset_fletcher32(creation);
        H5Pset_deflate(creation, 6);
    });
    claim("/deflate_and_checksum", [](hid_t creation) {
        H5Pset_deflate(creation, 6);
        H5Pset_fletcher32(creation);
    });
    claim("/unknown_filter", [](hid_t creation) { H5Pset_filter(creation, 31000, H5Z_FLAG_OPTIONAL, 0, nullptr); });
    claim("/contiguous", [](hid_t creation) { H5Pset_layout(creation, H5D_CONTIGUOUS); });
    claim("/compact", [](hid_t creation) { H5Pset_layout(creation, H5D_COMPACT); });
    claim("/external", [](hid_t creation) {
        H5Pset_layout(creation, H5D_CONTIGUOUS);
        H5Pset_external(creation, "/etc/passwd", 0, 64);
    });
    H5Lcreate_soft("/absent", file.id(), "/dangling", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/circle", file.id(), "/circle", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("/etc/passwd", "/", file.id(), "/elsewhere", H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(H5Gcreate2(file.id(), "/group", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    for (const auto& [name, space] : {std::pair{"/scalar", H5S_SCALAR}, {"/null", H5S_NULL}}) {
        const hid_t id = H5Screate(space);
        H5Dclose(H5Dcreate2(file.id(), name, H5T_IEEE_F32LE, id, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        H5Sclose(id);
    }
    const Hdf5Image image(file.bytes(), "file.h5");
    const std::vector<std::string> names = image.members("/");
    EXPECT_EQ(names.size(), 14U);
    for (const std::string& name : names) {
        expect_refused(image, "/" + name);
    }
}

TEST(Hdf5, OtherElementTypesAreRefused) {
    SignedFile file;
    const std::array<hsize_t, 1> extent{16};
    const hid_t text = H5Tcopy(H5T_C_S1);
    H5Tset_size(text, H5T_VARIABLE);
    const hid_t compound = H5Tcreate(H5T_COMPOUND, 4);
    H5Tinsert(compound, "x", 0, H5T_IEEE_F32LE);
    file.claim("/double", extent, extent, H5T_IEEE_F64LE);
    file.claim("/integer", extent, extent, H5T_STD_I32LE);
    file.claim("/big_endian", extent, extent, H5T_IEEE_F32BE);
    file.claim("/compound", extent, extent, compound);
    file.claim("/text", extent, extent, text, [](hid_t) {});
    H5Tclose(compound);
    H5Tclose(text);
    const Hdf5Image image(file.bytes(), "file.h5");
    for (const std::string& name : image.members("/")) {
        EXPECT_TRUE(error_of<DamagedFile>([&] { (void)image.values<float>("/" + name); })) << name;
    }
}

TEST(Hdf5, AttributesOfAnotherFormAreRefused) {
    SignedFile file;
    const std::vector<std::int64_t> many(8192);
    const double number = 1;
    const hid_t fixed = H5Tcopy(H5T_C_S1);
    H5Tset_size(fixed, 5);
    file.attribute("array", H5T_STD_I64LE, {64}, many.data());
    file.attribute("no_elements", H5T_STD_I64LE, {0}, nullptr);
    file.attribute("real", H5T_IEEE_F64LE, {}, &number);
    file.attribute("fixed", fixed, {}, "text");
    const hid_t variable = H5Tcopy(H5T_C_S1);
    H5Tset_size(variable, H5T_VARIABLE);
    const std::array<const char*, 2> texts{"a", "b"};
    file.attribute("texts", variable, {2}, static_cast<const void*>(texts.data()));
    H5Tclose(variable);
    H5Tclose(fixed);
    const Hdf5Image image(file.bytes(), "file.h5");
    for (const char* name : {"array", "no_elements", "real", "fixed", "texts"}) {
        EXPECT_TRUE(error_of<DamagedFile>([&] { (void)image.integer(name); })) << name;
        EXPECT_TRUE(error_of<DamagedFile>([&] { (void)image.text(name); })) << name;
    }
}

TEST(Hdf5, SignedNonsenseIsRefused) {
    const auto signed_bytes = [](std::string_view contents) {
        std::vector<std::byte> all(user_block_bytes + contents.size());
        std::memcpy(all.data() + user_block_bytes, contents.data(), contents.size());
        const std::string text =
            std::string(user_block_text) + core::hash128(std::span(all).subspan(user_block_bytes)) + "\n";
        std::memcpy(all.data(), text.data(), text.size());
        return all;
    };
    EXPECT_TRUE(error_of<DamagedFile>([&] { const Hdf5Image image(signed_bytes("x"), "f"); }));
    EXPECT_TRUE(error_of<DamagedFile>([&] { const Hdf5Image image(signed_bytes(std::string(5000, 'x')), "f"); }));
    EXPECT_TRUE(error_of<DamagedFile>([&] { const Hdf5Image image(signed_bytes("\x89HDF\r\n\x1a\n"), "f"); }));
    const auto whole = make_file();
    const std::string cut(reinterpret_cast<const char*>(whole.data()) + user_block_bytes, 700);
    EXPECT_TRUE(error_of<DamagedFile>([&] { const Hdf5Image image(signed_bytes(cut), "f"); }));
}

// HDF5 prints its error stack unless told not to; users see one message from dtrain instead.
TEST(Hdf5, PrintsNothingByItself) {
    ::testing::internal::CaptureStderr();
    const Hdf5Image image(make_file(), "file.h5");
    EXPECT_TRUE(error_of<DamagedFile>([&] { (void)image.integer("absent"); }));
    EXPECT_TRUE(error_of<DamagedFile>([&] { (void)image.shape("/absent"); }));
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

} // namespace
} // namespace dtrain::io
