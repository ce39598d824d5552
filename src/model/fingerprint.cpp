#include "dtrain/model/fingerprint.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/core/hash.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace dtrain::model {

std::uint64_t fingerprint(const nn::ParameterLayout& layout, std::span<const float> parameters) {
    core::Hash64 hash;
    for (const nn::Tensor& tensor : layout.tensors()) {
        hash.update(std::as_bytes(tensor.in(parameters)));
    }
    return hash.digest();
}

void require_equal_replicas(std::uint64_t fingerprint, std::int64_t step, const mpi::Communicator& communicator) {
    const std::vector<std::uint64_t> all = communicator.gather_all(std::span<const std::uint64_t>(&fingerprint, 1));
    const auto most_frequent =
        *std::ranges::max_element(all, {}, [&](std::uint64_t value) { return std::ranges::count(all, value); });
    std::vector<std::size_t> differing;
    for (std::size_t rank = 0; rank < all.size(); ++rank) {
        if (all[rank] != most_frequent) {
            differing.push_back(rank);
        }
    }
    if (!differing.empty()) {
        throw mpi::AgreedError(
            core::ExitCode::rank_lost,
            fmt::format("the weights of rank {1} differ from the weights of the other ranks after step "
                        "{0}: a fault of that machine or of the program. Earlier checkpoints stay "
                        "valid",
                        step, fmt::join(differing, ", ")));
    }
}

} // namespace dtrain::model
