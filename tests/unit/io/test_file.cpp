#include "dtrain/io/file.hpp"

#include "support/errors.hpp"
#include "support/temporary_folder.hpp"
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <vector>

namespace dtrain::io {
namespace {

using support::error_of;
using support::read_text;

static_assert(!std::is_copy_constructible_v<Folder> && std::is_nothrow_move_constructible_v<Folder>);

std::span<const std::byte> bytes(std::string_view text) {
    return std::as_bytes(std::span(text));
}

/// While an object lives, files of this process cannot grow beyond `limit`. To write() this is a full disk.
class SizeLimit {
  public:
    explicit SizeLimit(rlim_t limit) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        getrlimit(RLIMIT_FSIZE, &before_);
        const rlimit now{limit, before_.rlim_max};
        setrlimit(RLIMIT_FSIZE, &now);
    }
    ~SizeLimit() {
        setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }
    SizeLimit(const SizeLimit&) = delete;
    SizeLimit& operator=(const SizeLimit&) = delete;

  private:
    void (*handler_)(int);
    rlimit before_{};
};

TEST(ReplaceFile, WritesAndReplaces) {
    const support::TemporaryFolder folder;
    for (const std::string& contents : {std::string("first"), std::string(100'000, 'x'), std::string()}) {
        replace_file(folder / "file", bytes(contents));
        EXPECT_EQ(read_text(folder / "file"), contents);
        EXPECT_EQ(folder.names(), std::vector<std::string>{"file"});
    }
}

TEST(ReplaceFile, NamesTheFileThatItCannotWrite) {
    const support::TemporaryFolder folder;
    const auto missing = folder.path() / "absent" / "file";
    const auto error = error_of([&] { replace_file(missing, bytes("x")); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_output);
    EXPECT_NE(std::string_view(error->what()).find(missing.string()), std::string_view::npos);
    EXPECT_NE(std::string_view(error->what()).find("No such file"), std::string_view::npos) << error->what();
    EXPECT_TRUE(folder.names().empty());
}

TEST(ReplaceFile, LeavesNoTemporaryFileIfAFolderIsInTheWay) {
    const support::TemporaryFolder folder;
    std::filesystem::create_directory(folder / "file");
    const auto error = error_of([&] { replace_file(folder / "file", bytes("x")); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_output);
    EXPECT_EQ(folder.names(), std::vector<std::string>{"file"});
}

TEST(RequireReplaceable, GivesTheErrorOfReplaceFile) {
    const support::TemporaryFolder folder;
    std::filesystem::create_directory(folder / "folder");
    for (const auto& file : {folder / "folder", folder / "absent" / "file"}) {
        const auto error = error_of([&] { require_replaceable(file); });
        const auto later = error_of([&] { replace_file(file, bytes("x")); });
        ASSERT_TRUE(error && later) << file;
        EXPECT_STREQ(error->what(), later->what());
        EXPECT_EQ(error->code(), core::ExitCode::bad_output);
    }
    replace_file(folder / "file", bytes("old"));
    require_replaceable(folder / "file");
    require_replaceable(folder / "new");
    EXPECT_EQ(read_text(folder / "file"), "old");
    EXPECT_EQ(folder.names(), (std::vector<std::string>{"file", "folder"}));
}

TEST(ReplaceFile, KeepsTheOldFileIfTheNewOneDoesNotFit) {
    const support::TemporaryFolder folder;
    replace_file(folder / "file", bytes("old"));
    const std::string large(100'000, 'x');
    const auto error = error_of([&] {
        const SizeLimit limit(10'000);
        replace_file(folder / "file", bytes(large));
    });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), core::ExitCode::bad_output);
    EXPECT_NE(std::string_view(error->what()).find("File too large"), std::string_view::npos) << error->what();
    EXPECT_EQ(read_text(folder / "file"), "old");
    EXPECT_EQ(folder.names(), std::vector<std::string>{"file"});
}

TEST(ReplaceFile, ShowsReadersTheOldOrTheNewFile) {
    const support::TemporaryFolder folder;
    const std::vector<std::string> versions{std::string(50'000, 'a'), std::string(70'000, 'b')};
    replace_file(folder / "file", bytes(versions[0]));
    std::atomic<bool> done = false;
    std::atomic<int> reads = 0;
    std::atomic<int> broken = 0;
    std::thread reader([&] {
        while (!done || reads == 0) {
            const std::string seen = read_text(folder / "file");
            broken += seen != versions[0] && seen != versions[1] ? 1 : 0;
            ++reads;
        }
    });
    for (std::size_t i = 1; i <= 40; ++i) {
        replace_file(folder / "file", bytes(versions[i % 2]));
    }
    done = true;
    reader.join();
    EXPECT_EQ(broken, 0) << "of " << reads;
}

TEST(ReadFile, ReturnsTheContentsOrTheReason) {
    const support::TemporaryFolder folder;
    const std::string contents("a\0b\n\xff", 5);
    support::write_file(folder / "file", contents);
    const auto read = read_file(folder / "file");
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(read.data()), read.size()), contents);
    support::write_file(folder / "empty", "");
    EXPECT_TRUE(read_file(folder / "empty").empty());

    for (const auto& [path, reason] : {std::pair{folder / "absent", "No such file"}, {folder.path(), "directory"}}) {
        const auto error = error_of([&at = path] { (void)read_file(at); });
        ASSERT_TRUE(error);
        EXPECT_EQ(error->code(), core::ExitCode::bad_checkpoint);
        EXPECT_NE(std::string_view(error->what()).find(path.string()), std::string_view::npos) << error->what();
        EXPECT_NE(std::string_view(error->what()).find(reason), std::string_view::npos) << error->what();
    }
}

TEST(CreateWritableFolder, CreatesEmptyFolders) {
    const support::TemporaryFolder folder;
    const auto deep = folder.path() / "a" / "b";
    create_writable_folder(deep);
    create_writable_folder(deep);
    EXPECT_TRUE(std::filesystem::is_empty(deep));
}

TEST(CreateWritableFolder, NamesWhatIsInTheWay) {
    const support::TemporaryFolder folder;
    support::write_file(folder / "file", "");
    for (const auto& path : {folder / "file", folder / "file" / "below"}) {
        const auto error = error_of([&] { create_writable_folder(path); });
        ASSERT_TRUE(error) << path;
        EXPECT_EQ(error->code(), core::ExitCode::bad_output);
        EXPECT_NE(std::string_view(error->what()).find(path.string()), std::string_view::npos) << error->what();
    }
}

TEST(Folder, IsLockedByOneAtATime) {
    const support::TemporaryFolder folder;
    {
        Folder first(folder.path());
        EXPECT_FALSE(first.locked());
        first.lock();
        EXPECT_TRUE(first.locked());
        Folder second(folder.path());
        const auto error = error_of([&] { second.lock(); });
        ASSERT_TRUE(error);
        EXPECT_EQ(error->code(), core::ExitCode::bad_output);
        EXPECT_NE(std::string_view(error->what()).find(folder.path().string()), std::string_view::npos);
    }
    Folder again(folder.path());
    EXPECT_FALSE(error_of([&] { again.lock(); })) << "the lock is released at the end";
    EXPECT_TRUE(folder.names().empty());
    EXPECT_TRUE(error_of([&] { const Folder absent(folder / "absent"); }));
}

TEST(Folder, RefusesToWriteAfterItWasMoved) {
    const support::TemporaryFolder parent;
    std::filesystem::create_directory(parent / "run");
    const Folder run(parent / "run");
    run.replace_file("file", bytes("first"));
    std::filesystem::rename(parent / "run", parent / "moved");
    for (const bool replaced : {false, true}) {
        if (replaced) {
            std::filesystem::create_directory(parent / "run");
        }
        const auto error = error_of([&] { run.replace_file("file", bytes("second")); });
        ASSERT_TRUE(error) << replaced;
        EXPECT_EQ(error->code(), core::ExitCode::bad_output);
        EXPECT_NE(std::string_view(error->what()).find((parent / "moved").string()), std::string_view::npos)
            << error->what();
    }
    EXPECT_TRUE(std::filesystem::is_empty(parent / "run"));
    EXPECT_EQ(read_text(parent / "moved" / "file"), "first");
    std::filesystem::remove(parent / "run");
    std::filesystem::rename(parent / "moved", parent / "run");
    run.replace_file("file", bytes("third"));
    EXPECT_EQ(read_text(parent / "run" / "file"), "third");
}

} // namespace
} // namespace dtrain::io
