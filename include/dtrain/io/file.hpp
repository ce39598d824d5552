#pragma once

#include "dtrain/core/error.hpp"

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace dtrain::io {

/// Replaces `file` by `contents` so that at any moment, even if the machine stops, it is either the old whole or the
/// new whole: written beside its place, synced, renamed, the folder synced. Throws core::Error (bad_output) and leaves
/// nothing behind.
void replace_file(const std::filesystem::path& file, std::span<const std::byte> contents);

/// Throws as replace_file would if `file` cannot be written now: to be asked before work that it would be the end of.
void require_replaceable(const std::filesystem::path& file);

/// Where replace_file writes first. Only a process that is killed meanwhile leaves a file there.
[[nodiscard]] std::filesystem::path temporary_of(std::filesystem::path file);

/// A file that is not there or cannot be read, whatever it holds.
class UnreadableFile : public core::Error {
  public:
    explicit UnreadableFile(const std::string& message) : core::Error(core::ExitCode::bad_checkpoint, message) {}
};

/// The whole file. Throws UnreadableFile.
[[nodiscard]] std::vector<std::byte> read_file(const std::filesystem::path& file);

/// Creates `folder` and those above it, and makes sure that files can be written there. Throws core::Error
/// (bad_output).
void create_writable_folder(const std::filesystem::path& folder);

/// Holds a folder against other processes (flock) until destroyed. Throws core::Error (bad_output) if another process
/// holds it.
class FolderLock {
  public:
    explicit FolderLock(const std::filesystem::path& folder);
    ~FolderLock();
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;

    /// False on a file system without locks, which lets everyone pass.
    [[nodiscard]] bool held() const noexcept { return held_; }

  private:
    int fd_;
    bool held_;
};

} // namespace dtrain::io
