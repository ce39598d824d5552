#pragma once

#include "dtrain/core/error.hpp"

#include <mpi.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace dtrain::mpi {

/// Ends all ranks of the job with `code` and prints a message. Any thread may call it. If several ranks of a host call
/// it, only the first one prints its message, because the others usually fail for the same reason or as a consequence.
[[noreturn]] void abort(core::ExitCode code, std::string_view message);

/// Ends the job because of an error on this rank only. The message names the rank and the host. Allocates no memory.
[[noreturn]] void fail(const core::Error& error);

/// Ends the job like `fail` unless `code`, the return value of an MPI function, is MPI_SUCCESS. MPI seldom reports a
/// lack of memory. If no memory is left, the message is "out of memory in <function>".
void check(int code, const char* function);

/// Address space in bytes that must stay free for MPI. MPI allocates memory at any time and does not always check the
/// result.
inline constexpr std::size_t reserve_bytes = std::size_t{64} << 20;

/// Exists while this process is in an MPI call that waits for other ranks. So a watchdog can distinguish waiting from
/// computing; both use the CPU. Objects must not be nested.
class Waiting {
  public:
    Waiting() noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
    ~Waiting() { count_.fetch_add(1, std::memory_order_relaxed); }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

    /// The number of times that waiting began or ended so far; it is odd while the process waits. Any thread may call
    /// it.
    [[nodiscard]] static std::uint64_t count() noexcept { return count_.load(std::memory_order_relaxed); }

  private:
    static inline std::atomic<std::uint64_t> count_ = 0;
};

/// Calls MPI_Init_thread and MPI_Finalize. In between, an uncaught exception in any thread ends the job like `fail`. It
/// does so without unwinding the stack, because destructors would wait for other ranks, which are not aware of the
/// error. Sets environment variables of Open MPI that the user has not set. Collective.
class Environment {
  public:
    Environment(int& argc, char**& argv);
    ~Environment();
    Environment(const Environment&) = delete;
    Environment& operator=(const Environment&) = delete;
};

template <class T>
[[nodiscard]] MPI_Datatype datatype() noexcept {
    if constexpr (std::is_same_v<T, float>) {
        return MPI_FLOAT;
    } else if constexpr (std::is_same_v<T, double>) {
        return MPI_DOUBLE;
    } else if constexpr (std::is_same_v<T, std::int64_t>) {
        return MPI_INT64_T;
    } else if constexpr (std::is_same_v<T, std::uint64_t>) {
        return MPI_UINT64_T;
    } else if constexpr (std::is_same_v<T, std::uint16_t>) {
        return MPI_UINT16_T;
    } else if constexpr (std::is_same_v<T, int>) {
        return MPI_INT;
    } else {
        static_assert(sizeof(T) == 1, "no MPI datatype for this type");
        return MPI_BYTE;
    }
}

/// Converts a size to the int that MPI expects. Throws core::Error (bad_config) if it is too large.
[[nodiscard]] int count(std::size_t size);

/// Cuts `values` into pieces of a size that MPI can count, and calls action(pointer, count) for each. Calls it at least
/// once.
template <class T, class Action>
void for_each_piece(std::span<T> values, Action&& action) {
    constexpr std::size_t max_piece = std::size_t{1} << 30;
    do {
        const std::span<T> piece = values.first(std::min(values.size(), max_piece));
        action(piece.data(), static_cast<int>(piece.size()));
        values = values.subspan(piece.size());
    } while (!values.empty());
}

/// Owns an MPI communicator, a duplicate or a split of another one. Functions are collective unless noted otherwise. An
/// MPI error ends the job like `check`.
class Communicator {
  public:
    /// All ranks, sorted so that the ranks of one node are consecutive; within a node in the order of MPI_COMM_WORLD.
    /// Rank 0 of MPI_COMM_WORLD stays rank 0.
    [[nodiscard]] static Communicator world();

    /// A moved-from communicator has size 0 and rank -1.
    Communicator(Communicator&& other) noexcept
        : handle_(std::exchange(other.handle_, MPI_COMM_NULL)), rank_(std::exchange(other.rank_, -1)),
          size_(std::exchange(other.size_, 0)) {}
    Communicator& operator=(Communicator&& other) noexcept;
    ~Communicator();

    [[nodiscard]] int rank() const noexcept { return rank_; }
    [[nodiscard]] int size() const noexcept { return size_; }
    [[nodiscard]] bool is_root() const noexcept { return rank_ == 0; }
    [[nodiscard]] MPI_Comm handle() const noexcept { return handle_; }

    /// Ranks with the same colour form one communicator, sorted by `key`.
    [[nodiscard]] Communicator split(int colour, int key) const;
    /// Ranks that can share memory form one communicator. If `max_ranks` is not 0, each one has at most that many
    /// ranks.
    [[nodiscard]] Communicator split_by_node(int max_ranks = 0) const;

    void barrier() const;

    template <class T, std::size_t extent>
    void broadcast(std::span<T, extent> values, int root = 0) const {
        const Waiting waiting;
        for_each_piece(std::span<T>(values), [&](T* piece, int size) {
            check(MPI_Bcast(piece, size, datatype<T>(), root, handle_), "MPI_Bcast");
        });
    }
    /// Returns the `text` of rank `root` on every rank.
    [[nodiscard]] std::string broadcast(std::string text, int root = 0) const;

    /// Element-wise sum over all ranks, in place. MPI chooses the order of addition, so sums of floats may differ
    /// between numbers of ranks.
    template <class T, std::size_t extent>
    void sum(std::span<T, extent> values) const {
        const Waiting waiting;
        for_each_piece(std::span<T>(values), [&](T* piece, int size) {
            check(MPI_Allreduce(MPI_IN_PLACE, piece, size, datatype<T>(), MPI_SUM, handle_), "MPI_Allreduce");
        });
    }

    /// Returns the values of all ranks in rank order, on every rank. All ranks must pass the same number of values.
    /// Throws core::Error (bad_config) on every rank if there are more than MPI can count.
    template <class T>
    [[nodiscard]] std::vector<T> gather_all(std::span<const T> values) const {
        std::vector<T> all(values.size() * static_cast<std::size_t>(size_));
        const Waiting waiting;
        check(MPI_Allgather(values.data(), count(values.size()), datatype<T>(), all.data(), count(values.size()),
                            datatype<T>(), handle_),
              "MPI_Allgather");
        return all;
    }

    /// Not collective: sends a message to `destination`.
    void send(std::span<const std::byte> bytes, int destination) const;
    /// Not collective: receives a message of at most bytes.size() bytes from `source` and returns its length.
    [[nodiscard]] std::size_t receive(std::span<std::byte> bytes, int source) const;

  private:
    explicit Communicator(MPI_Comm handle);
    MPI_Comm handle_;
    int rank_ = -1;
    int size_ = 0;
};

/// An error that all ranks throw together. So one rank can print the message for all, and no rank is left waiting.
class AgreedError : public core::Error {
  public:
    using core::Error::Error;
};

/// Collective: if any rank passes an error, every rank throws an AgreedError with the error of the lowest such rank.
void throw_together(const Communicator& communicator, const std::optional<core::Error>& error);

/// Collective: runs `action` on every rank where it is not empty (for example only on rank 0). If it throws on any
/// rank, all ranks throw like `throw_together`. Exceptions other than core::Error are converted by
/// core::current_error() and get the rank and host in their message.
void together(const Communicator& communicator, const std::function<void()>& action);

} // namespace dtrain::mpi
