#include "dtrain/train/memory.hpp"

#include "dtrain/core/memory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace dtrain::train {
namespace {

std::string megabytes(std::size_t bytes) {
    return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

} // namespace

MemoryRoom tightest_room(const MemoryUse& own, const mpi::Communicator& communicator) {
    const std::optional<core::GroupLimit> limit = core::group_limit();
    const mpi::Communicator node = communicator.split_by_node();
    const std::uint64_t own_group = limit ? limit->group : 0;
    const std::vector<std::uint64_t> groups = node.gather_all(std::span(&own_group, 1));
    const std::uint64_t own_bytes = own.total();
    const std::vector<std::uint64_t> needs = node.gather_all(std::span(&own_bytes, 1));

    MemoryRoom machine{"this machine has", core::physical_bytes(), 0, needs.size()};
    MemoryRoom group{"their control group has", limit ? limit->bytes : machine.bytes, 0, 0};
    for (std::size_t rank = 0; rank < needs.size(); ++rank) {
        machine.taken += needs[rank];
        if (groups[rank] == own_group) {
            group.taken += needs[rank];
            ++group.sharing;
        }
    }
    const MemoryRoom process{"ulimit leaves", core::bytes_left_by_ulimit(), own.total() - own.program, 1};
    return std::min({machine, group, process},
                    [](const MemoryRoom& a, const MemoryRoom& b) { return a.left() < b.left(); });
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
    add(use.checkpoints, "while checkpoints are written");
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
