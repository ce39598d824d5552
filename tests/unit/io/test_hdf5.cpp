#include "dtrain/core/hash.hpp"
#include "dtrain/io/file.hpp"
#include "dtrain/io/hdf5.hpp"

#include "support/errors.hpp"
#include "support/sealed.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>
#define H5_USE_110_API // H5O_info_t is another type in newer versions
#include <hdf5.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <regex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace dtrain::io {
namespace {

using support::error_of;

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

/// The error of reading everything from an image, if there is one.
std::optional<DamagedFile> damage_of(std::vector<std::byte> bytes) {
    return error_of<DamagedFile>([&] {
        const Hdf5Image image(std::move(bytes), "run/file.h5");
        std::vector<float> weight(6);
        image.read("/model/01_dense/weight", std::span(weight));
        EXPECT_EQ(std::memcmp(weight.data(), floats.data(), sizeof(float) * 6), 0);
        EXPECT_EQ(image.values<double>("/epochs/train_cost"), doubles);
        EXPECT_EQ(image.values<std::int64_t>("/epochs/step"), integers);
        EXPECT_EQ(image.integer("epoch"), -3);
        EXPECT_EQ(image.unsigned_integer("seed"), 12U);
        EXPECT_EQ(image.text("config"), config_text);
    });
}

TEST(Hdf5, RoundTripIsExact) {
    EXPECT_FALSE(damage_of(make_file()));
    const Hdf5Image image(make_file(), "file.h5");
    EXPECT_EQ(image.shape("/model/01_dense/weight"), (std::vector<std::size_t>{2, 3}));
    EXPECT_TRUE(image.has("/model/01_dense/weight"));
    EXPECT_FALSE(image.has("/model"));
    EXPECT_FALSE(image.has("/model/02_dense/weight"));
    EXPECT_FALSE(image.has("/absent"));
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

// HDF5's own reason, which it does not print on the screen.
TEST(Hdf5, ReportsWhyAFileCannotBeMade) {
    const std::vector<DatasetView> datasets{{"/twice", {6}, std::span<const float>(floats)},
                                            {"/twice", {6}, std::span<const float>(floats)}};
    ::testing::internal::CaptureStderr();
    const auto error = error_of([&] { (void)to_hdf5(datasets, {}); });
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_output);
    EXPECT_EQ(std::string(error->what()), "HDF5 cannot write /twice: name already exists");
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

template <class T>
void expect_same_values(hid_t dataset, hid_t type, const Hdf5Image& image, const std::string& path) {
    const std::vector<T> ours = image.values<T>(path);
    std::vector<T> theirs(ours.size());
    EXPECT_GE(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, theirs.data()), 0) << path;
    EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(ours)), std::as_bytes(std::span(theirs)))) << path;
}

/// Compares a dataset as read by HDF5, which checks its Fletcher32, with the same dataset as read by dtrain.
void expect_same_dataset(hid_t file, const Hdf5Image& image, const std::string& path) {
    const hid_t dataset = H5Dopen2(file, path.c_str(), H5P_DEFAULT);
    const hid_t creation = H5Dget_create_plist(dataset);
    EXPECT_EQ(H5Pget_nfilters(creation), 1);
    EXPECT_GE(H5Pget_filter_by_id2(creation, H5Z_FILTER_FLETCHER32, nullptr, nullptr, nullptr, 0, nullptr, nullptr), 0);
    H5Pclose(creation);
    const hid_t space = H5Dget_space(dataset);
    std::vector<hsize_t> extent(static_cast<std::size_t>(H5Sget_simple_extent_ndims(space)));
    H5Sget_simple_extent_dims(space, extent.data(), nullptr);
    H5Sclose(space);
    EXPECT_EQ(std::vector<std::size_t>(extent.begin(), extent.end()), image.shape(path)) << path;
    const hid_t type = H5Dget_type(dataset);
    if (H5Tequal(type, H5T_IEEE_F32LE) > 0) {
        expect_same_values<float>(dataset, type, image, path);
    } else if (H5Tequal(type, H5T_IEEE_F64LE) > 0) {
        expect_same_values<double>(dataset, type, image, path);
    } else if (H5Tequal(type, H5T_STD_I64LE) > 0) {
        expect_same_values<std::int64_t>(dataset, type, image, path);
    } else {
        EXPECT_GT(H5Tequal(type, H5T_STD_U64LE), 0) << path;
        expect_same_values<std::uint64_t>(dataset, type, image, path);
    }
    H5Tclose(type);
    H5Dclose(dataset);
}

