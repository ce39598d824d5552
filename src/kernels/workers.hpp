#pragma once

#include <cstddef>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace dtrain::kernels {

/// Calls action(i, worker) for i < count, on as many threads as there are workers. The calling thread uses the first.
template <class Worker, class Action>
void share_among(std::vector<Worker>& workers, std::size_t count, Action&& action) {
#ifdef _OPENMP
    if (const int threads = static_cast<int>(workers.size()); threads > 1 && count > 1) {
#pragma omp parallel for num_threads(threads)
        for (std::size_t i = 0; i < count; ++i) {
            action(i, workers[static_cast<std::size_t>(omp_get_thread_num())]);
        }
        return;
    }
#endif
    for (std::size_t i = 0; i < count; ++i) {
        action(i, workers.front());
    }
}

} // namespace dtrain::kernels
