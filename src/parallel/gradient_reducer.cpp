#include "dtrain/parallel/gradient_reducer.hpp"

#include "dtrain/core/registry.hpp"
#include "dtrain/core/shard_tree.hpp"

#include "reducers.hpp"

namespace dtrain::parallel {
namespace {

using core::Named;
constexpr core::Registry reducers("reducer", {Named{"auto", make_node_reducer}, Named{"node", make_node_reducer},
                                              Named{"mpi", make_mpi_reducer}});

} // namespace

GradientReducer::GradientReducer(const ReducerSettings& settings, int rank) {
    const core::Range local = settings.shards_of_rank[static_cast<std::size_t>(rank)];
    subtrees_ = core::complete_subtrees(settings.shards, local);
    for (core::Range& subtree : subtrees_) {
        subtree = {subtree.begin - local.begin, subtree.end - local.begin};
    }
}

std::vector<std::string> reducer_names() {
    return reducers.names();
}

std::unique_ptr<GradientReducer> make_reducer(std::string_view name, const ReducerSettings& settings,
                                              const mpi::Communicator& communicator) {
    return reducers.at(name)(settings, communicator);
}

} // namespace dtrain::parallel
