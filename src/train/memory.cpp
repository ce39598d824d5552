#include "dtrain/train/memory.hpp"

#include "dtrain/core/memory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace dtrain::train {
namespace {

std::string megabytes(std::size_t bytes) {
    return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

/// Reserved from ulimits for threads that start later (stacks, malloc arenas), and for MPI.
constexpr std::size_t max_addresses = std::size_t{256} << 20;
constexpr std::size_t max_data = std::size_t{48} << 20;

std::size_t minus(std::size_t bytes, std::size_t part) {
    return bytes - std::min(bytes, part);
}

} // namespace

std::vector<MemoryRoom> find_rooms(const MemoryUse& own, const mpi::Communicator& communicator) {
    constexpr std::size_t max_groups = 8; // nested control groups
    struct Member {
        std::uint64_t total = 0;
        std::uint64_t more = 0; ///< beyond the memory already in use
        std::uint64_t shared = 0;
        std::array<std::uint64_t, max_groups> groups{}; ///< 0: no further group
    };
    std::vector<core::GroupLimit> limits = core::group_limits();
    limits.resize(std::min(limits.size(), max_groups));
    Member self{own.total(), own.total() - own.program, own.shared, {}};
    std::ranges::transform(limits, self.groups.begin(), &core::GroupLimit::group);

    const mpi::Communicator node = communicator.split_by_node();
    const std::vector<std::byte> bytes = node.gather_all(std::as_bytes(std::span(&self, 1)));
    std::vector<Member> members(static_cast<std::size_t>(node.size()));
    std::ranges::copy(bytes, std::as_writable_bytes(std::span(members)).begin());

    const std::size_t more = own.total() - own.program;
    const core::UlimitRoom ulimit = core::room_under_ulimit();
    std::vector<MemoryRoom> rooms{{"its free memory is", core::available_bytes(), 0, members.size()},
                                  {"ulimit -v leaves", minus(ulimit.addresses, max_addresses), more - own.shared, 1},
                                  {"ulimit -d leaves", minus(ulimit.data, max_data), more - own.shared, 1}};
    for (const Member& member : members) {
        rooms[0].taken += member.more;
        rooms[1].taken += member.shared; // every rank maps it
    }
    for (const core::GroupLimit& limit : limits) {
        MemoryRoom& room = rooms.emplace_back(MemoryRoom{"the control group allows", limit.bytes, 0, 0});
        for (const Member& member : members) {
            if (std::ranges::find(member.groups, limit.group) != member.groups.end()) {
                room.taken += member.total;
                ++room.sharing;
            }
        }
    }
    return rooms;
}

std::string describe(const MemoryUse& use) {
    std::string text;
    const auto add = [&text](std::size_t bytes, const char* what) {
        if (bytes > 0) {
            text += fmt::format("{}{} {}", text.empty() ? "" : ", ", megabytes(bytes), what);
        }
    };
    add(use.samples, "samples");
    add(use.parameters, "parameters and optimizer state");
    add(use.gradients, "gradients");
    add(use.activations, "activations");
    add(use.checkpoints, "for writing checkpoints");
    add(use.total() - use.program - use.samples - use.later(), "more while samples are read");
    add(use.program, "MPI and program");
    return text;
}

std::string describe_memory(const MemoryUse& own, const mpi::Communicator& communicator) {
    const std::uint64_t total = own.total();
    const std::vector<std::uint64_t> totals = communicator.gather_all(std::span(&total, 1));
    std::string text = fmt::format("memory      of rank 0 about {}: {}", megabytes(own.total()), describe(own));
    if (totals.size() > 1) {
        text += fmt::format(";\n            other ranks up to {}",
                            megabytes(*std::max_element(totals.begin() + 1, totals.end())));
    }
    return text;
}

} // namespace dtrain::train
