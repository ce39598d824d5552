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
    std::unique_ptr<GradientReducer> (*make)(const ReducerSettings&, const mpi::Communicator&);
};
/// `auto` is the first.
constexpr std::array reducers{Named{"node", make_node_reducer}, Named{"mpi", make_mpi_reducer}};

} // namespace

GradientReducer::GradientReducer(const ReducerSettings& settings, int rank) {
    const core::Range local = settings.shards_of_rank[static_cast<std::size_t>(rank)];
    subtrees_ = core::complete_subtrees(settings.shards, local);
    for (core::Range& subtree : subtrees_) {
        subtree = {subtree.begin - local.begin, subtree.end - local.begin};
    }
}

std::vector<std::string> reducer_names() {
    std::vector<std::string> names{"auto"};
    for (const Named& known : reducers) {
        names.emplace_back(known.name);
    }
    return names;
}

std::unique_ptr<GradientReducer> make_reducer(std::string_view name, const ReducerSettings& settings,
                                              const mpi::Communicator& communicator) {
    const auto found = name == "auto" ? reducers.begin() : std::ranges::find(reducers, name, &Named::name);
    if (found == reducers.end()) {
        throw std::out_of_range("no reducer " + std::string(name));
    }
    return found->make(settings, communicator);
}

} // namespace dtrain::parallel
