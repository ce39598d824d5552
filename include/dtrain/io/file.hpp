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

/// A folder that is held open: what is written goes into this very folder, whatever becomes of its path, and is refused
/// once the path leads elsewhere.
class Folder {
  public:
    /// Throws core::Error (bad_output) if there is no such folder.
    explicit Folder(std::filesystem::path folder);
    Folder(Folder&& other) noexcept;
    ~Folder();
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    Folder& operator=(Folder&&) = delete;

    /// Holds it against other processes (flock) until destroyed. Throws core::Error (bad_output) if another process
    /// holds it.
    void lock();
    /// False without lock(), and on a file system without locks, which lets everyone pass.
    [[nodiscard]] bool locked() const noexcept { return locked_; }

    /// What its file system has left for files of this user; empty where it does not say.
    [[nodiscard]] std::optional<std::uintmax_t> free_bytes() const noexcept;
    /// Throws core::Error (bad_output) where the folder has been moved or removed.
    void require_in_place() const;
    /// As the function of that name, once the folder is known to be in place. `name` is that of a file in it.
    void replace_file(const std::filesystem::path& name, std::span<const std::byte> contents) const;

  private:
    std::filesystem::path path_;
    int fd_;
    bool locked_ = false;
};

} // namespace dtrain::io