void expect_same_attribute(hid_t file, const Hdf5Image& image, const std::string& name) {
    const hid_t attribute = H5Aopen(file, name.c_str(), H5P_DEFAULT);
    const hid_t type = H5Aget_type(attribute);
    if (H5Tget_class(type) == H5T_STRING) {
        char* text = nullptr;
        ASSERT_GE(H5Aread(attribute, type, static_cast<void*>(&text)), 0) << name;
        EXPECT_EQ(image.text(name), text);
        H5free_memory(text);
    } else if (H5Tequal(type, H5T_STD_I64LE) > 0) {
        std::int64_t value = 0;
        EXPECT_GE(H5Aread(attribute, type, &value), 0) << name;
        EXPECT_EQ(image.integer(name), value);
    } else if (H5Tequal(type, H5T_IEEE_F64LE) > 0) {
        double value = 0;
        EXPECT_GE(H5Aread(attribute, type, &value), 0) << name;
        EXPECT_EQ(image.real(name), value);
    } else {
        EXPECT_GT(H5Tequal(type, H5T_STD_U64LE), 0) << name;
        std::uint64_t value = 0;
        EXPECT_GE(H5Aread(attribute, type, &value), 0) << name;
        EXPECT_EQ(image.unsigned_integer(name), value);
    }
    H5Tclose(type);
    H5Aclose(attribute);
}

