#include "dtrain/io/checkpoint.hpp"
#include "dtrain/io/file.hpp"
#include "dtrain/io/file_kind.hpp"

#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace dtrain::io {
namespace {

TEST(FileKind, IsTheSameForValidAndForDamagedFiles) {
    const support::TemporaryFolder folder;
    CheckpointInfo info;
    info.config = "[data]\nattribute text created 3\n"; // text inside an attribute is not a heading
    info.sample_shape = {4};
    auto bytes = encode_checkpoint(info, {});
    replace_file(folder / "checkpoint", bytes);
    EXPECT_EQ(kind_of(folder / "checkpoint"), FileKind::checkpoint);
    bytes.back() ^= std::byte{1};
    replace_file(folder / "checkpoint", bytes);
    EXPECT_EQ(kind_of(folder / "checkpoint"), FileKind::checkpoint);
    replace_file(folder / "log",
                 to_hdf5({}, {{"config", std::string("fingerprint")}, {"created", std::string("now")}}));
    EXPECT_EQ(kind_of(folder / "log"), FileKind::log);
    replace_file(folder / "evaluation", to_hdf5({}, {{"checkpoint", std::string("x.h5")}, {"cost", 0.5}}));
    EXPECT_EQ(kind_of(folder / "evaluation"), FileKind::evaluation);
}

// Files of version 0.1 began with another label and had no index.
TEST(FileKind, IsFoundInFilesOfEarlierVersions) {
    const support::TemporaryFolder folder;
    const auto write_as_before = [&](const char* name, const std::vector<std::byte>& bytes) {
        const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        std::string heading = "dtrain: XXH3-128 of everything after these 512 bytes: " + std::string(32, '0') + "\n";
        heading.resize(512);
        support::write_file(folder / name, heading + text.substr(text.find("\x89HDF")));
    };
    const std::string config = "[model]\nlayers = dense 10\n\n[parallel]\nlogical_shards = 8\n";
    CheckpointInfo info;
    info.config = config;
    info.sample_shape = {4};
    write_as_before("checkpoint", encode_checkpoint(info, {}));
    EXPECT_EQ(kind_of(folder / "checkpoint"), FileKind::checkpoint);
    write_as_before("log", to_hdf5({}, {{"config", config}, {"created", std::string("now")}}));
    EXPECT_EQ(kind_of(folder / "log"), FileKind::log);
    write_as_before("other", to_hdf5({}, {}));
    EXPECT_EQ(kind_of(folder / "other"), std::nullopt);
}

TEST(FileKind, IsUnknownForFilesOfOtherPrograms) {
    const support::TemporaryFolder folder;
    EXPECT_EQ(kind_of(folder / "absent"), std::nullopt);
    EXPECT_EQ(kind_of(folder.path()), std::nullopt);
    for (const std::string text : {"", "dtrain", "created\n", "dtrain \n", "dtrain \ncreated 3\n",
                                   "dtrain \nattribute text other 99999999999999999999\nattribute text created 3\n"}) {
        support::write_file(folder / "file", text);
        EXPECT_EQ(kind_of(folder / "file"), std::nullopt) << text;
    }
}

} // namespace
} // namespace dtrain::io
