#include "dtrain/train/trainer.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/core/gemm.hpp"
#include "dtrain/train/fingerprint.hpp"
#include "dtrain/train/stop_signal.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <utility>

namespace dtrain::train {
namespace {

using parallel::Tail;

/// What other modules' tables and the number of ranks decide about a config.
void check_names(const config::Config& config, int ranks) {
    config.require_one_of("model.cost", nn::cost_names());
    config.require_one_of("training.optimizer", optim::optimizer_names());
    config.require_one_of("training.schedule", {"constant"});
    if (config.training.warmup_epochs > 0) {
        throw config.invalid("training.warmup_epochs", "warm-up is not available in this version; expected 0");
    }
    config.require_one_of("parallel.reducer", parallel::reducer_names());
    if (ranks > config.parallel.logical_shards) {
        throw config.invalid("parallel.logical_shards",
                             fmt::format("{0} ranks need at least as many logical shards; start fewer ranks, or set "
                                         "--parallel.logical_shards={0} (results depend on that number)",
                                         ranks));
    }
}

std::vector<core::Range> share_out(int shards, int ranks) {
    std::vector<core::Range> shares;
    for (int rank = 0; rank < ranks; ++rank) {
        shares.push_back(core::partition(shards, ranks, rank));
    }
    return shares;
}

/// The network of a config, once the config fits it and the ranks. Collective.
nn::Network<float> make_network(const config::Config& config, const mpi::Communicator& communicator) {
    std::optional<nn::Network<float>> network;
    std::array<std::int64_t, 9> header{};
    mpi::together(communicator, [&] {
        check_names(config, communicator.size());
        if (communicator.is_root()) {
            const data::DatasetHeader found = data::read_header(config.data.directory);
            const auto require = [&](const char* key, std::int64_t wanted, std::int64_t available) {
                if (wanted > available) {
                    throw config.invalid(key,
                                         fmt::format("{} holds {} samples", config.data.directory.string(), available));
                }
            };
            require("data.train_samples", config.data.train_samples, found.train_samples);
            require("data.test_samples", config.data.test_samples, found.test_samples);
            header[0] = static_cast<std::int64_t>(found.sample_shape.size());
            std::ranges::copy(found.sample_shape, header.begin() + 1);
        }
    });
    communicator.broadcast(std::span(header));
    const nn::Shape shape(header.begin() + 1, header.begin() + 1 + header[0]);
    mpi::together(communicator, [&] { network.emplace(build_network(config, shape)); });
    return std::move(*network);
}

bool all_finite(std::span<const float> values) {
    return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

std::string count_of(std::int64_t number, std::string_view what) {
    return fmt::format("{} {}{}", number, what, number == 1 ? "" : "s");
}

std::string megabytes(double bytes) {
    return fmt::format("{:.1f} MB", bytes / 1e6);
}

} // namespace

nn::Network<float> build_network(const config::Config& config, const nn::Shape& sample_shape) {
    try {
        nn::Network<float> network(config.model.layers, sample_shape);
        if (network.outputs() > 256) {
            throw std::invalid_argument("the last layer's size is the number of classes, at most 256");
        }
        if (nn::needs_linear_output(config.model.cost) && !network.layers().back()->description().ends_with("linear")) {
            throw std::invalid_argument(fmt::format("with cost = {} the last layer has to be linear: the cost contains "
                                                    "its activation",
                                                    config.model.cost));
        }
        return network;
    } catch (const std::invalid_argument& error) {
        throw config.invalid("model.layers", error.what());
    }
}

nn::Network<float> network_of(const io::Checkpoint& checkpoint) {
    const config::Config config = config_of(checkpoint);
    nn::Network<float> network = [&] {
        try {
            return build_network(config, checkpoint.info().sample_shape);
        } catch (const core::Error& error) {
            checkpoint.fail(error.what());
        }
    }();
    for (const nn::Tensor& tensor : network.layout().tensors()) {
        checkpoint.require("/model/" + tensor.name, tensor.shape);
    }
    return network;
}

Trainer::Trainer(const config::Config& config, const mpi::Communicator& communicator)
    : config_(config), communicator_(communicator), nodes_([&] {
          std::array<int, 1> first{communicator.split_by_node(config.parallel.node_ranks).is_root() ? 1 : 0};
          communicator.sum(std::span(first));
          return first[0];
      }()),
      shards_of_rank_(share_out(config.parallel.logical_shards, communicator.size())),
      network_(make_network(config, communicator)), cost_(nn::find_cost<float>(config.model.cost)),
      dataset_(data::load_dataset(config.data.directory, {config.data.train_samples, config.data.test_samples},
                                  static_cast<int>(network_.outputs()), config.parallel.logical_shards, shards_of_rank_,
                                  communicator)),
      sampler_(dataset_.train.total, config.parallel.logical_shards, config.training.batch_size, config.model.seed,
               local_shards()),
      loader_(dataset_.train, static_cast<std::size_t>(sampler_.max_local_rows()),
              static_cast<std::size_t>(local_shards().size())),
      optimizer_(
          optim::make_optimizer(config.training.optimizer, {config.training.momentum, config.training.weight_decay})),
      reducer_(parallel::make_reducer(config.parallel.reducer,
                                      {network_.layout().arena_size(), optimizer_->state_names().size(),
                                       config.parallel.logical_shards, shards_of_rank_, config.parallel.node_ranks},
                                      communicator)),
      states_([&] {
          std::vector<std::span<float>> states;
          for (std::size_t i = 0; i < optimizer_->state_names().size(); ++i) {
              states.push_back(reducer_->state(i));
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
          std::max(network_.largest_gradient(), parallel::tail_size)),
      evaluator_(network_, config.model.cost, dataset_.test), progress_(!communicator.is_root()),
      total_steps_(config.training.epochs * sampler_.steps_per_epoch()),
      shard_costs_(static_cast<std::size_t>(local_shards().size())), state_slices_(states_.size()) {
    network_.reserve(std::max(static_cast<std::size_t>(sampler_.max_local_rows()), evaluation_rows));
}

std::string Trainer::description() const {
    std::string text = fmt::format("dtrain {}\n", DTRAIN_VERSION);
    auto out = std::back_inserter(text);
    fmt::format_to(out, "ranks       {} on {}, {} each, {}\n", count_of(communicator_.size(), "rank"),
                   count_of(nodes_, "node"), count_of(config_.parallel.blas_threads, "thread"),
                   count_of(config_.parallel.logical_shards, "logical shard"));
    fmt::format_to(out, "reducer     {}\n", reducer_->description());
    fmt::format_to(out, "arithmetic  {}\n", core::arithmetic_name());
    fmt::format_to(out, "data set    {}: {} training and {} test samples of {}\n", dataset_.name, dataset_.train.total,
                   dataset_.test.total, nn::to_string(dataset_.train.sample_shape));
    const auto& layers = network_.layers();
    for (std::size_t l = 0; l < layers.size(); ++l) {
        std::string shapes;
        std::size_t parameters = 0;
        for (const nn::Tensor& tensor : network_.layout().tensors()) {
            if (tensor.name.starts_with(fmt::format("{:02}_", l + 1))) {
                shapes += fmt::format("{}{} {}", shapes.empty() ? "" : ", ",
                                      tensor.name.substr(tensor.name.find('/') + 1), nn::to_string(tensor.shape));
                parameters += tensor.size;
            }
        }
        fmt::format_to(out, "{}{:<18} -> {:<6} {}: {} parameters, {:.0f} FLOPs forward\n",
                       l == 0 ? "network     " : "            ", layers[l]->description(),
                       nn::to_string(layers[l]->output_shape()), shapes, parameters, layers[l]->forward_flops());
    }
    fmt::format_to(out, "            {} parameters, {:.0f} FLOPs per training sample\n",
                   network_.layout().parameter_count(), network_.training_flops());
    fmt::format_to(out, "training    {}, {} cost, {} with learning rate {}, batches of {}, {} of {}\n",
                   count_of(config_.training.epochs, "epoch"), config_.model.cost, config_.training.optimizer,
                   config_.training.learning_rate, sampler_.batch_samples(0),
                   config_.training.epochs == 1 ? "1 epoch" : "epochs", count_of(sampler_.steps_per_epoch(), "step"));
    text.pop_back();
    return text;
}

std::string Trainer::memory_description() const {
    const auto floats = [](std::size_t count) { return static_cast<double>(count * sizeof(float)); };
    const std::size_t arena = network_.layout().arena_size();
    const std::size_t rows = static_cast<std::size_t>(sampler_.max_local_rows());
    const data::Split& train = dataset_.train;
    const double samples = static_cast<double>(train.pixels.size() + train.labels.size() + dataset_.test.pixels.size() +
                                               dataset_.test.labels.size()) +
                           static_cast<double>(train.local.size()) * sizeof(std::uint32_t);
    const double parameters = floats(arena * (1 + states_.size()));
    const double gradients =
        floats(arena * reducer_->subtrees().size()) + static_cast<double>(gradients_.scratch_bytes());
    const double activations = static_cast<double>(network_.activation_bytes(std::max(rows, evaluation_rows))) +
                               floats((rows + evaluation_rows) * train.sample_size);
    // One that is being written, in memory twice, and those that wait for it.
    const double checkpoint =
        parameters * static_cast<double>(2 + RunFiles::most_waiting(config_, static_cast<std::size_t>(parameters)));
    const double total = samples + parameters + gradients + activations;
    return fmt::format("memory      of rank 0: {} samples, {} parameters and optimizer state, {} gradients, "
                       "{} activations; {} more while a checkpoint is written",
                       megabytes(samples), megabytes(parameters), megabytes(gradients), megabytes(activations),
                       megabytes(checkpoint)) +
           fmt::format("\n            together {} and what MPI takes for themselves", megabytes(total + checkpoint));
}

std::vector<io::TensorView> Trainer::tensors(std::span<float> parameters,
                                             std::span<const std::span<float>> states) const {
    std::vector<io::TensorView> views;
    for (const nn::Tensor& tensor : network_.layout().tensors()) {
        views.push_back({"/model/" + tensor.name, tensor.shape, tensor.in(parameters)});
    }
    const std::vector<std::string> names = optimizer_->state_names();
    for (std::size_t i = 0; i < states.size(); ++i) {
        for (const nn::Tensor& tensor : network_.layout().tensors()) {
            views.push_back({"/optimizer/" + names[i] + "/" + tensor.name, tensor.shape, tensor.in(states[i])});
        }
    }
    return views;
}

void Trainer::restore_or_initialise() {
    std::array<std::int64_t, 2> found{};
    mpi::together(communicator_, [&] {
        if (!communicator_.is_root()) {
            return;
        }
        const auto checkpoint = files_->newest(dataset_.name, [this](std::string_view text) { progress_.warn(text); });
        if (checkpoint) {
            checkpoint->read(tensors(reducer_->parameters(), states_));
            record_ = checkpoint->info().record;
            found = {1, checkpoint->info().step};
        }
    });
    communicator_.broadcast(std::span(found));
    step_ = found[1];
    if (found[0] == 0) {
        if (reducer_->fills_parameters()) {
            network_.initialise(reducer_->parameters(), config_.model.seed);
        }
    } else {
        std::vector<float> scratch(reducer_->fills_parameters() ? 0 : network_.layout().arena_size());
        const auto receive = [&](std::span<float> arena) {
            communicator_.broadcast(reducer_->fills_parameters() ? arena : std::span(scratch));
        };
        receive(reducer_->parameters());
        std::ranges::for_each(states_, receive);
    }
    reducer_->publish();
}

void Trainer::enter(core::Phase phase) noexcept {
    timer_.enter(phase);
    watchdog_->note(phase, step_);
}

void Trainer::descent_step() {
    const std::int64_t step_in_epoch = step_ % sampler_.steps_per_epoch();
    const std::int64_t samples = sampler_.batch_samples(step_in_epoch);
    const std::span<const float> parameters = reducer_->parameters();

    enter(core::Phase::data);
    const data::Batch batch = loader_.load(sampler_, step_in_epoch);

    enter(core::Phase::forward);
    const core::MatrixView<const float> outputs = network_.forward(parameters, batch.x);
    const core::MatrixView<float> output_gradient = network_.output_gradient(batch.x.rows);
    for (std::size_t s = 0; s < shard_costs_.size(); ++s) {
        const std::size_t first = batch.offsets[s];
        const std::size_t rows = batch.offsets[s + 1] - first;
        shard_costs_[s] =
            cost_(outputs.block(first, rows), batch.labels.subspan(first, rows), output_gradient.block(first, rows));
    }

    enter(core::Phase::backward);
    network_.backward(parameters, batch.offsets, batch.x, gradients_);
    set_tail(shard_costs_);

    enter(core::Phase::wait);
    reducer_->arrive();

    enter(core::Phase::reduce);
    reducer_->combine();
    step_cost_ = static_cast<double>(reducer_->tail(Tail::cost)) / static_cast<double>(samples);
    check_outcome();

    const optim::Step step{step_, config_.training.learning_rate, 1.0 / static_cast<double>(samples)};
    parameters_finite_ = true;
    for (core::Range left = reducer_->slice(); !left.empty();) {
        enter(core::Phase::reduce);
        const auto [range, sum] = reducer_->sum_block(left.begin);
        left.begin = range.end;

        enter(core::Phase::update);
        const auto part = [&](std::span<float> arena) {
            return arena.subspan(static_cast<std::size_t>(range.begin), static_cast<std::size_t>(range.size()));
        };
        std::ranges::transform(states_, state_slices_.begin(), part);
        parameters_finite_ &= optimizer_->update(part(reducer_->parameters()), sum, state_slices_, step);
    }

    enter(core::Phase::wait);
    reducer_->publish();

    enter(core::Phase::other);
    ++step_;
    epoch_samples_ += samples;
    run_samples_ += samples;
    if (communicator_.is_root()) {
        record_.step_cost.push_back(static_cast<float>(step_cost_));
    }
    progress_.step(step_, step_cost_, samples, timer_.now());
}

void Trainer::set_tail(std::span<const double> shard_costs) {
    const bool stop = StopSignal::requested();
    const bool output_failed = files_ && files_->failed();
    gradients_.add_up(
        network_.layout().arena_size(), parallel::tail_size, [&](std::size_t shard, std::span<float> tail) {
            std::ranges::fill(tail, 0.0F);
            const auto set = [&](Tail what, float value) { tail[static_cast<std::size_t>(what)] = value; };
            set(Tail::cost, static_cast<float>(shard_costs[shard]));
            if (shard == 0) { // once per rank
                set(Tail::stop_requests, stop ? 1.0F : 0.0F);
                set(Tail::output_failures, output_failed ? 1.0F : 0.0F);
                set(Tail::non_finite, parameters_finite_ ? 0.0F : 1.0F);
            }
        });
}

void Trainer::check_outcome() {
    if (!std::isfinite(step_cost_) || reducer_->tail(Tail::non_finite) > 0) {
        throw mpi::AgreedError(
            core::ExitCode::diverged,
            fmt::format("training diverged: in step {} (epoch {}) {} with learning rate {}; the checkpoints written "
                        "before stay, and a smaller learning rate may help",
                        step_ + 1, epoch_of(step_) + 1,
                        std::isfinite(step_cost_) ? "a parameter is not finite"
                                                  : fmt::format("the cost is {}", step_cost_),
                        config_.training.learning_rate));
    }
    if (reducer_->tail(Tail::output_failures) > 0) {
        mpi::together(communicator_, [this] {
            if (files_) {
                files_->wait();
            }
        });
    }
}

void Trainer::require_finite() {
    mpi::together(communicator_, [this] {
        if (!parameters_finite_) {
            throw core::Error(core::ExitCode::diverged,
                              fmt::format("training diverged: a parameter is not finite after step {} with learning "
                                          "rate {}; the checkpoints written before stay",
                                          step_, config_.training.learning_rate));
        }
    });
}

void Trainer::finish_epoch() {
    require_finite();
    const Score score =
        evaluator_.score(reducer_->parameters(), config_.parallel.logical_shards, local_shards(), communicator_);
    using core::Phase;
    const double compute =
        timer_.seconds(Phase::forward) + timer_.seconds(Phase::backward) + timer_.seconds(Phase::update);
    const double reduce = timer_.seconds(Phase::wait) + timer_.seconds(Phase::reduce);
    const double data = timer_.seconds(Phase::data);
    const double seconds = compute + reduce + data + timer_.seconds(Phase::write) + timer_.seconds(Phase::other);
    run_seconds_ += seconds;
    reduce_seconds_ += reduce;
    timer_.reset();

    const auto gather = [this](double value) { return communicator_.gather_all(std::span<const double>(&value, 1)); };
    const std::vector<double> compute_seconds = gather(compute);
    const std::vector<double> reduce_seconds = gather(reduce);
    const std::vector<double> data_seconds = gather(data);
    if (communicator_.is_root()) {
        const std::int64_t epoch = epoch_of(step_ - 1) + 1;
        const std::int64_t steps = sampler_.steps_per_epoch();
        double cost_sum = 0;
        for (std::int64_t i = 0; i < steps; ++i) {
            cost_sum += static_cast<double>(record_.step_cost[static_cast<std::size_t>(step_ - steps + i)]) *
                        static_cast<double>(sampler_.batch_samples(i));
        }
        const double train_cost = cost_sum / static_cast<double>(dataset_.train.total);
        const double rate = static_cast<double>(epoch_samples_) / seconds;
        io::RunRecord::Epochs& epochs = record_.epochs;
        epochs.epoch.push_back(epoch);
        epochs.step.push_back(step_);
        epochs.train_cost.push_back(train_cost);
        epochs.test_cost.push_back(score.cost);
        epochs.test_accuracy.push_back(score.accuracy);
        epochs.learning_rate.push_back(config_.training.learning_rate);
        epochs.seconds.push_back(seconds);
        epochs.samples_per_second.push_back(rate);
        epochs.fingerprint.push_back(fingerprint(network_.layout(), reducer_->parameters()));
        progress_.epoch({epoch, config_.training.epochs, train_cost, score.cost, score.accuracy, rate, seconds,
                         epochs.fingerprint.back()});
        files_->add_rank_seconds(static_cast<std::size_t>(communicator_.size()), compute_seconds, reduce_seconds,
                                 data_seconds, epochs.size() - 1);
        enter(Phase::write);
        write_log();
    }
    epoch_samples_ = 0;
}

void Trainer::write_log() {
    files_->write_log({communicator_.size(), nodes_, static_cast<std::int64_t>(network_.layout().parameter_count()),
                       dataset_.name, config_.parallel.reducer, core::arithmetic_name()},
                      copy_of_record());
}

std::shared_ptr<const io::RunRecord> Trainer::copy_of_record() {
    if (!copied_record_ || copied_record_->step_cost.size() != record_.step_cost.size() ||
        copied_record_->epochs.size() != record_.epochs.size()) {
        copied_record_ = std::make_shared<const io::RunRecord>(record_);
    }
    return copied_record_;
}

bool Trainer::checkpoint_due() const {
    const config::Interval& every = config_.output.checkpoint_every;
    switch (every.unit) {
    case config::Interval::Unit::epochs:
        return epoch_ended() && epoch_of(step_) % every.count == 0;
    case config::Interval::Unit::steps:
        return step_ % every.count == 0;
    case config::Interval::Unit::seconds:
        return timer_.now() - last_checkpoint_ >= std::chrono::seconds(every.count);
    }
    return false;
}

/// On rank 0 alone. No other rank can change parameters or state meanwhile: that takes the next reduce(), in which
/// this rank takes part only when its copy is made.
void Trainer::write_checkpoint() {
    last_checkpoint_ = timer_.now();
    checkpoint_step_ = step_;
    if (!all_finite(reducer_->parameters())) {
        return; // found by all ranks in the next step; until then the last good checkpoint is the one to keep
    }
    const std::size_t size = network_.layout().arena_size();
    auto copy = std::make_shared<core::Buffer<float>>(size * (1 + states_.size()));
    std::ranges::copy(reducer_->parameters(), copy->data());
    std::vector<std::span<float>> states;
    for (std::size_t i = 0; i < states_.size(); ++i) {
        states.push_back(copy->values().subspan((i + 1) * size, size));
        std::ranges::copy(states_[i], states.back().begin());
    }
    io::CheckpointInfo info;
    info.epoch = epoch_of(step_);
    info.step = step_;
    info.seed = config_.model.seed;
    info.logical_shards = config_.parallel.logical_shards;
    info.fingerprint = fingerprint(network_.layout(), reducer_->parameters());
    info.config = config_.resolved();
    info.dataset = dataset_.name;
    info.sample_shape = dataset_.train.sample_shape;
    std::vector<io::TensorView> views = tensors(copy->values().first(size), states);
    files_->write_checkpoint(std::move(info), copy_of_record(), std::move(views), std::move(copy));
}

core::ExitCode Trainer::run() {
    watchdog_ = std::make_unique<Watchdog>(communicator_, config_.parallel.node_ranks,
                                           config_.parallel.stall_timeout_seconds, [](const std::string& message) {
                                               fmt::print(stderr, "dtrain: {}\n", message);
                                               mpi::abort(core::ExitCode::rank_lost);
                                           });
    mpi::together(communicator_, [this] {
        if (communicator_.is_root()) {
            files_ = std::make_unique<RunFiles>(config_);
        }
    });
    restore_or_initialise();
    progress_.line(description());
    const std::int64_t first_step = step_;
    if (step_ > 0) {
        progress_.line(fmt::format("resumed     after epoch {}, step {}", epoch_of(step_), step_));
    }
    if (step_ >= total_steps_ && step_ > 0) {
        progress_.line(fmt::format("nothing left to do: {} are trained; set more with --training.epochs, or begin anew "
                                   "with --output.resume=never",
                                   count_of(epoch_of(step_), "epoch")));
        return core::ExitCode::ok;
    }
    mpi::together(communicator_, [this] {
        if (files_) {
            if (const auto aside = files_->open()) {
                progress_.line(fmt::format("anew        earlier checkpoints were moved to {}", aside->string()));
            }
        }
    });
    progress_.begin(total_steps_, sampler_.steps_per_epoch(), first_step);

    bool stopped = false;
    enter(core::Phase::other);
    timer_.reset();
    last_checkpoint_ = timer_.now();
    while (step_ < total_steps_ && !stopped) {
        if (epoch_of(step_) != ordered_epoch_) {
            ordered_epoch_ = epoch_of(step_);
            sampler_.start_epoch(ordered_epoch_);
            if (files_) {
                std::vector<float>& costs = record_.step_cost;
                const std::size_t needed = costs.size() + static_cast<std::size_t>(sampler_.steps_per_epoch());
                if (costs.capacity() < needed) {
                    costs.reserve(std::max(needed, 2 * costs.capacity())); // as reserve by itself copies every time
                }
            }
        }
        descent_step();
        if (config_.parallel.check_every > 0 && step_ % config_.parallel.check_every == 0) {
            require_equal_replicas(fingerprint(network_.layout(), reducer_->parameters()), step_, communicator_);
        }
        stopped = reducer_->tail(Tail::stop_requests) > 0;
        if (epoch_ended()) {
            finish_epoch();
            enter(core::Phase::other);
            timer_.reset();
        }
        if (files_ && checkpoint_due()) {
            enter(core::Phase::write);
            write_checkpoint();
            enter(core::Phase::other);
        }
    }
    progress_.end();
    require_finite();
    mpi::together(communicator_, [this] {
        if (files_) {
            enter(core::Phase::write);
            if (checkpoint_step_ != step_) {
                write_checkpoint();
            }
            if (!epoch_ended() || total_steps_ == 0) {
                write_log();
            }
            files_->wait();
        }
    });
    stopped = stopped && step_ < total_steps_;
    report_end(stopped);
    return stopped ? core::ExitCode::stopped : core::ExitCode::ok;
}

void Trainer::report_end(bool stopped) {
    if (!files_) {
        return;
    }
    const std::string checkpoint = files_->checkpoints().file(step_).string();
    if (files_->left_out() > 0) {
        progress_.warn(fmt::format("{} came due faster than the disk took them and gave way to newer ones",
                                   count_of(static_cast<std::int64_t>(files_->left_out()), "checkpoint")));
    }
    if (stopped) {
        progress_.line(fmt::format("stopped on request after step {} of {}; run the same command again{} to go on\n"
                                   "checkpoint  {}",
                                   step_, total_steps_, config_.output.resume ? "" : ", but with --output.resume=auto,",
                                   checkpoint));
        return;
    }
    const auto& accuracy = record_.epochs.test_accuracy;
    if (!accuracy.empty()) {
        const auto best = std::ranges::max_element(accuracy);
        progress_.line(fmt::format("test        accuracy {:.2f} % (best {:.2f} % after epoch {})",
                                   100 * accuracy.back(), 100 * *best, best - accuracy.begin() + 1));
        progress_.line(fmt::format(
            "speed       {:.1f} s of training, {:.0f} samples/s, {:.1f} % of the time in reducing", run_seconds_,
            static_cast<double>(run_samples_) / run_seconds_, 100 * reduce_seconds_ / run_seconds_));
    }
    progress_.line(fmt::format("log         {}\ncheckpoint  {}", files_->log_file().string(), checkpoint));
}

} // namespace dtrain::train
