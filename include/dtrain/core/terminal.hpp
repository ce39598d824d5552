#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdio>
#include <optional>
#include <system_error>
#include <utility>

namespace dtrain::core {

/// A terminal that takes escape sequences.
class Terminal {
  public:
    /// `fd` becomes its own; -1 where the terminal cannot be opened.
    explicit Terminal(int fd) noexcept : fd_(fd) {}
    Terminal(Terminal&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    ~Terminal();
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;
    Terminal& operator=(Terminal&&) = delete;

    /// As many as there are now, as windows change: one system call.
    [[nodiscard]] std::size_t columns() const noexcept;

  private:
    int fd_;
};

/// The terminal that the user sees standard output on, if it is one: neither a file nor a pipe nor TERM=dumb. Of a rank
/// of Open MPI, which gives every rank a pseudo-terminal of its own whatever becomes of the output, it is that of
/// mpirun, however many scripts stand between. To be asked once: /proc is searched.
[[nodiscard]] std::optional<Terminal> output_terminal();
/// The same for standard error.
[[nodiscard]] std::optional<Terminal> error_terminal();

/// Prints to standard error. Where that takes no more, as a log on a full disk, the text is lost and nothing else is.
template <class... T>
void print_error(fmt::format_string<T...> format, T&&... values) {
    try {
        fmt::print(stderr, format, std::forward<T>(values)...);
    } catch (const std::system_error&) { // there is no other place to tell it
    }
}

} // namespace dtrain::core
