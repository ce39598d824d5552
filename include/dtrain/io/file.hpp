#pragma once

#include "dtrain/core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dtrain::io {

/// Replaces `file` by `contents` atomically: even if the machine stops, the file has either all of the old contents or
/// all of the new. Writes a temporary file, syncs it, renames it, and syncs the folder. On failure, throws core::Error
/// (bad_output) and removes the temporary file.
void replace_file(const std::filesystem::path& file, std::span<const std::byte> contents);

/// Throws core::Error (bad_output) like replace_file if `file` cannot be written now. Call this before long work that
/// ends with writing the file.
void require_replaceable(const std::filesystem::path& file);

/// The temporary file of replace_file. It is left behind only if the process is killed.
[[nodiscard]] std::filesystem::path temporary_of(std::filesystem::path file);

/// The error that a file does not exist or cannot be read (bad_checkpoint).
class UnreadableFile : public core::Error {
  public:
    explicit UnreadableFile(const std::string& message) : core::Error(core::ExitCode::bad_checkpoint, message) {}
};

/// Reads the whole file. Throws UnreadableFile.
[[nodiscard]] std::vector<std::byte> read_file(const std::filesystem::path& file);

/// Creates `folder` with its parent folders, and checks that files can be written there. Throws core::Error
/// (bad_output).
void create_writable_folder(const std::filesystem::path& folder);

/// An open folder. Files are written only while its path still leads to the folder that was opened.
class Folder {
  public:
    /// Throws core::Error (bad_output) if the folder does not exist or cannot be opened.
    explicit Folder(std::filesystem::path folder);
    Folder(Folder&& other) noexcept;
    ~Folder();
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    Folder& operator=(Folder&&) = delete;

    /// Locks the folder for this process (flock) until this object is destroyed. Throws core::Error (bad_output) if
    /// another process has the lock. Does nothing on a file system without locks.
    void lock();
    /// Whether lock() got the lock. False on a file system without locks.
    [[nodiscard]] bool locked() const noexcept { return locked_; }

    /// The free space of the file system for this user, in bytes. Nothing if the file system does not report it.
    [[nodiscard]] std::optional<std::uintmax_t> free_bytes() const noexcept;
    /// Throws core::Error (bad_output) if the folder was moved or removed.
    void require_in_place() const;
    /// Calls require_in_place(), then does the same as io::replace_file. `name` is the name of a file in this folder.
    void replace_file(const std::filesystem::path& name, std::span<const std::byte> contents) const;

  private:
    std::filesystem::path path_;
    int fd_;
    bool locked_ = false;
};

} // namespace dtrain::io
