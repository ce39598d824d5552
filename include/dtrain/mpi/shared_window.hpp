#pragma once

#include "dtrain/mpi/communicator.hpp"

#include <mpi.h>

#include <cstddef>
#include <span>
#include <utility>

namespace dtrain::mpi {

/// Memory that the ranks of one node share (MPI_Win_allocate_shared): each rank brings a zeroed segment of its own and
/// reads and writes those of the others directly. Creation and destruction are collective. Ordering between ranks is
/// up to atomics inside the window.
class SharedWindow {
  public:
    /// The ranks of `node` have to share memory, as Communicator::split_by_node sees to. Throws core::Error
    /// (bad_config), which is to end the job, on a rank that gets no memory.
    SharedWindow(const Communicator& node, std::size_t bytes);
    SharedWindow(SharedWindow&& other) noexcept : handle_(std::exchange(other.handle_, MPI_WIN_NULL)) {}
    SharedWindow& operator=(SharedWindow&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~SharedWindow();

    static constexpr std::size_t alignment = 64;

    /// The segment of `rank`, aligned to a cache line.
    [[nodiscard]] std::span<std::byte> segment(int rank) const;

  private:
    MPI_Win handle_ = MPI_WIN_NULL;
};

} // namespace dtrain::mpi
