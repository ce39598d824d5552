#include "dtrain/data/dataset.hpp"
#include "dtrain/data/source.hpp"

#include "support/errors.hpp"
#include "support/hdf5_files.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>
#include <hdf5.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::data {
namespace {

using support::error_of;
using support::Hdf5Writer;
using support::Storage;

class Hdf5Source : public ::testing::Test {
  protected:
    Hdf5Source() { support::write_hdf5_digits(file_, 23, 7); }
    [[nodiscard]] std::unique_ptr<Source> source() const { return make_source("hdf5", {.file = file_}); }
    /// Writes a small training set of floats, with labels 0, 1, 2 ...
    void write_floats(const std::vector<float>& values, hsize_t samples, hid_t type = H5T_IEEE_F32LE,
                      const Storage& storage = {}) const {
        Hdf5Writer writer(file_);
        writer.write("/train/samples", {samples, values.size() / samples}, type, H5T_NATIVE_FLOAT, values.data(),
                     storage);
        std::string labels;
        for (hsize_t i = 0; i < samples; ++i) {
            labels += static_cast<char>(i);
        }
        writer.write_bytes("/train/labels", {samples}, labels);
    }
    /// The training set has 23 samples of 8 × 8 bytes, and these labels.
    void write_labels(const std::vector<std::int64_t>& labels, hid_t type = H5T_STD_I64LE) const {
        Hdf5Writer writer(file_);
        writer.write_bytes("/train/samples", {23, 8, 8}, train_.pixels);
        writer.write("/train/labels", {labels.size()}, type, H5T_NATIVE_INT64, labels.data());
    }
    [[nodiscard]] Split load(Set set = Set::train, std::size_t classes = 4) const {
        return load_set(*source(), set, classes);
    }
    void expect_bad(std::string_view message) const {
        ::testing::internal::CaptureStderr();
        const auto error = error_of([&] { (void)load(); });
        EXPECT_EQ(::testing::internal::GetCapturedStderr(), ""); // HDF5 prints nothing
        ASSERT_TRUE(error) << message;
        EXPECT_EQ(error->code(), core::ExitCode::bad_data);
        EXPECT_NE(std::string(error->what()).find(file_.string() + ": " + std::string(message)), std::string::npos)
            << error->what();
    }
    void expect_digits(const Split& split, const support::Digits& digits) const {
        EXPECT_EQ(split.total, static_cast<std::int64_t>(digits.samples));
        EXPECT_EQ(split.sample_shape, (std::vector<std::size_t>{8, 8}));
        EXPECT_EQ(support::characters(split.elements.values()), digits.pixels);
        EXPECT_EQ(std::string(split.labels.values().begin(), split.labels.values().end()), digits.labels);
    }
    [[nodiscard]] std::uint64_t hash_of_training_set() const { return source()->open(Set::train)->finish({0, 23}); }

