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

/// Ends all ranks of the job with `code` and a message. From any thread. Of the ranks of a host, the first to get here
/// speaks and the others are silent, as all have the same trouble, or trouble from that rank's end.
[[noreturn]] void abort(core::ExitCode code, std::string_view message);

/// Ends the job by an error that this rank alone knows of; the message names rank and host. Allocates no memory.
[[noreturn]] void fail(const core::Error& error);

/// As `fail` unless `code`, what an MPI function returned, is MPI_SUCCESS. MPI's errors seldom tell when it had no
/// memory; where there is none, that is what the message says.
void check(int code, const char* function);

/// Bytes of addresses that are to be left for MPI, which allocates as it goes and does not always look whether it got
/// what it asked for.
inline constexpr std::size_t reserve_bytes = std::size_t{64} << 20;

/// Alive while this process is in a call of MPI that waits for other ranks, so that a watchdog can tell waiting from
/// work: both use the CPU. Not to be nested.
class Waiting {
  public:
    Waiting() noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
    ~Waiting() { count_.fetch_add(1, std::memory_order_relaxed); }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

    /// From any thread: how often waiting began or ended so far. Odd while it lasts.
    [[nodiscard]] static std::uint64_t count() noexcept { return count_.load(std::memory_order_relaxed); }

  private:
    static inline std::atomic<std::uint64_t> count_ = 0;
};

/// MPI_Init to MPI_Finalize. In between an exception that nobody catches ends the job as `fail` does, whatever thread
/// it is in, and without unwinding: the destructors on its way wait for other ranks, which know nothing of it.
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
    } else if constexpr (std::is_same_v<T, int>) {
        return MPI_INT;
    } else {
        static_assert(sizeof(T) == 1, "no MPI datatype for this type");
        return MPI_BYTE;
    }
}

/// The count that MPI takes, an int. Throws core::Error where a span is longer.
[[nodiscard]] int count(std::size_t size);

/// Calls action(values, count) for pieces that MPI can count and that together are `values`, at least once.
template <class T, class Action>
void for_each_piece(std::span<T> values, Action&& action) {
    constexpr std::size_t most = std::size_t{1} << 30;
    do {
        const std::span<T> piece = values.first(std::min(values.size(), most));
        action(piece.data(), static_cast<int>(piece.size()));
        values = values.subspan(piece.size());
    } while (!values.empty());
}

/// A communicator of its own (a duplicate or a split), freed in the end. Functions are collective unless
/// they say otherwise; an error of MPI ends the job, as `check` does.
class Communicator {
  public:
    /// All ranks, those of one node next to each other in the order of MPI_COMM_WORLD; its rank 0 stays the first.
    [[nodiscard]] static Communicator world();

    /// What was moved from has no ranks, and is no rank.
    Communicator(Communicator&& other) noexcept
        : handle_(std::exchange(other.handle_, MPI_COMM_NULL)), rank_(std::exchange(other.rank_, -1)),
          size_(std::exchange(other.size_, 0)) {}
    Communicator& operator=(Communicator&& other) noexcept;
    ~Communicator();

    [[nodiscard]] int rank() const noexcept { return rank_; }
    [[nodiscard]] int size() const noexcept { return size_; }
    [[nodiscard]] bool is_root() const noexcept { return rank_ == 0; }
    [[nodiscard]] MPI_Comm handle() const noexcept { return handle_; }

    /// Ranks with the same colour form one communicator, in the order of `key`.
    [[nodiscard]] Communicator split(int colour, int key) const;
    /// Ranks that can share memory form one communicator; at most `most` of them if that is not 0.
    [[nodiscard]] Communicator split_by_node(int most = 0) const;

    void barrier() const;

    template <class T, std::size_t extent>
    void broadcast(std::span<T, extent> values, int root = 0) const {
        const Waiting waiting;
        for_each_piece(std::span<T>(values), [&](T* piece, int size) {
            check(MPI_Bcast(piece, size, datatype<T>(), root, handle_), "MPI_Bcast");
        });
    }
    /// `text` of `root`, on every rank.
    [[nodiscard]] std::string broadcast(std::string text, int root = 0) const;

    /// Element-wise sum over all ranks, in place. The order of addition is MPI's.
    template <class T, std::size_t extent>
    void sum(std::span<T, extent> values) const {
        const Waiting waiting;
        for_each_piece(std::span<T>(values), [&](T* piece, int size) {
            check(MPI_Allreduce(MPI_IN_PLACE, piece, size, datatype<T>(), MPI_SUM, handle_), "MPI_Allreduce");
        });
    }

    /// As many values of every rank, in rank order, on every rank. Throws core::Error, on every rank, where a rank's
    /// are more than MPI can count.
    template <class T>
    [[nodiscard]] std::vector<T> gather_all(std::span<const T> values) const {
        std::vector<T> all(values.size() * static_cast<std::size_t>(size_));
        const Waiting waiting;
        check(MPI_Allgather(values.data(), count(values.size()), datatype<T>(), all.data(), count(values.size()),
                            datatype<T>(), handle_),
              "MPI_Allgather");
        return all;
    }

    /// Not collective: between this rank and `destination`.
    void send(std::span<const std::byte> bytes, int destination) const;
    /// Not collective. Receives at most bytes.size() from `source` and returns how many.
    [[nodiscard]] std::size_t receive(std::span<std::byte> bytes, int source) const;

  private:
    explicit Communicator(MPI_Comm handle);
    MPI_Comm handle_;
    int rank_ = -1;
    int size_ = 0;
};

/// An error that all ranks throw alike, so that one of them can speak for all and no rank is left waiting.
class AgreedError : public core::Error {
  public:
    using core::Error::Error;
};

/// Collective: if any rank brings an error, every rank throws an AgreedError with that of the lowest such rank.
void throw_together(const Communicator& communicator, const std::optional<core::Error>& error);

/// Collective: runs `action` on every rank where it is not empty (on rank 0 only, say), then agrees on its outcome as
/// `throw_together` does. Other exceptions become errors as core::current_error() has them, with rank and host.
void together(const Communicator& communicator, const std::function<void()>& action);

} // namespace dtrain::mpi
