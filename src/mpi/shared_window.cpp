// System V shared memory, because it is in nobody's file system: /dev/shm is small in containers (64 MB in Docker's),
// a write into it may find it full, and files in it may stay behind. A segment is memory as any other: where there is
// none, the system says so when it is asked, or kills as it does then. Only a rank that is killed between asking for it
// and marking it for removal, the next call, leaves one behind.

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

using Memory = std::shared_ptr<std::byte>; // released by the last rank or object that has it

Memory private_memory(std::size_t bytes) {
    const auto buffer = std::make_shared<core::Buffer<std::byte>>(bytes);
    return {buffer, buffer->data()};
}

#ifdef DTRAIN_SIMULATE
/// Simulated ranks share all memory.
std::vector<Memory> share(const Communicator& node, std::size_t bytes) {
    const Memory own = private_memory(bytes);
    const auto address = reinterpret_cast<std::uintptr_t>(&own);
    std::vector<Memory> all;
    for (const std::uintptr_t other : node.gather_all(std::span<const std::uintptr_t>(&address, 1))) {
        all.push_back(*reinterpret_cast<const Memory*>(other));
    }
    node.barrier(); // till then `own` is where it is
    return all;
}
#else
[[noreturn]] void fail_to_get(std::int64_t bytes, int error) {
    const double megabytes = static_cast<double>(bytes) / 1e6;
    throw core::Error(
        core::ExitCode::bad_config,
        error == ENOMEM
            ? fmt::format("out of memory: no {:.1f} MB that the ranks of this host share", megabytes)
            : fmt::format("the system gives no {:.1f} MB of shared memory ({}): raise its limits, kernel.shmmax, "
                          "kernel.shmall and kernel.shmmni of sysctl, or set parallel.reducer = mpi, which shares "
                          "next to none",
                          megabytes, std::strerror(error)));
}

/// None, and errno says why, where this process does not get it.
Memory attach(int segment) {
    void* const memory = shmat(segment, nullptr, 0);
    if (reinterpret_cast<std::intptr_t>(memory) == -1) {
        return nullptr;
    }
    return {static_cast<std::byte*>(memory), [](std::byte* attached) { shmdt(attached); }};
}

/// In front of a segment's bytes: what tells that it is the one that was meant, since numbers of segments are those of
/// a namespace, and a container has its own.
std::int64_t& mark(const Memory& memory) {
    return *reinterpret_cast<std::int64_t*>(memory.get());
}

std::vector<Memory> share(const Communicator& node, std::size_t bytes) {
    if (node.size() == 1) {
        return {private_memory(bytes)}; // which has huge pages more often
    }
    std::array<std::int64_t, 1> all_bytes{static_cast<std::int64_t>(bytes)};
    node.sum(std::span(all_bytes));
    // Every rank has all segments, and MPI is to have addresses left.
    if (!core::has_addresses(static_cast<std::size_t>(all_bytes[0]) + reserve_bytes)) {
        fail_to_get(all_bytes[0], ENOMEM);
    }
    const int id = shmget(IPC_PRIVATE, bytes, IPC_CREAT | 0600);
    if (id < 0) {
        fail_to_get(static_cast<std::int64_t>(bytes), errno);
    }
    const Memory own = attach(id);
    // It goes with the last process that has it. Linux lets the others have it all the same.
    shmctl(id, IPC_RMID, nullptr);
    if (own == nullptr) {
        fail_to_get(static_cast<std::int64_t>(bytes), ENOMEM);
    }
    core::advise_huge_pages(own.get(), bytes);
    std::ranges::fill(std::span(own.get(), bytes), std::byte{0}); // touched first by its owner, for the sake of NUMA
    mark(own) = std::chrono::steady_clock::now().time_since_epoch().count();

    const std::array<std::int64_t, 2> own_offer{id, mark(own)};
    const std::vector<std::int64_t> offers = node.gather_all(std::span<const std::int64_t>(own_offer));
    std::vector<Memory> all;
    for (int rank = 0; rank < node.size(); ++rank) {
        const std::int64_t* const offer = &offers[own_offer.size() * static_cast<std::size_t>(rank)];
        all.push_back(rank == node.rank() ? own : attach(static_cast<int>(offer[0])));
        if (all.back() == nullptr || mark(all.back()) != offer[1]) {
            throw core::Error(core::ExitCode::bad_config,
                              "the ranks of this host share no memory, as where each has a container of its own: start "
                              "them in one, or with one IPC namespace (docker run --ipc=host), or set "
                              "parallel.ranks_per_node = 1, which has each count as a node");
        }
    }
    node.barrier(); // till all have it, nobody may go and take it along
    return all;
}
#endif

} // namespace

SharedWindow::SharedWindow(const Communicator& node, std::size_t bytes) {
    constexpr std::size_t heading = 64; // for the mark, and bytes begin on a cache line
    const std::vector<std::size_t> sizes = node.gather_all(std::span<const std::size_t>(&bytes, 1));
    for (Memory& memory : share(node, heading + bytes)) {
        std::byte* const begin = memory.get() + heading;
        const std::size_t size = sizes[segments_.size()];
        segments_.push_back({std::move(memory), {begin, size}});
    }
}

} // namespace dtrain::mpi