    support::TemporaryFolder folder_;
    std::filesystem::path file_ = folder_ / "data.h5";
    const support::Digits train_ = support::make_digits(23, 1);
    const support::Digits test_ = support::make_digits(7, 2);
};

TEST_F(Hdf5Source, ReadsContiguousAndCompressedDatasets) {
    const std::uint64_t hash = hash_of_training_set();
    for (const hsize_t chunk_rows : {0, 1, 5, 23}) {
        support::write_hdf5_digits(file_, 23, 7, std::min<hsize_t>(chunk_rows, 6));
        expect_digits(load(Set::train), train_);
        expect_digits(load(Set::test), test_);
        EXPECT_EQ(hash_of_training_set(), hash);
    }
    EXPECT_TRUE(source()->every_rank_reads());
    EXPECT_EQ(source()->origin().value, file_.string());
}

TEST_F(Hdf5Source, ReadsFloatsOfBothByteOrders) {
    const std::vector<float> values{1.5F, -0.0F, 3e-40F, 1e38F, 5, 6};
    for (const hid_t type : {H5T_IEEE_F32LE, H5T_IEEE_F32BE}) {
        for (const Storage& storage : {Storage{}, Storage{{2, 1}, true}}) {
            write_floats(values, 3, type, storage);
            const Split split = load();
            EXPECT_EQ(split.element, Element::float32);
            std::vector<float> sample(2);
            for (std::int64_t i = 0; i < 3; ++i) {
                split.fetch(i, sample);
                EXPECT_TRUE(std::ranges::equal(sample, std::span(values).subspan(core::as_size(2 * i), 2)));
            }
        }
    }
}

TEST_F(Hdf5Source, ReadsLabelsOfEveryIntegerType) {
    for (const hid_t type : {H5T_STD_I8LE, H5T_STD_U8LE, H5T_STD_I16BE, H5T_STD_U16LE, H5T_STD_I32LE, H5T_STD_U32BE,
                             H5T_STD_I64LE, H5T_STD_U64LE}) {
        write_labels(support::integer_labels(train_), type);
        expect_digits(load(), train_);
    }
}

// Several pieces of 4 MB, and chunks of labels and samples that end at different places.
TEST_F(Hdf5Source, ReadsLargeSetsInPieces) {
    constexpr hsize_t samples = 1'000, size = 20'000;
    std::string values(samples * size, '\0');
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<char>(i * 2654435761U >> 11);
    }
    std::vector<std::int64_t> labels(samples);
    for (std::size_t i = 0; i < samples; ++i) {
        labels[i] = static_cast<std::int64_t>(i % 4);
    }
    for (const Storage& storage : {Storage{}, Storage{{37, 999}}, Storage{{450, 20'000}}}) {
        {
            Hdf5Writer writer(file_);
            writer.write_bytes("/train/samples", {samples, size}, values, storage);
            writer.write("/train/labels", {samples}, H5T_STD_I64LE, H5T_NATIVE_INT64, labels.data(),
                         storage.chunk.empty() ? Storage{} : Storage{{17}});
        }
        const Split split = load();
        EXPECT_TRUE(support::characters(split.elements.values()) == values);
        EXPECT_TRUE(std::ranges::equal(split.labels.values(), labels));
    }
}

TEST_F(Hdf5Source, HashesAddUpHoweverTheSetIsDivided) {
    const std::uint64_t whole = hash_of_training_set();
    std::uint64_t sum = 0;
    for (const core::Range range : {core::Range{0, 9}, {9, 9}, {9, 10}, {10, 20}}) {
        const auto reader = source()->open(Set::train);
        const Split split = allocate_split(reader->header(), range);
        reader->read(range, split.elements.values(), split.labels.values());
        EXPECT_EQ(support::characters(split.elements.values()),
                  train_.pixels.substr(core::as_size(range.begin) * 64, core::as_size(range.size()) * 64));
        sum += reader->finish(range.begin == 9 && range.size() == 1 ? core::Range{20, 23} : core::Range{23, 23});
    }
    EXPECT_EQ(sum, whole);
    EXPECT_EQ(source()->name({1, 0x2a}), "HDF5 data (hash 0000000000000001-000000000000002a)");
}

TEST_F(Hdf5Source, HashDependsOnEveryElementLabelAndTheOrder) {
    const std::uint64_t hash = hash_of_training_set();
    const auto rewrite = [&](const std::string& pixels, const std::vector<std::int64_t>& labels) {
        Hdf5Writer writer(file_);
        writer.write_bytes("/train/samples", {23, 8, 8}, pixels);
        writer.write("/train/labels", {23}, H5T_STD_I64LE, H5T_NATIVE_INT64, labels.data());
    };
    std::vector<std::int64_t> labels = support::integer_labels(train_);
    rewrite(train_.pixels, labels);
    EXPECT_EQ(hash_of_training_set(), hash);
    labels[22] ^= 1;
    rewrite(train_.pixels, labels);
    EXPECT_NE(hash_of_training_set(), hash);
    labels[22] ^= 1;
    std::string pixels = train_.pixels;
    ++pixels[700];
    rewrite(pixels, labels);
    EXPECT_NE(hash_of_training_set(), hash);
    pixels = train_.pixels.substr(64, 64) + train_.pixels.substr(0, 64) + train_.pixels.substr(128);
    std::swap(labels[0], labels[1]);
    rewrite(pixels, labels);
    EXPECT_NE(hash_of_training_set(), hash);
}

TEST_F(Hdf5Source, RefusesFilesThatAreNotHdf5) {
    std::filesystem::remove(file_);
    expect_bad("no such file; expected an HDF5 file");
    for (const char* const text : {"", "P5 28 28 255\n"}) {
        support::write_file(file_, text);
        expect_bad("this is not an HDF5 file");
    }
    std::filesystem::remove(file_);
    std::filesystem::create_directory(file_);
    expect_bad("this is not a file");
}

TEST_F(Hdf5Source, RefusesTruncatedFiles) {
    support::write_hdf5_digits(file_, 23, 7, 5);
    const std::string whole = support::read_text(file_);
    for (std::size_t length = 0; length < whole.size(); length += 97) {
        support::write_file(file_, whole.substr(0, length));
        expect_bad(length == 0 ? "this is not an HDF5 file" : "");
    }
}

TEST_F(Hdf5Source, ReportsDamagedChunks) {
    support::write_hdf5_digits(file_, 23, 7, 6);
    std::string bytes = support::read_text(file_);
    const std::size_t stream = bytes.find("\x78\x5e"); // the header of a deflate stream of level 4
    ASSERT_NE(stream, std::string::npos);
    bytes[stream] = '\0';
    support::write_file(file_, bytes);
    expect_bad("/train/samples: HDF5 cannot read it: inflate() failed");
}

TEST_F(Hdf5Source, RefusesMissingDatasets) {
    { const Hdf5Writer writer(file_); }
    expect_bad("the file has no /train/samples");
    Hdf5Writer(file_).write_bytes("/train/samples", {23, 8, 8}, train_.pixels);
    expect_bad("the file has no /train/labels");
    H5Fclose(H5Fcreate(file_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    expect_bad("the file has no /train/samples");
    {
        const Hdf5Writer writer(file_);
        H5Gclose(H5Gcreate2(writer.id(), "/train/samples", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    }
    expect_bad("/train/samples: HDF5 cannot read it: not a dataset");
}

TEST_F(Hdf5Source, RefusesOtherTypesOfSamples) {
    struct Case {
        hid_t type;
        const char* name;
        const char* advice;
    };
    const char* const of_integers = "samples.astype(\"uint8\") if the values are 0 to 255, else with "
                                    "samples.astype(\"float32\") and scale them to about 0 to 1";
    for (const Case& wrong : {Case{H5T_IEEE_F64LE, "float64", "samples.astype(\"float32\")"},
                              {H5T_STD_I8LE, "int8", of_integers},
                              {H5T_STD_U16LE, "uint16", of_integers},
                              {H5T_STD_I64BE, "int64", of_integers}}) {
        write_floats({1, 2, 3, 4}, 2, wrong.type);
        expect_bad(std::string("/train/samples: expected uint8 (bytes) or float32, but the elements are ") +
                   wrong.name + ". Convert them with " + wrong.advice);
    }
}

TEST_F(Hdf5Source, RefusesOtherShapes) {
    write_floats({1, 2, 3}, 3);
    EXPECT_EQ(load().sample_shape, (std::vector<std::size_t>{1}));
    const auto write = [&](const std::vector<hsize_t>& samples, const std::vector<hsize_t>& labels) {
        Hdf5Writer writer(file_);
        const std::string zeros(1024, '\0');
        writer.write_bytes("/train/samples", samples, zeros);
        writer.write_bytes("/train/labels", labels, zeros);
    };
    write({3}, {3});
    expect_bad("/train/samples: expected from 2 to 8 dimensions, the number of samples first, but there are 1");
    write({}, {3});
    expect_bad("/train/samples: expected from 2 to 8 dimensions");
    write({3, 1, 1, 1, 1, 1, 1, 1, 1}, {3});
    expect_bad("/train/samples: expected from 2 to 8 dimensions, the number of samples first, but there are 9");
    write({3, 0, 4}, {3});
    expect_bad("/train/samples: the shape 3 x 0 x 4 has no elements");
    write({0, 4}, {0});
    expect_bad("/train/samples: the shape 0 x 4 has no elements");
    write({3, 4}, {3, 1});
    expect_bad("/train/labels: expected one dimension, but there are 2");
    write({3, 4}, {2});
    expect_bad("/train/labels: there are 2 labels, but 3 samples");
    write({3, 4}, {3});
    EXPECT_EQ(load().total, 3);
}

TEST_F(Hdf5Source, RefusesLabelsThatAreNotClasses) {
    std::vector<std::int64_t> labels = support::integer_labels(train_);
    for (const std::int64_t bad :
         {std::int64_t{-1}, std::int64_t{256}, std::int64_t{1} << 40, std::numeric_limits<std::int64_t>::min()}) {
        labels[17] = bad;
        write_labels(labels);
        expect_bad("/train/labels: sample 17 has label " + std::to_string(bad) + "; expected labels from 0 to 255");
    }
    labels[17] = 255;
    write_labels(labels);
    expect_bad("/train/labels: sample 17 has label 255, but the network has only 4 classes (0 to 3)");
    EXPECT_EQ(load(Set::train, 256).labels.values()[17], 255);
    {
        Hdf5Writer writer(file_);
        const std::vector<double> values(23);
        writer.write_bytes("/train/samples", {23, 8, 8}, train_.pixels);
        writer.write("/train/labels", {23}, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, values.data());
    }
    expect_bad("/train/labels: expected integers, but the elements are float64. Convert them with "
               "labels.astype(\"uint8\")");
}

TEST_F(Hdf5Source, RefusesValuesThatAreNotFinite) {
    for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        write_floats({1, 2, 3, 4, bad, 6}, 3);
        expect_bad("/train/samples: sample 2 has a value that is not finite");
        const auto error = error_of([&] {
            (void)load_set(*make_source("hdf5", {.file = file_, .limits = {1, 0}}), Set::train, 4);
        });
        EXPECT_TRUE(error); // also in samples that are not used
    }
}

TEST_F(Hdf5Source, RefusesDatasetsThatWereNotWritten) {
    for (const Storage& storage : {Storage{{}, false, false}, Storage{{5, 8, 8}, true, false}}) {
        Hdf5Writer(file_).write_bytes("/train/samples", {23, 8, 8}, train_.pixels, storage);
        expect_bad("/train/samples: a part of it was never written");
    }
    // A set of 2^60 bytes in a file of 2 kB.
    Hdf5Writer(file_).write_bytes("/train/samples", {hsize_t{1} << 40, 1 << 10, 1 << 10}, "",
                                  {{1, 8, 8}, false, false});
    expect_bad("/train/samples: a part of it was never written");
    Hdf5Writer(file_).write_bytes("/train/samples", {hsize_t{1} << 44, 1 << 10, 1 << 10}, "",
                                  {{1, 8, 8}, false, false});
    expect_bad("/train/samples: it is too large");
}

TEST_F(Hdf5Source, RefusesDatasetsInOtherFiles) {
    support::write_file(folder_ / "raw", train_.pixels);
    {
        const Hdf5Writer writer(file_);
        const hsize_t shape[] = {23, 8, 8};
        const hid_t space = H5Screate_simple(3, shape, nullptr);
        const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
        H5Pset_external(creation, (folder_ / "raw").c_str(), 0, train_.pixels.size());
        H5Dclose(H5Dcreate2(writer.id(), "/train/samples", H5T_STD_U8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
        H5Pclose(creation);
        H5Sclose(space);
    }
    expect_bad("/train/samples: it is stored in other files. Copy it into this file");
}

TEST_F(Hdf5Source, RefusesLinksToOtherFiles) {
    const std::filesystem::path other = folder_ / "other.h5";
    support::write_hdf5_digits(other, 23, 7, 5);
    for (const char* const name : {"/train/samples", "/train"}) { // the dataset, and the group with it
        {
            const Hdf5Writer writer(file_);
            if (name == std::string("/train")) {
                ASSERT_GE(H5Ldelete(writer.id(), name, H5P_DEFAULT), 0);
            }
            ASSERT_GE(H5Lcreate_external(other.c_str(), name, writer.id(), name, H5P_DEFAULT, H5P_DEFAULT), 0);
        }
        expect_bad("/train/samples: it is stored in other files. Copy it into this file");
    }
}

TEST_F(Hdf5Source, TellsThatItMayNotRead) {
    std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
    std::filesystem::permissions(file_, std::filesystem::perms::none);
    const bool is_root = geteuid() == 0; // who may read every file
    ASSERT_TRUE(!is_root || seteuid(65534) == 0);
    const auto error = error_of([&] { (void)load(); });
    ASSERT_TRUE(!is_root || seteuid(0) == 0);
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_data);
    EXPECT_EQ(std::string(error->what()), "cannot read " + file_.string() + ": Permission denied");
}

/// A filter that only the writer has, as h5py's lzf.
TEST_F(Hdf5Source, NamesAFilterThatIsMissing) {
    constexpr H5Z_filter_t number = 32000;
    const H5Z_class2_t lzf{
        H5Z_CLASS_T_VERS,
        number,
        1,
        1,
        "lzf",
        nullptr,
        nullptr,
        [](unsigned, std::size_t, const unsigned*, std::size_t bytes, std::size_t*, void**) { return bytes; }};
    ASSERT_GE(H5Zregister(&lzf), 0);
    {
        const Hdf5Writer writer(file_);
        const hsize_t shape[] = {23, 8, 8};
        const hid_t space = H5Screate_simple(3, shape, nullptr);
        const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
        H5Pset_chunk(creation, 3, shape);
        H5Pset_filter(creation, number, H5Z_FLAG_OPTIONAL, 0, nullptr);
        const hid_t dataset =
            H5Dcreate2(writer.id(), "/train/samples", H5T_STD_U8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
        H5Dwrite(dataset, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, train_.pixels.data());
        H5Dclose(dataset);
        H5Pclose(creation);
        H5Sclose(space);
    }
    ASSERT_GE(H5Zunregister(number), 0);
    expect_bad("/train/samples: it is compressed with filter 32000 (lzf), which HDF5 does not have here. Write it with "
               "compression=\"gzip\"");
}

} // namespace
} // namespace dtrain::data
