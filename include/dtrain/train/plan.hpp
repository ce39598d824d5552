#pragma once

#include "dtrain/config/config.hpp"
#include "dtrain/core/partition.hpp"
#include "dtrain/data/dataset_loader.hpp"
#include "dtrain/data/sampler.hpp"
#include "dtrain/kernels/products.hpp"
#include "dtrain/mpi/communicator.hpp"
#include "dtrain/nn/interleave.hpp"
#include "dtrain/nn/network.hpp"
#include "dtrain/optim/optimizer.hpp"
#include "dtrain/optim/schedule.hpp"
#include "dtrain/parallel/gradient_reducer.hpp"
#include "dtrain/train/memory.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace dtrain::train {

/// Rows of a micro-batch for a step of `wanted` rows: all rows up to 512, otherwise 256, as in evaluation. Activations
/// of thousands of rows do not fit into the caches, and a step takes twice as long. Many micro-batches cost time too,
/// since each continues the sums of the last one.
[[nodiscard]] std::size_t usual_rows(std::size_t wanted) noexcept;

/// The network, the data, the training and the memory it needs. A plan follows from the config, the number of ranks and
/// the headers of the data, before anything large is allocated. The constructor and the functions marked collective
/// throw mpi::AgreedError on all ranks.
class Plan {
  public:
    /// Collective: checks the config, opens the data, and decides how many rows are processed at once. Throws
    /// (bad_config) if the machine, a control group or ulimit has too little memory. `checkpoint_bytes` returns the
    /// bytes that rank 0 needs to write a given number of bytes of parameters and state; without it, no checkpoints are
    /// written. `config` and `communicator` must outlive the plan.
    Plan(const config::Config& config, const mpi::Communicator& communicator,
         const std::function<std::size_t(std::size_t bytes)>& checkpoint_bytes = {});
    Plan(const Plan&) = delete; // its parts refer to each other
    Plan& operator=(const Plan&) = delete;

    [[nodiscard]] const config::Config& config() const noexcept { return config_; }
    [[nodiscard]] const mpi::Communicator& communicator() const noexcept { return communicator_; }
    [[nodiscard]] int nodes() const noexcept { return nodes_; }
    /// The reducer in use: "node" or "mpi", never "auto".
    [[nodiscard]] std::string reducer_name() const;
    [[nodiscard]] core::Range local_shards() const {
        return shards_of_rank_[static_cast<std::size_t>(communicator_.rank())];
    }
    [[nodiscard]] const data::SetHeader& header(data::Set set) const noexcept { return source_->header(set); }
    [[nodiscard]] kernels::Products& products() const noexcept { return *products_; }
    [[nodiscard]] nn::Network<float>& network() const noexcept { return *network_; } ///< without memory for rows yet
    /// The products that layers use: without rounding if precision = bfloat16, but no layer is large enough for it.
    [[nodiscard]] const kernels::Products& used_products() const noexcept;
    [[nodiscard]] const data::Sampler& sampler() const noexcept { return *sampler_; }
    [[nodiscard]] data::Sampler& sampler() noexcept { return *sampler_; }
    [[nodiscard]] const optim::Schedule& schedule() const noexcept { return *schedule_; }
    [[nodiscard]] const optim::Optimizer& optimizer() const noexcept { return *optimizer_; }
    [[nodiscard]] const parallel::ReducerSettings& exchange() const noexcept { return exchange_; }
    /// The rows and shards that this rank processes at once in a step.
    [[nodiscard]] const nn::Extent& step_extent() const noexcept { return step_extent_; }
    [[nodiscard]] const MemoryUse& memory() const noexcept { return memory_; }

    /// Collective, may be called once: loads the samples of this rank.
    [[nodiscard]] data::Dataset load();

  private:
    [[nodiscard]] nn::Extent wanted_extent() const;
    /// Counts the memory that does not depend on the number of rows processed at once.
    void count_memory(const std::function<std::size_t(std::size_t bytes)>& checkpoint_bytes);
    [[nodiscard]] std::size_t activation_bytes(std::size_t rows) const;
    /// Collective: sets the extent of a step, and counts its memory.
    void choose_rows();
    void require_memory() const;
    /// What the user can do if memory is short.
    [[nodiscard]] const char* advice() const;

    const config::Config& config_;
    const mpi::Communicator& communicator_;
    int nodes_;
    std::vector<core::Range> shards_of_rank_;
    std::optional<data::DatasetLoader> source_;
    std::unique_ptr<kernels::Products> products_;
    std::unique_ptr<nn::Network<float>> network_;
    std::optional<data::Sampler> sampler_;
    std::optional<optim::Schedule> schedule_;
    std::unique_ptr<optim::Optimizer> optimizer_;
    parallel::ReducerSettings exchange_;
    nn::Extent step_extent_;
    MemoryUse memory_;
};

} // namespace dtrain::train
