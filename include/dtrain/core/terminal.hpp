#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdio>
#include <optional>
#include <system_error>
#include <utility>

namespace dtrain::core {

/// A terminal that understands escape sequences.
class Terminal {
  public:
    /// Takes ownership of `fd`; -1 if the terminal could not be opened.
    explicit Terminal(int fd) noexcept : fd_(fd) {}
    Terminal(Terminal&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    ~Terminal();
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;
    Terminal& operator=(Terminal&&) = delete;

    struct Size {
        std::size_t columns = 0;
        std::size_t rows = 0;
        bool operator==(const Size&) const = default;
    };
    /// The current size in characters; 80 x 24 if it is unknown. Makes one system call, because windows can be resized.
    [[nodiscard]] Size size() const noexcept;
    [[nodiscard]] std::size_t columns() const noexcept { return size().columns; }

  private:
    int fd_;
};

/// The terminal that shows standard output to the user. Nothing if the output goes to a file or a pipe, or if TERM is
/// dumb. Open MPI gives every rank a pseudo-terminal, even if the output goes to a file; so for a rank this is the
/// terminal of mpirun, also if scripts run in between. Searches /proc, so call it only once.
[[nodiscard]] std::optional<Terminal> output_terminal();
/// The same for standard error.
[[nodiscard]] std::optional<Terminal> error_terminal();

/// Prints to standard error. If that fails, for example because the disk is full, the text is dropped.
template <class... T>
void print_error(fmt::format_string<T...> format, T&&... values) {
    try {
        fmt::print(stderr, format, std::forward<T>(values)...);
    } catch (const std::system_error&) { // there is no other place to report it
    }
}

} // namespace dtrain::core
