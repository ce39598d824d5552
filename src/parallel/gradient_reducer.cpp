#include "dtrain/parallel/gradient_reducer.hpp"

#include "dtrain/core/shard_tree.hpp"

#include "reducers.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>

namespace dtrain::parallel {
namespace {

struct Named {
    std::string_view name;
    std::unique_ptr<GradientReducer> (*make)(const ArenaSizes&, const mpi::Communicator&);
};
/// `auto` is the first.
constexpr std::array reducers{Named{"mpi", make_mpi_reducer}};

} // namespace

GradientReducer::GradientReducer(const ArenaSizes& sizes)
    : subtrees_(core::complete_subtrees(sizes.shards, sizes.local_shards)) {
    for (core::Range& subtree : subtrees_) {
        subtree = {subtree.begin - sizes.local_shards.begin, subtree.end - sizes.local_shards.begin};
    }
}

std::vector<std::string> reducer_names() {
    std::vector<std::string> names{"auto"};
    for (const Named& known : reducers) {
        names.emplace_back(known.name);
    }
    return names;
}

std::unique_ptr<GradientReducer> make_reducer(std::string_view name, const ArenaSizes& sizes,
                                              const mpi::Communicator& communicator) {
    const auto found = name == "auto" ? reducers.begin() : std::ranges::find(reducers, name, &Named::name);
    if (found == reducers.end()) {
        throw std::out_of_range("no reducer " + std::string(name));
    }
    return found->make(sizes, communicator);
}

} // namespace dtrain::parallel
