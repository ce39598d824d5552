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

/// Ends the process, which libFuzzer reports as a finding, unless `condition` holds.
inline void require(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "does not hold: %s\n", what);
        std::abort();
    }
}

/// What refusing bad input has to look like: this code, and one line of text that leaves a terminal alone. Any other
/// exception is a finding.
inline void require_refusal(const core::Error& error, core::ExitCode code) {
    require(error.code() == code, "bad input has the exit code of bad input");
    const std::string_view message = error.what();
    require(!message.empty() && message.size() < 5000, "a message is of bearable length");
    require(std::ranges::none_of(message, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }),
            "a message is one line of text");
}

/// A file without a disk, for readers that want a path.
class MemoryFile {
  public:
    MemoryFile() : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) { require(fd_ >= 0, "memory can be a file"); }
    ~MemoryFile() { ::close(fd_); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;

    void write(std::span<const std::byte> contents) {
        const auto size = static_cast<ssize_t>(contents.size());
        require(::pwrite(fd_, contents.data(), contents.size(), 0) == size && ::ftruncate(fd_, size) == 0,
                "memory can be written");
    }
    [[nodiscard]] std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(fd_); }

  private:
    int fd_;
};

} // namespace dtrain::fuzzing
