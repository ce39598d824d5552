#include "data/idx_files.hpp"
#include "support/errors.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <string_view>

namespace dtrain::data {
namespace {

using std::filesystem::path;

class IdxFiles : public ::testing::Test {
  protected:
    path put(const path& name) {
        const path file = folder_.path() / name;
        std::filesystem::create_directories(file.parent_path());
        support::write_file(file, "");
        return file;
    }
    /// The file found for the training set, as a path in the folder.
    [[nodiscard]] std::string samples(const path& directory = {}) const {
        return find_files(directory.empty() ? folder_.path() : folder_.path() / directory, Set::train)
            .samples.lexically_relative(folder_.path())
            .string();
    }
    void expect_error(std::string_view part, const path& directory = {}) const {
        const auto error = support::error_of([&] { (void)samples(directory); });
        ASSERT_TRUE(error) << part;
        EXPECT_EQ(error->code(), core::ExitCode::bad_data);
        EXPECT_NE(std::string_view(error->what()).find(part), std::string_view::npos) << error->what();
    }

    support::TemporaryFolder folder_;
};

// The names in Kaggle's archive, which has each file twice, and other common names. The last file created wins.
TEST_F(IdxFiles, AreFoundInEverySpelling) {
    put("train-labels-idx1-ubyte");
    for (const std::string spelling :
         {"train-images.idx3-ubyte/train-images.idx3-ubyte.gz", "train-images.idx3-ubyte/train-images.idx3-ubyte"}) {
        put(spelling);
        EXPECT_EQ(samples(), spelling);
    }
    std::filesystem::remove_all(folder_ / "train-images.idx3-ubyte");
    for (const std::string spelling :
         {"train-images.idx3-ubyte.gz", "train-images.idx3-ubyte", "train-images-idx3-ubyte/train-images-idx3-ubyte.gz",
          "train-images-idx3-ubyte/train-images-idx3-ubyte"}) {
        put(spelling);
        EXPECT_EQ(samples(), spelling);
    }
    std::filesystem::remove_all(folder_ / "train-images-idx3-ubyte");
    for (const std::string spelling : {"train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"}) {
        put(spelling);
        EXPECT_EQ(samples(), spelling);
    }
}

TEST_F(IdxFiles, OfLabelsAreFoundInEverySpelling) {
    put("t10k-images-idx3-ubyte");
    for (const path spelling :
         {"t10k-labels.idx1-ubyte", "t10k-labels-idx1-ubyte/t10k-labels-idx1-ubyte", "t10k-labels-idx1-ubyte.gz"}) {
        const path file = put(spelling);
        EXPECT_EQ(find_files(folder_.path(), Set::test).labels, file);
    }
}

TEST_F(IdxFiles, AreFoundWhereTorchvisionPutsThem) {
    put("data/MNIST/raw/train-labels-idx1-ubyte");
    put("data/MNIST/raw/train-images-idx3-ubyte.gz");
    for (const char* const directory : {"data", "data/MNIST", "data/MNIST/raw"}) {
        EXPECT_EQ(samples(directory), "data/MNIST/raw/train-images-idx3-ubyte.gz");
        EXPECT_EQ(find_data_folder(folder_ / directory), folder_ / "data/MNIST/raw");
    }
    // All files of a data set come from one place.
    put("data/t10k-images-idx3-ubyte");
    expect_error("the folder contains MNIST, t10k-images-idx3-ubyte; expected train-images-idx3-ubyte", "data");
}

TEST_F(IdxFiles, AreFoundByTheNameOfOneOfThem) {
    put("train-labels.idx1-ubyte/train-labels.idx1-ubyte");
    put("train-images-idx3-ubyte.gz");
    for (const char* const file : {"train-images-idx3-ubyte.gz", "train-labels.idx1-ubyte",
                                   "train-labels.idx1-ubyte/train-labels.idx1-ubyte", "t10k-images-idx3-ubyte"}) {
        EXPECT_EQ(samples(file), "train-images-idx3-ubyte.gz") << file;
    }
    EXPECT_EQ(samples("train-labels.idx1-ubyte/"), "train-images-idx3-ubyte.gz"); // as a shell completes it
    put("notes.txt");
    expect_error("notes.txt: Not a directory; expected train-images-idx3-ubyte", "notes.txt");
}

TEST_F(IdxFiles, OfSamplesHaveDimensionsAndTypeInTheirNames) {
    put("train-labels-idx1-ubyte");
    for (const char* const other : {"t10k-images-idx3-ubyte", "train-images-idx9-ubyte", "train-images-idx1-float"}) {
        put(other);
    }
    expect_error("expected train-images-idx3-ubyte");
    for (const std::string name : {"train-images-idx2-ubyte", "train-images-idx3-float", "train-images.idx8-float"}) {
        put(name);
        EXPECT_EQ(samples(), name);
        put("train-images-idx7-float.gz");
        expect_error("expected only one file of samples");
        std::filesystem::remove(folder_ / "train-images-idx7-float.gz");
        std::filesystem::remove(folder_ / name);
    }
}

TEST_F(IdxFiles, ThatAreMissingAreReportedWithTheFolderContents) {
    expect_error("none: No such file or directory; expected train-images-idx3-ubyte", "none");
    const std::string long_name(300, 'x');
    expect_error(long_name + ": File name too long; expected", long_name);
    expect_error(": the folder is empty; expected train-images-idx3-ubyte");
    for (const char* const name : {"train.csv", "test.csv", "a\nb", "train-images-idx3-ubyte/other", "x", "y"}) {
        put(name);
    }
    expect_error(
        "the folder contains a?b, test.csv, train-images-idx3-ubyte, train.csv, x and 1 more; expected train-");
    put("train-images.idx3-ubyte");
    expect_error("; expected train-labels-idx1-ubyte, plain or .gz. ");
}

} // namespace
} // namespace dtrain::data
