#include "dtrain/io/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

namespace dtrain::io {
namespace {

/// A POSIX file descriptor, because standard streams have no fsync.
class Descriptor {
  public:
    Descriptor(int folder, const std::filesystem::path& path, int flags)
        : fd_(::openat(folder, path.c_str(), flags | O_CLOEXEC, 0666)) {}
    Descriptor(const std::filesystem::path& path, int flags) : Descriptor(AT_FDCWD, path, flags) {}
    ~Descriptor() { (void)close(); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }

    [[nodiscard]] bool write(std::span<const std::byte> bytes) const noexcept {
        while (!bytes.empty()) {
            const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
            if (written < 0 && errno != EINTR) {
                return false;
            }
            bytes = bytes.subspan(static_cast<std::size_t>(std::max<ssize_t>(written, 0)));
        }
        return true;
    }
    [[nodiscard]] bool sync() const noexcept { return ::fsync(fd_) == 0; }
    /// Network file systems report late write errors here.
    [[nodiscard]] bool close() noexcept { return fd_ < 0 || ::close(std::exchange(fd_, -1)) == 0; }

  private:
    int fd_;
};

[[noreturn]] void fail(const char* action, const std::filesystem::path& path, int error) {
    throw core::Error(core::ExitCode::bad_output,
                      fmt::format("cannot {} {}: {}", action, path.string(), std::strerror(error)));
}

} // namespace

std::filesystem::path temporary_of(std::filesystem::path file) {
    file += ".tmp";
    return file;
}

void replace_file(const std::filesystem::path& file, std::span<const std::byte> contents) {
    const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
    std::error_code unknown;
    if (!std::filesystem::is_directory(folder, unknown)) {
        fail("write", file, std::filesystem::exists(folder, unknown) ? ENOTDIR : ENOENT);
    }
    Folder(folder).replace_file(file.filename(), contents);
}

void require_replaceable(const std::filesystem::path& file) {
    std::error_code unknown;
    if (std::filesystem::is_directory(file, unknown)) {
        fail("write", file, EISDIR);
    }
    const std::filesystem::path temporary = temporary_of(file);
    const Descriptor out(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    if (!out.is_open()) {
        fail("write", file, errno);
    }
    ::unlink(temporary.c_str());
}

std::vector<std::byte> read_file(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary | std::ios::ate);
    std::vector<std::byte> bytes;
    std::error_code unknown;
    const bool is_folder = std::filesystem::is_directory(file, unknown);
    if (in && !is_folder) {
        const std::streamoff size = in.tellg();
        in.seekg(0);
        bytes.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
        in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    } else {
        in.setstate(std::ios::failbit);
    }
    if (!in) {
        const int error = is_folder ? EISDIR : errno;
        throw UnreadableFile(fmt::format("cannot read {}: {}", file.string(), std::strerror(error)));
    }
    return bytes;
}

void create_writable_folder(const std::filesystem::path& folder) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) {
        fail("create folder", folder, error.value());
    }
    const std::filesystem::path probe = folder / ".writable";
    Descriptor out(probe, O_WRONLY | O_CREAT | O_TRUNC);
    if (!out.is_open()) {
        fail("write into", folder, errno);
    }
    ::unlink(probe.c_str());
}

Folder::Folder(std::filesystem::path folder)
    : path_(std::move(folder)), fd_(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ < 0) {
        fail("open folder", path_, errno);
    }
}

Folder::Folder(Folder&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), locked_(std::exchange(other.locked_, false)) {}

Folder::~Folder() {
    if (fd_ >= 0) {
        ::close(fd_);
    }
}

void Folder::lock() {
    locked_ = ::flock(fd_, LOCK_EX | LOCK_NB) == 0;
    if (!locked_ && errno == EWOULDBLOCK) {
        throw core::Error(core::ExitCode::bad_output,
                          fmt::format("{} is in use by another run. Wait for it, or choose another output.directory",
                                      path_.string()));
    }
}

std::optional<std::uintmax_t> Folder::free_bytes() const noexcept {
    struct statvfs status {};
    if (::fstatvfs(fd_, &status) != 0 || status.f_blocks == 0) { // some FUSE file systems report 0 blocks
        return std::nullopt;
    }
    return std::uintmax_t{status.f_bavail} * status.f_frsize;
}

void Folder::require_in_place() const {
    struct stat held {};
    struct stat there {};
    if (::fstat(fd_, &held) == 0 && ::stat(path_.c_str(), &there) == 0 && held.st_dev == there.st_dev &&
        held.st_ino == there.st_ino) {
        return;
    }
    std::error_code unknown;
    const std::string now = std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", fd_), unknown).string();
    throw core::Error(core::ExitCode::bad_output,
                      fmt::format("{} is no longer the folder that this run writes to: that folder was moved or "
                                  "removed{}",
                                  path_.string(), unknown ? "" : fmt::format(" (now {})", now)));
}

void Folder::replace_file(const std::filesystem::path& name, std::span<const std::byte> contents) const {
    require_in_place();
    const std::filesystem::path temporary = temporary_of(name);
    const auto give_up = [&](int error) {
        ::unlinkat(fd_, temporary.c_str(), 0);
        fail("write", path_ / name, error);
    };
    Descriptor out(fd_, temporary, O_WRONLY | O_CREAT | O_TRUNC);
    if (!out.is_open()) {
        fail("write", path_ / name, errno);
    }
    if (!out.write(contents) || !out.sync() || !out.close() ||
        ::renameat(fd_, temporary.c_str(), fd_, name.c_str()) != 0) {
        give_up(errno);
    }
    if (::fsync(fd_) != 0 && errno != EINVAL) { // EINVAL: the file system cannot sync folders
        fail("sync folder", path_, errno);
    }
}

} // namespace dtrain::io