TEST(Hdf5, IsTheSameToOtherPrograms) {
    std::vector<float> large(5 * 700'001); // complete chunks, and a last chunk that is not full
    for (std::size_t i = 0; i < large.size(); ++i) {
        large[i] = static_cast<float>(i);
    }
    const std::vector<std::uint64_t> hashes{0, std::numeric_limits<std::uint64_t>::max()};
    const std::vector<DatasetView> datasets{
        {"/model/01_dense/weight", {2, 3}, std::span<const float>(floats)},
        {"/model/02_dense/weight", {5, 700'001}, std::span<const float>(large)},
        {"/steps/cost", {large.size()}, std::span<const float>(large)},
        {"/epochs/train_cost", {2}, std::span<const double>(doubles)},
        {"/epochs/test_cost", {0}, std::span<const double>()},
        {"/epochs/step", {3}, std::span<const std::int64_t>(integers)},
        {"/epochs/fingerprint", {2}, std::span<const std::uint64_t>(hashes)},
    };
    const Attributes attributes{{"epoch", std::numeric_limits<std::int64_t>::min()},
                                {"seed", std::numeric_limits<std::uint64_t>::max()},
                                {"config", config_text},
                                {"cost", -0.1},
                                {"none", std::string()},
                                {"long", std::string(5000, 'x')}}; // a larger user block
    const support::TemporaryFolder folder;
    const std::vector<std::byte> bytes = to_hdf5(datasets, attributes);
    replace_file(folder / "file.h5", bytes);
    const Hdf5Image image(bytes, "file.h5");
    const hid_t file = H5Fopen((folder / "file.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    ASSERT_GE(file, 0);

    std::vector<std::string> names;
    const auto collect_datasets = [](hid_t, const char* name, const H5O_info_t* info, void* out) -> herr_t {
        if (info->type == H5O_TYPE_DATASET) {
            static_cast<std::vector<std::string>*>(out)->push_back(std::string("/") + name);
        }
        return 0;
    };
    EXPECT_GE(H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, collect_datasets, &names, H5O_INFO_BASIC), 0);
    EXPECT_EQ(names.size(), datasets.size());
    for (const std::string& path : names) {
        expect_same_dataset(file, image, path);
    }

    names.clear();
    const auto collect_attributes = [](hid_t, const char* name, const H5A_info_t*, void* out) -> herr_t {
        static_cast<std::vector<std::string>*>(out)->emplace_back(name);
        return 0;
    };
    EXPECT_GE(H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect_attributes, &names), 0);
    EXPECT_EQ(names.size(), attributes.size());
    for (const std::string& name : names) {
        expect_same_attribute(file, image, name);
    }
    H5Fclose(file);
}

TEST(Hdf5, GroupsHaveAttributesToo) {
    const std::vector<DatasetView> datasets{{"/surface/path/x", {2}, std::span<const double>(doubles)}};
    const std::vector<std::byte> bytes = to_hdf5(datasets, {{"/surface/path/samples", std::int64_t{3}}});
    EXPECT_EQ(Hdf5Image(bytes, "file.h5").integer("/surface/path/samples"), 3);
    const support::TemporaryFolder folder;
    replace_file(folder / "file.h5", bytes);
    const hid_t file = H5Fopen((folder / "file.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    const hid_t attribute = H5Aopen_by_name(file, "/surface/path", "samples", H5P_DEFAULT, H5P_DEFAULT);
    std::int64_t value = 0;
    EXPECT_GE(H5Aread(attribute, H5T_NATIVE_INT64, &value), 0);
    EXPECT_EQ(value, 3);
    H5Aclose(attribute);
    H5Fclose(file);
}

TEST(Hdf5, TextsOfAnyBytesSurvive) {
    const std::string text = std::string("a\0b\n", 4) + "end\nattribute i8 x 1\n\xff";
    const Hdf5Image image(to_hdf5({}, {{"text", text}, {"x", std::int64_t{2}}}), "file.h5");
    EXPECT_EQ(image.text("text"), text);
    EXPECT_EQ(image.integer("x"), 2);
}

/// For each byte of the file from make_file(): whether dtrain reads it (first line, index and values).
std::vector<bool> bytes_read(std::span<const std::byte> file) {
    std::vector<bool> read(file.size());
    const auto mark = [&](std::size_t offset, std::size_t size) {
        std::fill_n(read.begin() + static_cast<std::ptrdiff_t>(offset), size, true);
    };
    const std::string contents = support::contents_of(file);
    mark(0, file.size() - contents.size() + support::index_in(contents).size());
    for (const auto& values :
         {std::as_bytes(std::span(floats)), std::as_bytes(std::span(doubles)), std::as_bytes(std::span(integers))}) {
        const auto found = std::search(file.begin(), file.end(), values.begin(), values.end());
        mark(static_cast<std::size_t>(found - file.begin()), values.size());
    }
    return read;
}

// The other bytes belong to HDF5. damage_of checks that the values stay the same.
TEST(Hdf5, AFlippedBitThatIsReadIsRefused) {
    const auto valid = make_file();
    const std::vector<bool> read = bytes_read(valid);
    EXPECT_LT(std::ranges::count(read, true), std::ssize(valid));
    for (std::size_t place = 0; place < valid.size(); ++place) {
        auto bytes = valid;
        bytes[place] ^= std::byte{1} << (place % 8);
        const auto damage = damage_of(std::move(bytes));
        ASSERT_EQ(damage.has_value(), read[place]) << "byte " << place;
        if (damage) {
            ASSERT_TRUE(std::string_view(damage->what()).starts_with("run/file.h5: ")) << damage->what();
            ASSERT_EQ(damage->code(), core::ExitCode::bad_checkpoint);
        }
    }
}

TEST(Hdf5, TruncatedFilesAreRefused) {
    const auto valid = make_file();
    for (std::size_t length = 0; length < valid.size(); length += length < 600 ? 1 : 97) {
        EXPECT_TRUE(damage_of({valid.begin(), valid.begin() + static_cast<std::ptrdiff_t>(length)})) << length;
    }
    const auto cut = damage_of({valid.begin(), valid.end() - 1});
    ASSERT_TRUE(cut);
    EXPECT_NE(std::string_view(cut->what()).find("truncated"), std::string_view::npos) << cut->what();
    auto longer = valid;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(damage_of(longer));
}

// h5py opens files like this in mode "a": once it changes nothing, once it adds a group.
TEST(Hdf5, OpenedForWritingByAnotherProgramIsRead) {
    const support::TemporaryFolder folder;
    const auto valid = make_file();
    replace_file(folder / "file.h5", valid);
    for (const bool adds : {false, true}) {
        const hid_t file = H5Fopen((folder / "file.h5").c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
        ASSERT_GE(file, 0);
        if (adds) {
            const hid_t group = H5Gcreate2(file, "notes", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
            EXPECT_GE(group, 0);
            H5Gclose(group);
        }
        H5Fclose(file);
        const auto changed = read_file(folder / "file.h5");
        EXPECT_NE(changed, valid);
        EXPECT_FALSE(damage_of(changed)) << adds;
    }
}

TEST(Hdf5, ReportsWhichValuesAnotherProgramChanged) {
    const support::TemporaryFolder folder;
    replace_file(folder / "file.h5", make_file());
    const hid_t file = H5Fopen((folder / "file.h5").c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    const hid_t dataset = H5Dopen2(file, "/epochs/step", H5P_DEFAULT);
    const std::vector<std::int64_t> others{1, 2, 3};
    EXPECT_GE(H5Dwrite(dataset, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, others.data()), 0);
    H5Dclose(dataset);
    H5Fclose(file);
    const auto damage = damage_of(read_file(folder / "file.h5"));
    ASSERT_TRUE(damage);
    EXPECT_NE(std::string_view(damage->what()).find("1 of its 3 datasets (the first is /epochs/step)"),
              std::string_view::npos)
        << damage->what();
}

// Their index has no digests of pieces. The digest in the first line covers the complete file.
TEST(Hdf5, FilesOfThePreviousFormatAreRead) {
    const std::string contents = support::contents_of(make_file());
    std::string index(support::index_in(contents));
    index = std::regex_replace(index, std::regex(" [0-9a-f]{32}(?=\n)|bytes [0-9]+\n"), "");
    // The HDF5 file begins at the same offset as before, so the offsets in the index stay right.
    const std::size_t longer_label = support::label_3.size() - support::label_2.size();
    const std::string hdf5 = contents.substr(contents.find("\x89HDF"));
    index.resize(contents.size() + longer_label - hdf5.size());
    auto bytes = support::sealed(index + hdf5);
    EXPECT_FALSE(damage_of(bytes));
    bytes.back() ^= std::byte{1};
    EXPECT_TRUE(damage_of(bytes));
}

// A resumed run would rename damaged files.
TEST(Hdf5, FilesOfOtherVersionsAreNotCalledDamaged) {
    for (const auto& [begin, problem] :
         {std::pair{"dtrain: XXH3-128 of everything after these 512 bytes: ", "earlier version"},
          std::pair{"dtrain 4: as it may be: ", "later version"}}) {
        std::string text = std::string(begin) + "0123456789abcdef0123456789abcdef\n";
        text.resize(2048);
        const auto bytes = std::as_bytes(std::span(text));
        try {
            const Hdf5Image image({bytes.begin(), bytes.end()}, "run/file.h5");
            ADD_FAILURE() << begin;
        } catch (const DamagedFile& error) {
            ADD_FAILURE() << error.what();
        } catch (const core::Error& error) {
            EXPECT_EQ(error.code(), core::ExitCode::bad_checkpoint);
            EXPECT_NE(std::string_view(error.what()).find(problem), std::string_view::npos) << error.what();
        }
    }
}

TEST(Hdf5, ReportsWhatIsMissingOrOfAnotherType) {
    const Hdf5Image image(make_file(), "run/file.h5");
    const auto expect_damage = [&](std::string_view name, const std::function<void()>& action) {
        const auto error = error_of<DamagedFile>(action);
        ASSERT_TRUE(error) << name;
        EXPECT_TRUE(std::string_view(error->what()).starts_with("run/file.h5: damaged: ")) << error->what();
        EXPECT_NE(std::string_view(error->what()).find(name), std::string_view::npos) << error->what();
    };
    expect_damage("absent", [&] { (void)image.integer("absent"); });
    expect_damage("absent", [&] { (void)image.text("absent"); });
    expect_damage("config", [&] { (void)image.integer("config"); });
    expect_damage("epoch", [&] { (void)image.text("epoch"); });
    expect_damage("epoch", [&] { (void)image.unsigned_integer("epoch"); });
    expect_damage("seed", [&] { (void)image.integer("seed"); });
    expect_damage("/absent", [&] { (void)image.shape("/absent"); });
    expect_damage("/absent/deep", [&] { (void)image.values<float>("/absent/deep"); });
    expect_damage("/model", [&] { (void)image.values<float>("/model"); });
    expect_damage("/epochs/train_cost", [&] { (void)image.values<float>("/epochs/train_cost"); });
    expect_damage("/model/01_dense/weight", [&] { (void)image.values<double>("/model/01_dense/weight"); });
    std::vector<float> five(5);
    expect_damage("/model/01_dense/weight", [&] { image.read("/model/01_dense/weight", std::span(five)); });
}

/// The message of opening a file with these contents and a correct digest, or "".
std::string message_about(const std::string& contents) {
    const auto error = error_of<DamagedFile>([&] { const Hdf5Image image(support::sealed(contents), "f"); });
    return error ? error->what() : "";
}

TEST(Hdf5, IndexIsReadByItsFormat) {
    const std::string data("\x00\x00\x80\x3f\x00\x00\x00\x40", 8); // 1 and 2
    const std::string index = "attribute u8 seed 7\nattribute text note 2\na\n\nattribute i8 step -1\n";
    const std::size_t label_bytes = support::sealed("").size();
    const std::string line = "dataset f4 1x2 /x 4 300 304\ndataset i8 0x3 /empty 24\nend\n";
    std::string contents = index + line;
    contents.resize(300 - label_bytes);
    const Hdf5Image image(support::sealed(contents + data), "f");
    EXPECT_EQ(image.unsigned_integer("seed"), 7U);
    EXPECT_EQ(image.text("note"), "a\n");
    EXPECT_EQ(image.integer("step"), -1);
    EXPECT_EQ(image.shape("/x"), (std::vector<std::size_t>{1, 2}));
    EXPECT_EQ(image.values<float>("/x"), (std::vector<float>{1, 2}));
    EXPECT_EQ(image.shape("/empty"), (std::vector<std::size_t>{0, 3}));
    EXPECT_TRUE(image.values<std::int64_t>("/empty").empty());
}

TEST(Hdf5, EachPieceHasADigest) {
    const auto message = [](const std::string& pieces) {
        const auto error = error_of<DamagedFile>([&] {
            const std::string contents = "dataset f4 4 /x 8 " + pieces + "\nend\n" + std::string(500, '?');
            const Hdf5Image image(support::sealed(contents, support::label_3), "f");
        });
        return std::string(error ? error->what() : "");
    };
    const std::string digest = core::hash128(std::as_bytes(std::span("????????", 8)));
    EXPECT_EQ(message("300 " + digest + " 400 " + digest), "");
    EXPECT_NE(message("300 " + digest + " 400").find("without a checksum"), std::string::npos);
    EXPECT_NE(message("300 400").find("is incomplete"), std::string::npos);
    EXPECT_NE(message("300 " + digest + " 0 " + digest).find("/x) do not match"), std::string::npos);
}

TEST(Hdf5, DatasetsCannotExtendBeyondTheFile) {
    const auto message = [](int offset) {
        return message_about("dataset f4 4 /x 16 " + std::to_string(offset) + "\nend\n" + std::string(500, '\0'));
    };
    const auto size = static_cast<int>(support::sealed("dataset f4 4 /x 16 123\nend\n").size()) + 500;
    EXPECT_EQ(message(size - 16), "");
    EXPECT_NE(message(size - 15), "");
}

TEST(Hdf5, FalseClaimsOfTheIndexAreRefused) {
    const std::string padding(1000, '\0');
    const auto message = [&](const std::string& lines) { return message_about(lines + "end\n" + padding); };
    EXPECT_EQ(message(""), "");
    EXPECT_EQ(message("attribute i8 a 1\ndataset f4 2 /x 8 0\ndataset f8 2x3 /y 16 0 9 9\n"), "");
    const std::vector<std::pair<std::string, std::string>> lies{
        // Outside the file: in the first piece, in the last piece, with overflow.
        {"dataset f4 4 /x 16 1000000", "/x is outside"},
        {"dataset f4 4 /x 16 18446744073709551615", "/x is outside"},
        {"dataset f4 4 /x 16 18446744073709551601", "/x is outside"},
        {"dataset f4 4 /x 8 0 10000", "/x is outside"},
        {"dataset f4 4 /x 16 18446744073709551616", "number"},
        {"dataset f4 4 /x 16 -16", "number"},
        // Larger than the file: alone, by an overflowing product, after a zero, and all together.
        {"dataset f4 1000 /x 1000 0 0 0 0", "/x is larger than the file"},
        {"dataset f4 1099511627776 /x 100 0", "/x is larger than the file"},
        {"dataset f4 4294967296x4294967296 /x 16 0", "/x is larger than the file"},
        {"dataset f4 512x512x512x512x512x512x512x2 /x 16 0", "/x is larger than the file"},
        {"dataset f4 0x1099511627776 /x 16", "/x is larger than the file"},
        {"dataset f8 64 /x 512 0\ndataset f8 64 /y 512 0\ndataset f8 64 /z 512 0", "/z is larger than the file"},
        // The number of pieces does not match the size.
        {"dataset f4 4 /x 16", "is incomplete"},
        {"dataset f4 4 /x 8 0", "is incomplete"},
        {"dataset f4 4 /x 8 0 8 16", "/x is outside"},
        {"dataset f4 0 /x 8 0", "/x is outside"},
        {"dataset f4 4 /x 0 0", "/x is outside"},
        // Twice, so it is not clear which one is valid.
        {"dataset f4 1 /x 4 0\ndataset f4 1 /x 4 0", "/x twice"},
        {"attribute i8 a 1\nattribute i8 a 1", "a twice"},
        {"attribute i8 a 1\nattribute text a 0\n", "a twice"},
        // Unknown or meaningless.
        {"dataset f2 4 /x 8 0", "unknown type"},
        {"dataset text 4 /x 8 0", "unknown type"},
        {"attribute f4 a 1", "unknown type"},
        {"attribute f8 a 1,5", "number"},
        {"attribute i8 a", "line of the index is unknown"},
        {"attribute i8 a 1 2", "line of the index is unknown"},
        {"attribute i8 a 9223372036854775808", "number"},
        {"attribute u8 a -1", "number"},
        {"attribute i8 a ", "number"},
        {"attribute i8 a 1x", "number"},
        {"dataset f4 /x 4", "line of the index is unknown"},
        {"dataset f4  /x 4 0", "number"},
        {"dataset f4 2x /x 8 0", "number"},
        {"dataset f4 x2 /x 8 0", "number"},
        {"group /x", "line of the index is unknown"},
        {"attribute i8  1", "name"},
        {"attribute i8 \x1b[2J 1", "name"},
        {"dataset f4 1 " + std::string(300, 'x') + " 4 0", "name"},
        {"", "line of the index is unknown"},
        // A text that is shorter or longer than its length, and one without an end.
        {"attribute text a 2\nabc", "truncated"},
        {"attribute text a 3\nab", "truncated"},
        {"attribute text a 5000\nab", "truncated"},
        {"attribute text a 18446744073709551615\nab", "truncated"},
    };
    for (const auto& [lines, part] : lies) {
        EXPECT_NE(message(lines + "\n").find(part), std::string::npos) << lines << " -> " << message(lines + "\n");
    }
    for (const std::string contents :
         {"", "end", "attribute i8 a 1\n", "attribute text a 1", "attribute text a 3\nend\n"}) {
        EXPECT_NE(message_about(contents).find("truncated"), std::string::npos) << contents;
    }
}

} // namespace
} // namespace dtrain::io
