#include "dtrain/io/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

namespace dtrain::io {
namespace {

/// A POSIX file descriptor. The standard streams cannot sync.
class Descriptor {
  public:
    Descriptor(const std::filesystem::path& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
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
    /// Some file systems cannot sync folders and say EINVAL.
    [[nodiscard]] bool sync() const noexcept { return ::fsync(fd_) == 0 || errno == EINVAL; }
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
    const std::filesystem::path temporary = temporary_of(file);
    {
        Descriptor out(temporary, O_WRONLY | O_CREAT | O_TRUNC);
        if (!out.is_open()) {
            fail("write", file, errno);
        }
        if (!out.write(contents) || !out.sync() || !out.close()) {
            const int error = errno;
            ::unlink(temporary.c_str());
            fail("write", file, error);
        }
    }
    if (::rename(temporary.c_str(), file.c_str()) != 0) {
        const int error = errno;
        ::unlink(temporary.c_str());
        fail("write", file, error);
    }
    const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
    const Descriptor directory(folder, O_RDONLY | O_DIRECTORY);
    if (!directory.is_open() || !directory.sync()) {
        fail("sync folder", folder, errno);
    }
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

FolderLock::FolderLock(const std::filesystem::path& folder)
    : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)), held_(false) {
    if (fd_ < 0) {
        fail("open folder", folder, errno);
    }
    held_ = ::flock(fd_, LOCK_EX | LOCK_NB) == 0;
    if (!held_ && errno == EWOULDBLOCK) {
        ::close(fd_);
        throw core::Error(core::ExitCode::bad_output,
                          fmt::format("{} is in use by another run; wait for it, or choose another output.directory",
                                      folder.string()));
    }
}

FolderLock::~FolderLock() {
    ::close(fd_);
}

} // namespace dtrain::io
