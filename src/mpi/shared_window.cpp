// This file uses System V shared memory, because it does not depend on a file system. /dev/shm is small in containers
// (64 MB in Docker), may become full during a write, and may keep files of killed processes. A System V segment behaves
// like other memory: a lack of memory is reported on allocation, or handled by the out-of-memory killer. A segment is
// left behind only if a rank is killed between shmget and shmctl, a few calls later.

#include "dtrain/mpi/shared_window.hpp"

#include "dtrain/core/matrix.hpp"
#include "dtrain/core/memory.hpp"

#include <fmt/format.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>

namespace dtrain::mpi {
namespace {

using Memory = std::shared_ptr<std::byte>; // the last owner releases it

Memory private_memory(std::size_t bytes) {
    const auto buffer = std::make_shared<core::Buffer<std::byte>>(bytes);
    return {buffer, buffer->data()};
}

#ifdef DTRAIN_SIMULATE
/// Simulated ranks are in one process, so they exchange pointers.
std::vector<Memory> share(const Communicator& node, std::size_t bytes) {
    const Memory own = private_memory(bytes);
    const auto address = reinterpret_cast<std::uintptr_t>(&own);
    std::vector<Memory> all;
    for (const std::uintptr_t other : node.gather_all(std::span<const std::uintptr_t>(&address, 1))) {
        all.push_back(*reinterpret_cast<const Memory*>(other));
    }
    node.barrier(); // other ranks read `own` until here
    return all;
}
#else
[[noreturn]] void fail_to_get(std::int64_t bytes, int error) {
    const double megabytes = static_cast<double>(bytes) / 1e6;
    throw core::Error(
        core::ExitCode::bad_config,
        error == ENOMEM
            ? fmt::format("out of memory: cannot allocate {:.1f} MB that the ranks of this host share", megabytes)
            : fmt::format("cannot allocate {:.1f} MB of shared memory: {}. Raise the system's limits (sysctl "
                          "kernel.shmmax, kernel.shmall, kernel.shmmni), or set parallel.reducer = mpi, which needs "
                          "almost no shared memory",
                          megabytes, std::strerror(error)));
}

/// Attaches a segment. Returns null and sets errno on failure.
Memory attach(int segment) {
    void* const memory = shmat(segment, nullptr, 0);
    if (reinterpret_cast<std::intptr_t>(memory) == -1) {
        return nullptr;
    }
    return {static_cast<std::byte*>(memory), [](std::byte* attached) { shmdt(attached); }};
}

/// The mark at the beginning of a segment. It verifies that a rank attached the right segment: numbers of segments are
/// local to an IPC namespace, and each container may have its own.
std::int64_t& mark(const Memory& memory) {
    return *reinterpret_cast<std::int64_t*>(memory.get());
}

std::vector<Memory> share(const Communicator& node, std::size_t bytes) {
    if (node.size() == 1) {
        return {private_memory(bytes)}; // private memory gets huge pages more often
    }
    std::array<std::int64_t, 1> all_bytes{static_cast<std::int64_t>(bytes)};
    node.sum(std::span(all_bytes));
    // Every rank maps all segments, and MPI needs address space too.
    if (!core::has_addresses(static_cast<std::size_t>(all_bytes[0]) + reserve_bytes)) {
        fail_to_get(all_bytes[0], ENOMEM);
    }
    const int id = shmget(IPC_PRIVATE, bytes, IPC_CREAT | 0600);
    if (id < 0) {
        fail_to_get(static_cast<std::int64_t>(bytes), errno);
    }
    const Memory own = attach(id);
    // Marks the segment for removal when the last process detaches. On Linux, other ranks can still attach it.
    shmctl(id, IPC_RMID, nullptr);
    if (own == nullptr) {
        fail_to_get(static_cast<std::int64_t>(bytes), ENOMEM);
    }
    core::advise_huge_pages(own.get(), bytes);
    std::ranges::fill(std::span(own.get(), bytes), std::byte{0}); // the owner touches it first, so NUMA places it near
    mark(own) = std::chrono::steady_clock::now().time_since_epoch().count();

    const std::array<std::int64_t, 2> own_offer{id, mark(own)};
    const std::vector<std::int64_t> offers = node.gather_all(std::span<const std::int64_t>(own_offer));
    std::vector<Memory> all;
    for (int rank = 0; rank < node.size(); ++rank) {
        const std::int64_t* const offer = &offers[own_offer.size() * static_cast<std::size_t>(rank)];
        all.push_back(rank == node.rank() ? own : attach(static_cast<int>(offer[0])));
        if (all.back() == nullptr || mark(all.back()) != offer[1]) {
            throw core::Error(core::ExitCode::bad_config,
                              "the ranks of this host cannot share memory, perhaps because each rank is in its own "
                              "container. Run all ranks in one container or IPC namespace (docker run --ipc=host), or "
                              "set parallel.ranks_per_node = 1, so that each rank counts as a node");
        }
    }
    node.barrier(); // a segment must exist until all ranks have attached it
    return all;
}
#endif

} // namespace

SharedWindow::SharedWindow(const Communicator& node, std::size_t bytes) {
    constexpr std::size_t heading = 64; // room for the mark; the bytes then begin on a cache line
    const std::vector<std::size_t> sizes = node.gather_all(std::span<const std::size_t>(&bytes, 1));
    for (Memory& memory : share(node, heading + bytes)) {
        std::byte* const begin = memory.get() + heading;
        const std::size_t size = sizes[segments_.size()];
        segments_.push_back({std::move(memory), {begin, size}});
    }
}

} // namespace dtrain::mpi
