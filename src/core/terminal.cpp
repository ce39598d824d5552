#include "dtrain/core/terminal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

namespace dtrain::core {
namespace {

bool takes_escapes() {
    const char* const term = std::getenv("TERM");
    return term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

std::string target_of(pid_t process, int fd) {
    std::error_code unknown;
    return std::filesystem::read_symlink(fmt::format("/proc/{}/fd/{}", process, fd), unknown).string();
}

/// 0 if the parent is unknown.
pid_t parent_of(pid_t process) {
    std::ifstream status(fmt::format("/proc/{}/stat", process));
    std::string text;
    std::getline(status, text);
    const std::size_t end_of_name = text.rfind(") "); // followed by a letter, a blank and the parent's id
    return end_of_name == std::string::npos ? 0 : std::atoi(text.c_str() + end_of_name + 4);
}

/// The output of the rank's launcher: the output of the nearest ancestor process whose output differs from this one's.
std::string output_of_launcher(int fd) {
    const std::string own = target_of(getpid(), fd);
    std::string other = own;
    for (pid_t process = getppid(); process > 0 && other == own; process = parent_of(process)) {
        other = target_of(process, fd);
    }
    return other;
}

std::optional<Terminal> terminal_at(int fd) {
    if (!takes_escapes() || isatty(fd) == 0) {
        return std::nullopt;
    }
    if (std::getenv("OMPI_COMM_WORLD_RANK") != nullptr) {
        const std::string target = output_of_launcher(fd);
        if (!target.starts_with("/dev/pts/") && !target.starts_with("/dev/tty")) {
            return std::nullopt;
        }
        return Terminal(open(target.c_str(), O_RDONLY | O_NOCTTY | O_CLOEXEC));
    }
    return Terminal(fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

} // namespace

Terminal::~Terminal() {
    if (fd_ >= 0) {
        close(fd_);
    }
}

Terminal::Size Terminal::size() const noexcept {
    constexpr Size usual{80, 24};
    winsize size{};
    if (ioctl(fd_, TIOCGWINSZ, &size) != 0) {
        return usual;
    }
    return {size.ws_col > 0 ? size.ws_col : usual.columns, size.ws_row > 0 ? size.ws_row : usual.rows};
}

std::optional<Terminal> output_terminal() {
    return terminal_at(STDOUT_FILENO);
}

std::optional<Terminal> error_terminal() {
    return terminal_at(STDERR_FILENO);
}

} // namespace dtrain::core
