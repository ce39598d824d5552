#include "dtrain/mpi/shared_window.hpp"

#include "dtrain/core/memory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace dtrain::mpi {
namespace {

#ifdef DTRAIN_SIMULATE
// SimGrid 3.32 answers queries of shared windows with the memory of the first rank, whoever's is asked for; but
// simulated ranks share all memory anyway.
constexpr auto allocate = &MPI_Win_allocate;
#else
constexpr auto allocate = &MPI_Win_allocate_shared;
#endif

} // namespace

static_assert(!std::is_copy_constructible_v<SharedWindow> && std::is_nothrow_move_constructible_v<SharedWindow>);

SharedWindow::SharedWindow(const Communicator& node, std::size_t bytes) {
    std::array<std::int64_t, 1> all_bytes{static_cast<std::int64_t>(bytes)};
    node.sum(std::span(all_bytes));
    // Segments of their own, each on its own pages, rather than one contiguous block.
    MPI_Info info = MPI_INFO_NULL;
    check(MPI_Info_create(&info), "MPI_Info_create");
    check(MPI_Info_set(info, "alloc_shared_noncontig", "true"), "MPI_Info_set");
    void* base = nullptr;
    // Every rank maps all segments. Where it cannot, Open MPI says that it was a success.
    const int outcome = core::has_addresses(static_cast<std::size_t>(all_bytes[0]) + reserve_bytes)
                            ? allocate(static_cast<MPI_Aint>(bytes + alignment), 1, info, node.handle(),
                                       static_cast<void*>(&base), &handle_)
                            : MPI_ERR_NO_MEM;
    MPI_Info_free(&info);
    if (outcome != MPI_SUCCESS) { // as where /dev/shm is too small
        throw core::Error(core::ExitCode::bad_config,
                          fmt::format("out of memory: MPI_Win_allocate_shared gives no {:.1f} MB that the ranks of "
                                      "this host share",
                                      static_cast<double>(all_bytes[0]) / 1e6));
    }
    check(MPI_Win_lock_all(MPI_MODE_NOCHECK, handle_), "MPI_Win_lock_all");
    const std::span<std::byte> own = segment(node.rank());
    core::advise_huge_pages(own.data(), own.size());
    std::ranges::fill(own, std::byte{0}); // touched first by its owner, for the sake of NUMA
    node.barrier();
}

SharedWindow::~SharedWindow() {
    if (handle_ != MPI_WIN_NULL) {
        MPI_Win_unlock_all(handle_);
        MPI_Win_free(&handle_);
    }
}

std::span<std::byte> SharedWindow::segment(int rank) const {
    MPI_Aint size = 0;
    int unit = 0;
    void* base = nullptr;
    check(MPI_Win_shared_query(handle_, rank, &size, &unit, static_cast<void*>(&base)), "MPI_Win_shared_query");
    // Shared segments begin on a page, but Open MPI gives a rank that is alone plain memory.
    auto room = static_cast<std::size_t>(size);
    const std::size_t bytes = room - alignment;
    return {static_cast<std::byte*>(std::align(alignment, bytes, base, room)), bytes};
}

} // namespace dtrain::mpi
