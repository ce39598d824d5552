#pragma once

#include "dtrain/core/error.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace dtrain::fuzzing {

/// Ends the process unless `condition` holds. libFuzzer reports that as a finding.
inline void require(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "does not hold: %s\n", what);
        std::abort();
    }
}

/// Checks how bad input is refused: with this exit code, and with one line of text without control characters. Any
/// other exception is a finding.
inline void require_refusal(const core::Error& error, core::ExitCode code) {
    require(error.code() == code, "bad input has the exit code of bad input");
    const std::string_view message = error.what();
    require(!message.empty() && message.size() < 5000, "a message is short");
    require(std::ranges::none_of(message, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }),
            "a message is one line of text");
}

/// A file in memory, for readers that need a path.
class MemoryFile {
  public:
    MemoryFile() : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) { require(fd_ >= 0, "a file in memory can be created"); }
    ~MemoryFile() { ::close(fd_); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;

    void write(std::span<const std::byte> contents) {
        const auto size = static_cast<ssize_t>(contents.size());
        require(::pwrite(fd_, contents.data(), contents.size(), 0) == size && ::ftruncate(fd_, size) == 0,
                "a file in memory can be written");
    }
    [[nodiscard]] std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(fd_); }

  private:
    int fd_;
};

} // namespace dtrain::fuzzing
