#pragma once

#include "dtrain/parallel/gradient_reducer.hpp"

#include <memory>

namespace dtrain::parallel {

std::unique_ptr<GradientReducer> make_mpi_reducer(const ReducerSettings& settings,
                                                  const mpi::Communicator& communicator);
std::unique_ptr<GradientReducer> make_node_reducer(const ReducerSettings& settings,
                                                   const mpi::Communicator& communicator);

} // namespace dtrain::parallel
