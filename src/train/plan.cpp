#include "dtrain/train/plan.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/core/host_name.hpp"
#include "dtrain/core/memory.hpp"
#include "dtrain/core/shard_tree.hpp"
#include "dtrain/model/build.hpp"
#include "dtrain/model/data_source.hpp"
#include "dtrain/model/evaluator.hpp"
#include "dtrain/train/descent.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <string>

namespace dtrain::train {
namespace {

/// Checks the names in the config, and the number of ranks.
void check(const config::Config& config, int ranks) {
    model::check_names(config);
    config.require_one_of("parallel.reducer", parallel::reducer_names());
    if (config.parallel.compressed) {
        if (!parallel::can_compress(config.parallel.reducer)) {
            throw config.invalid("parallel.compression",
                                 fmt::format("compression does not work with reducer = {}", config.parallel.reducer));
        }
        if (config.parallel.sync_every > 1) {
            throw config.invalid("parallel.compression",
                                 fmt::format("compression does not work with sync_every = {}: the exchange contains "
                                             "parameters, which must not be rounded",
                                             config.parallel.sync_every));
        }
    }
    if (ranks > config.parallel.logical_shards) {
        throw config.invalid("parallel.logical_shards",
                             fmt::format("{0} ranks need at least as many logical shards. Start fewer ranks, or set "
                                         "--parallel.logical_shards={0} (results depend on that number)",
                                         ranks));
    }
}

int count_nodes(const mpi::Communicator& communicator, int ranks_per_node) {
    std::array<int, 1> first{communicator.split_by_node(ranks_per_node).is_root() ? 1 : 0};
    communicator.sum(std::span(first));
    return first[0];
}

std::vector<core::Range> partition_shards(int shards, int ranks) {
    std::vector<core::Range> shares;
    for (int rank = 0; rank < ranks; ++rank) {
        shares.push_back(core::partition(shards, ranks, rank));
    }
    return shares;
}

/// Memory of a rank that is allocated later and not counted otherwise.
constexpr std::size_t later_bytes = std::size_t{12} << 20;

} // namespace

std::size_t usual_rows(std::size_t wanted) noexcept {
    return wanted <= 2 * model::evaluation_rows ? wanted : model::evaluation_rows;
}

Plan::Plan(const config::Config& config, const mpi::Communicator& communicator,
           const std::function<std::size_t(std::size_t bytes)>& checkpoint_bytes)
    : config_(config), communicator_(communicator), nodes_(count_nodes(communicator, config.parallel.ranks_per_node)),
      shards_of_rank_(partition_shards(config.parallel.logical_shards, communicator.size())) {
    mpi::together(communicator, [&] { check(config, communicator.size()); });
    source_.emplace(model::open_dataset(config_, communicator_));
    const data::SetHeader& train = header(data::Set::train);
    mpi::together(communicator_, [&] {
        model::check_augmentation(config_, train.sample_shape);
        products_ = model::build_products(config_);
        network_ = std::make_unique<nn::Network<float>>(model::build_network(config_, train.sample_shape, *products_));
    });
    source_->require_classes(network_->outputs());
    mpi::together(communicator_, [&] {
        sampler_.emplace(train.samples, config_.parallel.logical_shards, config_.training.batch_size,
                         config_.model.seed, local_shards());
        if (network_->mixes_samples() && sampler_->min_shard_rows() < 2) {
            throw config_.invalid("training.batch_size",
                                  fmt::format("batchnorm needs at least 2 samples of each logical shard in a batch, so "
                                              "{} shards need a batch of at least {}",
                                              config_.parallel.logical_shards, 2 * config_.parallel.logical_shards));
        }
        schedule_.emplace(model::build_schedule(config_, sampler_->steps_per_epoch()));
        optimizer_ = model::build_optimizer(config_);
        const ExchangeSizes sizes = exchange_sizes(config_, network_->layout(), *optimizer_, *sampler_);
        exchange_ = {sizes.parameters,
                     sizes.states,
                     config_.parallel.logical_shards,
                     shards_of_rank_,
                     config_.parallel.ranks_per_node,
                     config_.parallel.compressed};
    });
    count_memory(checkpoint_bytes);
    choose_rows();
}

const kernels::Products& Plan::used_products() const noexcept {
    const bool rounds =
        std::ranges::any_of(network_->layers(), [](const auto& layer) { return layer->rounds_factors(); });
    return rounds ? *products_ : products_->unrounded();
}

std::string Plan::reducer_name() const {
    const std::string description = parallel::describe_reducer(config_.parallel.reducer, nodes_);
    return description.substr(0, description.find(' ')); // a description begins with the name
}

data::Dataset Plan::load() {
    return source_->load(config_.parallel.logical_shards, shards_of_rank_);
}

nn::Extent Plan::wanted_extent() const {
    return rows_at_once(config_, *sampler_, static_cast<std::size_t>(local_shards().size()));
}

void Plan::count_memory(const std::function<std::size_t(std::size_t bytes)>& checkpoint_bytes) {
    memory_.program = core::own_bytes() + later_bytes;
    const auto count = [&](std::int64_t total, data::Set set) {
        const core::Range samples = data::samples_of_shards(total, exchange_.shards, local_shards());
        memory_.samples +=
            static_cast<std::size_t>(samples.size()) * (header(set).sample_bytes() + sizeof(std::uint8_t));
    };
    for (const data::Set set : data::sets) {
        count(header(set).samples, set);
    }
    count(source_->validation_samples(), data::Set::train);
    memory_.reading = source_->reading_bytes();
    const std::size_t arenas = core::complete_subtrees(exchange_.shards, local_shards()).size();
    memory_.gradients = arenas * (exchange_.parameters + parallel::tail_size) * sizeof(float);
    const std::size_t parameters = exchange_.parameters * (1 + exchange_.states) * sizeof(float);
    const mpi::Communicator node = communicator_.split_by_node(config_.parallel.ranks_per_node);
    const bool has_own = node.is_root() || !parallel::shares_parameters(config_.parallel.reducer);
    memory_.parameters = has_own ? parameters : 0;
    if (node.size() > 1 && parallel::shares_parameters(config_.parallel.reducer)) {
        memory_.shared = memory_.parameters + memory_.gradients;
    }
    if (nodes_ > 1 && parallel::shares_parameters(config_.parallel.reducer)) {
        // Send and receive buffers of a slice, for each subtree of the node. Compressed sums have buffers too.
        const int first = communicator_.rank() - node.rank();
        const core::Range shards{shards_of_rank_[static_cast<std::size_t>(first)].begin,
                                 shards_of_rank_[static_cast<std::size_t>(first + node.size() - 1)].end};
        const std::size_t partials = 2 * core::complete_subtrees(exchange_.shards, shards).size();
        const std::size_t slice = exchange_.parameters / static_cast<std::size_t>(node.size());
        memory_.gradients +=
            slice * (exchange_.compressed ? (partials + 1) * sizeof(std::uint16_t) : partials * sizeof(float));
    }
    memory_.checkpoints = communicator_.is_root() && checkpoint_bytes ? checkpoint_bytes(parameters) : 0;
}

std::size_t Plan::activation_bytes(std::size_t rows) const {
    const std::size_t evaluators = source_->validation_samples() > 0 ? 2 : 1;
    const nn::Extent extent = nn::Extent::of(rows, wanted_extent().shards);
    return network_->bytes_for(extent.larger(nn::Extent::of(model::evaluation_rows, 1))) +
           (rows + evaluators * model::evaluation_rows) * network_->inputs() * sizeof(float);
}

void Plan::choose_rows() {
    const std::size_t left = std::ranges::min(find_rooms(memory_, communicator_), {}, &MemoryRoom::left).left();
    mpi::together(communicator_, [&] {
        const nn::Extent wanted = wanted_extent();
        const auto own_bytes = [&](std::size_t number) {
            return descent_bytes(config_, *network_, exchange_, local_shards(), number < wanted.rows);
        };
        const auto bytes = [&](std::size_t number) { return activation_bytes(number) + own_bytes(number); };
        const auto given = static_cast<std::size_t>(config_.training.micro_batch);
        std::size_t rows = std::min(given == 0 ? usual_rows(wanted.rows) : given, wanted.rows);
        if (network_->mixes_samples()) {
            rows = std::max(rows, static_cast<std::size_t>(sampler_->max_shard_rows()));
        }
        // With many shards and a large network, the partial sums of micro-batches need more memory than all rows at
        // once.
        if (given == 0 && bytes(rows) > left && bytes(wanted.rows) < bytes(rows)) {
            rows = wanted.rows;
        }
        step_extent_ = nn::Extent::of(rows, wanted.shards);
        memory_.activations = activation_bytes(rows);
        memory_.gradients += own_bytes(rows);
    });
    require_memory();
}

const char* Plan::advice() const {
    if (memory_.reading > memory_.later()) {
        return "Reading unpacks whole chunks of the data: write them with smaller chunks, such as 64 samples (chunks= "
               "in h5py), or raise the limit";
    }
    return config_.training.micro_batch != 0 ? "Lower training.micro_batch"
                                             : "Use fewer samples, a smaller network or more hosts, or raise the limit";
}

void Plan::require_memory() const {
    const std::vector<MemoryRoom> rooms = find_rooms(memory_, communicator_);
    mpi::together(communicator_, [&] {
        for (const MemoryRoom& room : rooms) {
            if (room.taken > room.bytes) {
                throw core::Error(
                    core::ExitCode::bad_config,
                    fmt::format("out of memory: {} about {:.0f} MB on {}, {} {:.0f} MB; rank {} needs {}. {}",
                                room.sharing == 1 ? fmt::format("rank {} needs", communicator_.rank())
                                                  : fmt::format("{} ranks need", room.sharing),
                                static_cast<double>(room.taken) / 1e6, core::host_name().data(), room.owner,
                                static_cast<double>(room.bytes) / 1e6, communicator_.rank(), describe(memory_),
                                advice()));
            }
        }
    });
}

} // namespace dtrain::train
