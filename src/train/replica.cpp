#include "dtrain/train/replica.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/core/hash.hpp"
#include "dtrain/model/build.hpp"
#include "dtrain/model/data_source.hpp"
#include "dtrain/model/evaluator.hpp"
#include "dtrain/model/fingerprint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <utility>

namespace dtrain::train {
namespace {

using parallel::Tail;

model::Score score_of(float cost, float correct, std::int64_t samples) {
    const auto divisor = static_cast<double>(samples);
    return {static_cast<double>(cost) / divisor, static_cast<double>(correct) / divisor};
}

/// What other modules' tables and the number of ranks decide about a config.
void check_names(const config::Config& config, int ranks) {
    model::check_names(config);
    config.require_one_of("parallel.reducer", parallel::reducer_names());
    if (ranks > config.parallel.logical_shards) {
        throw config.invalid("parallel.logical_shards",
                             fmt::format("{0} ranks need at least as many logical shards; start fewer ranks, or set "
                                         "--parallel.logical_shards={0} (results depend on that number)",
                                         ranks));
    }
}

std::span<float> piece_of(std::span<float> arena, core::Range range) {
    return arena.subspan(static_cast<std::size_t>(range.begin), static_cast<std::size_t>(range.size()));
}

std::vector<core::Range> share_out(int shards, int ranks) {
    std::vector<core::Range> shares;
    for (int rank = 0; rank < ranks; ++rank) {
        shares.push_back(core::partition(shards, ranks, rank));
    }
    return shares;
}

/// The network of a config, once the config fits it and the ranks. Collective.
nn::Network<float> make_network(const config::Config& config, kernels::Products& products,
                                const mpi::Communicator& communicator) {
    std::optional<nn::Network<float>> network;
    mpi::together(communicator, [&] { check_names(config, communicator.size()); });
    const nn::Shape shape = model::find_sample_shape(config, communicator);
    mpi::together(communicator, [&] {
        model::check_augmentation(config, shape);
        network.emplace(model::build_network(config, shape, products));
    });
    return std::move(*network);
}

} // namespace

std::string count_of(std::int64_t number, std::string_view what) {
    return fmt::format("{} {}{}", number, what, number == 1 ? "" : "s");
}

Replica::Replica(const config::Config& config, const mpi::Communicator& communicator)
    : config_(config), communicator_(communicator), nodes_([&] {
          std::array<int, 1> first{communicator.split_by_node(config.parallel.node_ranks).is_root() ? 1 : 0};
          communicator.sum(std::span(first));
          return first[0];
      }()),
      shards_of_rank_(share_out(config.parallel.logical_shards, communicator.size())),
      products_(kernels::make_exact_products(config.parallel.blas_threads)),
      network_(make_network(config, *products_, communicator)), cost_function_(model::find_cost(config)),
      dataset_(model::load_dataset(config, network_.outputs(), shards_of_rank_, communicator)),
      sampler_(dataset_.train.total, config.parallel.logical_shards, config.training.batch_size, config.model.seed,
               local_shards()),
      loader_(dataset_.train, static_cast<std::size_t>(sampler_.max_local_rows()),
              static_cast<std::size_t>(local_shards().size()),
              model::build_augmenter(config, dataset_.train.sample_shape)),
      schedule_(model::build_schedule(config, sampler_.steps_per_epoch())),
      optimizer_(model::build_optimizer(config)), local_sizes_{network_.layout().arena_size(),
                                                               optimizer_->state_names().size(),
                                                               std::min(config.parallel.sync_every,
                                                                        sampler_.steps_per_epoch())},
      reducer_(parallel::make_reducer(config.parallel.reducer,
                                      {descends_locally() ? local_sizes_.exchanged() : local_sizes_.arena,
                                       descends_locally() ? 0 : local_sizes_.states, config.parallel.logical_shards,
                                       shards_of_rank_, config.parallel.node_ranks},
                                      communicator)),
      states_([&] {
          std::vector<std::span<float>> states;
          for (std::size_t i = 0; i < local_sizes_.states; ++i) {
              states.push_back(descends_locally()
                                   ? reducer_->parameters().subspan((1 + i) * local_sizes_.arena, local_sizes_.arena)
                                   : reducer_->state(i));
          }
          return states;
      }()),
      gradients_(
          reducer_->subtrees(),
          [&] {
              std::vector<std::span<float>> arenas;
              for (std::size_t i = 0; i < reducer_->subtrees().size(); ++i) {
                  arenas.push_back(reducer_->gradients(i));
              }
              return arenas;
          }(),
          std::max({parallel::tail_size, network_.most_added_up(),
                    descends_locally() ? std::min(LocalDescent::piece, local_sizes_.exchanged()) : 0}),
          *products_),
      shard_scores_(static_cast<std::size_t>(local_shards().size())), state_pieces_(states_.size()) {
    const auto end = static_cast<std::int64_t>(network_.layout().arena_size());
    if (!optimizer_->wants_norms()) {
        parts_.push_back({{0, end}});
    } else {
        for (const nn::Tensor& tensor : network_.layout().tensors()) {
            const auto begin = static_cast<std::int64_t>(tensor.offset);
            if (!parts_.empty()) {
                parts_.back().range.end = begin;
            }
            parts_.push_back({{begin, end}, tensor.shape.size() > 1});
        }
        squares_.resize(parts_.size() * 2 * optim::square_limbs);
    }
    if (reducer_->overlaps()) {
        gradients_.report_to([this](std::size_t begin) { reducer_->are_final(begin); });
    }
    scores_.reserve(static_cast<std::size_t>(local_sizes_.most_steps));
    mpi::together(communicator, [this] {
        network_.reserve(batch_extent());
        if (descends_locally()) {
            local_.emplace(local_sizes_, shard_scores_.size(), network_.most_added_up(), *products_);
        }
    });
}

nn::Extent Replica::batch_extent() const {
    return nn::Extent::of(static_cast<std::size_t>(sampler_.max_local_rows()),
                          static_cast<std::size_t>(local_shards().size()))
        .larger(nn::Extent::of(model::evaluation_rows, 1));
}

std::string Replica::description() const {
    std::string text = fmt::format("dtrain {}\n", DTRAIN_VERSION);
    auto out = std::back_inserter(text);
    fmt::format_to(out, "ranks       {} on {}, {} each, {}\n", count_of(communicator_.size(), "rank"),
                   count_of(nodes_, "node"), count_of(config_.parallel.blas_threads, "thread"),
                   count_of(config_.parallel.logical_shards, "logical shard"));
    fmt::format_to(out, "reducer     {}\n", reducer_->description());
    fmt::format_to(out, "arithmetic  {}\n", products_->arithmetic_name());
    fmt::format_to(out, "data set    {}: {} training and {} test samples of {}\n", dataset_.name, dataset_.train.total,
                   dataset_.test.total, nn::to_string(dataset_.train.sample_shape));
    const auto& layers = network_.layers();
    for (std::size_t l = 0; l < layers.size(); ++l) {
        std::string shapes;
        std::size_t parameters = 0;
        for (const nn::Tensor& tensor : network_.layout().tensors()) {
            if (tensor.layer == layers[l]->label()) {
                shapes += fmt::format("{}{} {}", shapes.empty() ? "" : ", ", tensor.part, nn::to_string(tensor.shape));
                parameters += tensor.size;
            }
        }
        fmt::format_to(out, "{}{:<18} -> {}", l == 0 ? "network     " : "            ", layers[l]->description(),
                       nn::to_string(layers[l]->output_shape()));
        if (parameters > 0) {
            fmt::format_to(out, ", {}: {} parameters, {:.0f} FLOPs forward", shapes, parameters,
                           layers[l]->forward_flops());
        }
        text += '\n';
    }
    fmt::format_to(out, "            {} parameters, {:.0f} FLOPs per training sample\n",
                   network_.layout().parameter_count(), network_.training_flops());
    std::string schedule = config_.training.schedule == "constant" ? "" : ", schedule " + config_.training.schedule;
    if (config_.training.warmup_epochs > 0) {
        schedule += fmt::format(", warm-up over {} epochs", config_.training.warmup_epochs);
    }
    fmt::format_to(out, "training    {}, {} cost, {} with learning rate {}{}, batches of {}, {} of {}\n",
                   count_of(config_.training.epochs, "epoch"), config_.model.cost, config_.training.optimizer,
                   config_.training.learning_rate, schedule, sampler_.batch_samples(0),
                   config_.training.epochs == 1 ? "1 epoch" : "epochs", count_of(sampler_.steps_per_epoch(), "step"));
    text.pop_back();
    if (descends_locally()) {
        text += fmt::format(", averaged every {} steps", config_.parallel.sync_every);
    }
    return text;
}

Replica::Memory Replica::memory() const {
    const std::size_t arena = network_.layout().arena_size() * sizeof(float);
    const data::Split& train = dataset_.train;
    Memory bytes;
    bytes.samples = train.elements.size() + train.labels.size() + dataset_.test.elements.size() +
                    dataset_.test.labels.size() + static_cast<std::size_t>(train.local.size()) * sizeof(std::uint32_t);
    bytes.parameters = arena * (1 + states_.size());
    bytes.gradients = arena * reducer_->subtrees().size() + gradients_.bytes();
    if (local_) {
        bytes.gradients +=
            (local_sizes_.exchanged() - local_sizes_.arena) * sizeof(float) * reducer_->subtrees().size();
        bytes.gradients += local_->bytes();
    }
    bytes.activations = network_.bytes() + products_->bytes() + loader_.bytes() +
                        model::evaluation_rows * train.sample_size * sizeof(float);
    return bytes;
}

void Replica::touch_shared_memory() {
    reducer_->arrive();
    reducer_->combine();
    for (core::Range left = reducer_->slice(); !left.empty();) {
        left.begin = reducer_->sum_block(left.begin).range.end;
    }
    reducer_->publish();
    (void)model::fingerprint(network_.layout(), reducer_->parameters());
    const auto touch = [slice = reducer_->slice()](std::span<float> arena) {
        (void)core::hash128(std::as_bytes(piece_of(arena, slice)));
    };
    if (local_) { // whose states are among what is reduced
        touch(reducer_->parameters());
    } else {
        std::ranges::for_each(states_, touch);
    }
}

void Replica::initialise() {
    if (reducer_->fills_parameters()) {
        network_.initialise(reducer_->parameters(), config_.model.seed);
    }
    reducer_->publish();
}

void Replica::share() {
    std::vector<float> scratch(reducer_->fills_parameters() ? 0 : network_.layout().arena_size());
    const auto receive = [&](std::span<float> arena) {
        communicator_.broadcast(reducer_->fills_parameters() ? arena : std::span(scratch));
    };
    receive(parameters());
    std::ranges::for_each(states_, receive);
    reducer_->publish();
}

void Replica::enter(core::Phase phase, std::int64_t step) noexcept {
    timer_.enter(phase);
    if (observer_ != nullptr) {
        observer_->note(phase, step);
    }
}

void Replica::descend(std::int64_t step, const Notice& notice) {
    using core::Phase;
    const std::int64_t epoch = step / sampler_.steps_per_epoch();
    const std::int64_t step_in_epoch = step % sampler_.steps_per_epoch();
    const std::span<const float> parameters = this->parameters();
    batch_samples_ = sampler_.batch_samples(step_in_epoch);

    enter(Phase::data, step);
    if (epoch != ordered_epoch_) {
        ordered_epoch_ = epoch;
        sampler_.start_epoch(epoch);
    }
    const data::Batch batch = loader_.load(sampler_, step_in_epoch);

    const nn::Draw draw{config_.model.seed, static_cast<std::uint32_t>(epoch), dataset_.train.local.begin,
                        batch.samples};
    products_->fetch_beside(batch.upcoming);
    if (local_) {
        descend_locally(step, batch, draw, notice);
        return;
    }

    enter(Phase::forward, step);
    const core::MatrixView<const float> outputs = network_.forward(parameters, {batch.offsets, &draw}, batch.x);
    const core::MatrixView<float> output_gradient = network_.output_gradient(batch.x.rows);
    for (std::size_t s = 0; s < shard_scores_.size(); ++s) {
        const std::size_t first = batch.offsets[s];
        const std::size_t rows = batch.offsets[s + 1] - first;
        const core::MatrixView<const float> own = outputs.block(first, rows);
        const std::span<const std::uint8_t> labels = batch.labels.subspan(first, rows);
        shard_scores_[s] = {cost_function_(own, labels, output_gradient.block(first, rows)),
                            model::count_correct(own, labels)};
    }

    enter(Phase::backward, step);
    network_.backward(parameters, batch.offsets, batch.x, gradients_);
    set_tail(notice);

    enter(Phase::wait, step);
    reducer_->arrive();

    enter(Phase::reduce, step);
    reducer_->combine();
    scores_.assign(1, score_of(reducer_->tail(Tail::cost), reducer_->tail(Tail::correct), batch_samples_));
    require_convergence(step);

    optim::Step descent{step, 0, 1.0 / static_cast<double>(batch_samples_)};
    if (optimizer_->wants_norms()) {
        find_rate_factors(descent);
    }
    parameters_finite_ = true;
    for_each_piece(step, [&, rate = schedule_.rate(step)](const Part& part, core::Range range,
                                                          std::span<const float> sum) {
        std::ranges::transform(states_, state_pieces_.begin(), [&](auto arena) { return piece_of(arena, range); });
        descent.learning_rate = rate * part.rate_factor;
        parameters_finite_ &= optimizer_->update(piece_of(reducer_->parameters(), range), sum, state_pieces_, descent);
    });

    enter(Phase::wait, step);
    reducer_->publish();
    enter(Phase::other, step + 1);
}

void Replica::descend_locally(std::int64_t step, const data::Batch& batch, const nn::Draw& draw, const Notice& notice) {
    using core::Phase;
    const std::int64_t step_in_epoch = step % sampler_.steps_per_epoch();
    if (!local_->has_begun()) {
        local_->begin(reducer_->parameters());
        parameters_finite_ = true;
    }
    parameters_finite_ &= local_->descend(network_, cost_function_, *optimizer_, batch, draw,
                                          {step, schedule_.rate(step), 0}, [&](Phase phase) { enter(phase, step); });
    scores_.clear();
    // A function of the step alone, so that it does not matter where a run was resumed.
    if ((step_in_epoch + 1) % config_.parallel.sync_every != 0 && step_in_epoch + 1 < sampler_.steps_per_epoch()) {
        enter(Phase::other, step + 1);
        return;
    }

    enter(Phase::update, step);
    for (std::size_t s = 0; s < shard_scores_.size(); ++s) {
        shard_scores_[s] = {local_->cost(s), 0}; // counts travel with the parameters, step by step
    }
    local_->contribute(gradients_);
    set_tail(notice);
    enter(Phase::wait, step);
    reducer_->arrive();
    enter(Phase::reduce, step);
    reducer_->combine();
    require_convergence(step);

    local_->average(*reducer_, config_.parallel.logical_shards);
    enter(Phase::wait, step);
    reducer_->publish();
    const std::span<const float> sums = reducer_->parameters();
    for (std::size_t i = 0; i < local_->steps(); ++i) {
        const std::int64_t in_epoch = step_in_epoch - static_cast<std::int64_t>(local_->steps() - 1 - i);
        scores_.push_back(score_of(sums[local_sizes_.cost_at(i)], sums[local_sizes_.correct_at(i)],
                                   sampler_.batch_samples(in_epoch)));
    }
    enter(Phase::other, step + 1);
}

void Replica::require_convergence(std::int64_t step) const {
    const float cost = reducer_->tail(Tail::cost);
    if (!std::isfinite(cost) || reducer_->tail(Tail::non_finite) > 0) {
        throw mpi::AgreedError(
            core::ExitCode::diverged,
            fmt::format("training diverged: {} {} (epoch {}) {} with learning rate {}; the checkpoints written "
                        "before stay, and a smaller learning rate may help",
                        local_ ? "in the steps of a round up to" : "in step", step + 1,
                        step / sampler_.steps_per_epoch() + 1,
                        std::isfinite(cost) ? "a parameter is not finite" : fmt::format("the cost is {}", cost),
                        last_learning_rate(step)));
    }
}

template <class Action>
void Replica::for_each_piece(std::int64_t step, Action&& action) {
    auto part = parts_.begin();
    for (core::Range left = reducer_->slice(); !left.empty();) {
        enter(core::Phase::reduce, step);
        const auto [block, sum] = reducer_->sum_block(left.begin);
        enter(core::Phase::update, step);
        for (left.begin = block.begin; left.begin < block.end;) {
            while (part->range.end <= left.begin) {
                ++part;
            }
            const core::Range range{left.begin, std::min(block.end, part->range.end)};
            action(*part, range,
                   sum.subspan(static_cast<std::size_t>(range.begin - block.begin),
                               static_cast<std::size_t>(range.size())));
            left.begin = range.end;
        }
    }
}

void Replica::find_rate_factors(const optim::Step& step) {
    std::ranges::fill(squares_, 0);
    const auto squares = [&](const Part& part, std::size_t which) {
        const auto number = static_cast<std::size_t>(&part - parts_.data());
        return optim::SquareSum(squares_.data() + (2 * number + which) * optim::square_limbs, optim::square_limbs);
    };
    for_each_piece(step.number, [&](const Part& part, core::Range range, std::span<const float> sum) {
        if (part.by_norms) {
            optim::add_squares(piece_of(reducer_->parameters(), range), 1, squares(part, 0));
            optim::add_squares(sum, static_cast<float>(step.gradient_scale), squares(part, 1));
        }
    });
    enter(core::Phase::wait, step.number);
    reducer_->sum_over_slices(squares_);
    for (Part& part : parts_) {
        if (part.by_norms) {
            part.rate_factor =
                optimizer_->rate_factor(optim::square_root(squares(part, 0)), optim::square_root(squares(part, 1)));
        }
    }
}

void Replica::set_tail(const Notice& notice) {
    gradients_.add_up(
        reducer_->parameters().size(), parallel::tail_size, [&](std::size_t shard, std::span<float> tail) {
            std::ranges::fill(tail, 0.0F);
            const auto set = [&](Tail what, float value) { tail[static_cast<std::size_t>(what)] = value; };
            set(Tail::cost, static_cast<float>(shard_scores_[shard].cost));
            set(Tail::correct, static_cast<float>(shard_scores_[shard].correct));
            if (shard == 0) { // once per rank
                set(Tail::stop_requests, notice.stop_requested ? 1.0F : 0.0F);
                set(Tail::output_failures, notice.output_failed ? 1.0F : 0.0F);
                set(Tail::non_finite, parameters_finite_ ? 0.0F : 1.0F);
            }
        });
}

void Replica::require_finite(std::int64_t step) const {
    mpi::together(communicator_, [&] {
        if (!parameters_finite_) {
            throw core::Error(core::ExitCode::diverged,
                              fmt::format("training diverged: a parameter is not finite after step {} with learning "
                                          "rate {}; the checkpoints written before stay",
                                          step, last_learning_rate(step)));
        }
    });
}

} // namespace dtrain::train
