#include "dtrain/parallel/gradient_reducer.hpp"

#include "dtrain/core/registry.hpp"
#include "dtrain/core/shard_tree.hpp"

#include "reducers.hpp"

namespace dtrain::parallel {
namespace {

struct Kind {
    std::unique_ptr<GradientReducer> (*make)(const ReducerSettings&, const mpi::Communicator&);
    bool shares_parameters;
    bool can_compress;
    const char* on_one_node;
    const char* on_several;
};
constexpr Kind node{make_node_reducer, true, true,
                    "node (shared memory; results are bitwise identical for any number of ranks)",
                    "node (shared memory and MPI between nodes, overlapped with the backward pass; results are bitwise "
                    "identical for any number of ranks)"};
constexpr const char* of_mpi = "mpi (one MPI_Allreduce; for other numbers of ranks, results differ by rounding)";

using core::Named;
constexpr core::Registry reducers("reducer", {Named{"auto", node}, Named{"node", node},
                                              Named{"mpi", Kind{make_mpi_reducer, false, false, of_mpi, of_mpi}}});

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

bool shares_parameters(std::string_view name) {
    return reducers.at(name).shares_parameters;
}

bool can_compress(std::string_view name) {
    return reducers.at(name).can_compress;
}

std::string describe_reducer(std::string_view name, int nodes) {
    const Kind& kind = reducers.at(name);
    return nodes == 1 ? kind.on_one_node : kind.on_several;
}

std::unique_ptr<GradientReducer> make_reducer(std::string_view name, const ReducerSettings& settings,
                                              const mpi::Communicator& communicator) {
    return reducers.at(name).make(settings, communicator);
}

} // namespace dtrain::parallel
