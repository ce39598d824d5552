#include "dtrain/run/trainer.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/core/thread.hpp"
#include "dtrain/model/fingerprint.hpp"
#include "dtrain/model/saved_network.hpp"
#include "dtrain/run/stop_signal.hpp"
#include "dtrain/train/description.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace dtrain::run {
namespace {

using Lane = BackgroundWriter::Lane;

bool all_finite(std::span<const float> values) {
    return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

/// Collective: the seconds of every rank.
std::vector<io::PhaseSeconds> gather(const io::PhaseSeconds& own, const mpi::Communicator& communicator) {
    const std::array<double, 4> values{own.compute, own.reduce, own.wait, own.data};
    const std::vector<double> all = communicator.gather_all(std::span<const double>(values));
    std::vector<io::PhaseSeconds> ranks;
    for (std::size_t i = 0; i < all.size(); i += values.size()) {
        ranks.push_back({all[i], all[i + 1], all[i + 2], all[i + 3]});
    }
    return ranks;
}

} // namespace

Trainer::Trainer(const config::Config& config, const mpi::Communicator& communicator)
    : config_(config), communicator_(communicator), progress_(!communicator.is_root()),
      plan_(config, communicator, RunFiles::writing_bytes(config)), replica_(announce()),
      total_steps_(config.training.epochs * replica_.sampler().steps_per_epoch()) {
    mpi::together(communicator, [this] {
        test_evaluator_.emplace(replica_.network(), config_.model.cost, replica_.dataset().test);
        if (replica_.dataset().validation.total > 0) {
            validation_evaluator_.emplace(replica_.network(), config_.model.cost, replica_.dataset().validation);
        }
    });
    progress_.line(train::describe(replica_.dataset()));
}

train::Plan& Trainer::announce() {
    progress_.line(train::describe(plan_));
    progress_.line(train::describe_memory(plan_.memory(), communicator_));
    return plan_;
}

void Trainer::enter(core::Phase phase) noexcept {
    replica_.timer().enter(phase, step_);
}

void Trainer::restore_or_initialise() {
    std::array<std::int64_t, 2> found{};
    std::vector<config::Config::Change> changes;
    enter(core::Phase::write); // rank 0 reads from the disk, and the other ranks wait for it
    mpi::together(communicator_, [&] {
        if (!communicator_.is_root()) {
            return;
        }
        const auto checkpoint =
            files_->newest(replica_.dataset().name, [this](std::string_view text) { progress_.warn(text); });
        if (checkpoint) {
            const io::CheckpointInfo& info = checkpoint->info();
            if (info.epoch != epoch_of(info.step)) {
                checkpoint->fail(fmt::format("cannot resume: the checkpoint has {} after step {}",
                                             train::format_count(info.epoch, "epoch"), info.step));
            }
            checkpoint->read(model::saved_tensors(replica_.network().layout(), replica_.parameters(),
                                                  {plan_.optimizer().state_names(), replica_.states()}));
            record_ = info.record;
            found = {1, info.step};
            changes = files_->config().changes_since(model::config_of(*checkpoint));
            const std::string rounding = plan_.used_products().rounding_name();
            if (!info.rounding.empty() && info.rounding != rounding) {
                changes.push_back({"rounding", info.rounding, rounding});
            }
        } else if (const auto initial = model::open_initial(config_, replica_.network().layout(),
                                                            [this](std::string_view text) { progress_.warn(text); })) {
            initial->checkpoint.read(model::saved_tensors(replica_.network().layout(), replica_.parameters()));
            found = {1, 0};
            progress_.line(fmt::format("initial     weights of {}, after epoch {}", initial->file.string(),
                                       initial->checkpoint.info().epoch));
        }
    });
    communicator_.broadcast(std::span(found));
    step_ = found[1];
    find_best();
    enter(core::Phase::other);
    found[0] == 0 ? replica_.initialise() : replica_.share();
    if (step_ == 0) {
        return;
    }
    progress_.line(fmt::format("resumed     after epoch {}, step {}", epoch_of(step_), step_));
    for (const auto& [key, before, now] : changes) {
        if (!key.starts_with("output.") && key != "training.epochs") { // others may change what comes next
            progress_.line(fmt::format("changed     {} = {}, before {}", key, now, before));
        }
    }
}

void Trainer::find_best() {
    const io::RunRecord::Epochs& epochs = record_.epochs; // empty except on rank 0
    for (std::size_t i = 0; i < epochs.size(); ++i) {
        best_.add(epochs.epoch[i], validation_evaluator_
                                       ? model::Score{epochs.validation_cost[i], epochs.validation_accuracy[i]}
                                       : model::Score{epochs.test_cost[i], epochs.test_accuracy[i]});
    }
    std::array<double, 3> best{static_cast<double>(best_.epoch), best_.score.cost, best_.score.accuracy};
    communicator_.broadcast(std::span(best));
    best_ = {static_cast<std::int64_t>(best[0]), {best[1], best[2]}};
}

void Trainer::restore_best() {
    if (!config_.output.keep_best || best_.epoch == 0) {
        return;
    }
    const auto index = static_cast<std::size_t>(best_.epoch - 1);
    has_best_file_ = files_->restore_best(record_.epochs.step[index], record_.epochs.fingerprint[index]);
    if (!has_best_file_) {
        progress_.warn(fmt::format("the network after epoch {}, the best one so far, is lost: neither {} nor another "
                                   "checkpoint in that folder has it. The next better one replaces that file",
                                   best_.epoch, files_->checkpoints().best_file().string()));
    }
}

void Trainer::descent_step() {
    replica_.descend(step_, {StopSignal::requested(), files_ && files_->failed()});
    ++step_;
    ++epoch_steps_;
    epoch_samples_ += replica_.batch_samples();
    run_samples_ += replica_.batch_samples();
    for (const model::Score& score : replica_.descent().scores()) {
        last_cost_ = score.cost;
        if (files_) {
            record_.step_cost.push_back(static_cast<float>(score.cost));
            record_.step_accuracy.push_back(static_cast<float>(score.accuracy));
        }
    }
    progress_.step(step_, last_cost_, replica_.batch_samples(), replica_.timer().now());
    if (replica_.descent().totals().output_failures > 0) {
        enter(core::Phase::write);
        mpi::together(communicator_, [this] {
            if (files_) {
                files_->wait();
            }
        });
    }
}

void Trainer::finish_epoch() {
    replica_.require_finite(step_);
    const auto score_of = [this](model::Evaluator& evaluator) {
        return evaluator.score(replica_.parameters(), config_.parallel.logical_shards, plan_.local_shards(),
                               communicator_);
    };
    const model::Score test = score_of(*test_evaluator_);
    std::optional<model::Score> validation;
    if (validation_evaluator_) {
        validation = score_of(*validation_evaluator_);
    }
    const bool is_best = best_.add(epoch_of(step_), validation.value_or(test));
    using core::Phase;
    const auto spent = [this](auto... phases) { return (replica_.timer().seconds(phases) + ...); };
    const io::PhaseSeconds own{spent(Phase::forward, Phase::backward, Phase::update), spent(Phase::reduce),
                               spent(Phase::wait), spent(Phase::data)};
    const double seconds = own.compute + own.reduce + own.wait + own.data + spent(Phase::write, Phase::other);
    run_seconds_ += seconds;
    exchange_seconds_ += own.reduce + own.wait;
    replica_.timer().reset();

    const std::vector<io::PhaseSeconds> ranks = gather(own, communicator_);
    if (communicator_.is_root()) {
        const std::int64_t epoch = epoch_of(step_ - 1) + 1;
        const std::int64_t steps = replica_.sampler().steps_per_epoch();
        const auto mean = [&](const std::vector<float>& of_steps) {
            double sum = 0;
            for (std::int64_t i = 0; i < steps; ++i) {
                sum += static_cast<double>(of_steps[static_cast<std::size_t>(step_ - steps + i)]) *
                       static_cast<double>(replica_.sampler().batch_samples(i));
            }
            return sum / static_cast<double>(replica_.dataset().train.total);
        };
        const double train_cost = mean(record_.step_cost);
        const double rate = static_cast<double>(epoch_samples_) / seconds;
        io::RunRecord::Epochs& epochs = record_.epochs;
        epochs.epoch.push_back(epoch);
        epochs.step.push_back(step_);
        epochs.train_cost.push_back(train_cost);
        epochs.train_accuracy.push_back(mean(record_.step_accuracy));
        epochs.test_cost.push_back(test.cost);
        epochs.test_accuracy.push_back(test.accuracy);
        if (validation) {
            epochs.validation_cost.push_back(validation->cost);
            epochs.validation_accuracy.push_back(validation->accuracy);
        }
        epochs.learning_rate.push_back(replica_.last_learning_rate(step_));
        epochs.seconds.push_back(seconds);
        epochs.samples_per_second.push_back(rate);
        epochs.fingerprint.push_back(model::fingerprint(replica_.network().layout(), replica_.parameters()));
        progress_.epoch(
            {epoch, config_.training.epochs, train_cost, test, validation, rate, seconds, epochs.fingerprint.back()});
        files_->add_rank_seconds(ranks, epochs.size() - 1);
        if (const auto warning = exchange_check_ ? exchange_check_->add(epoch_steps_, ranks) : std::nullopt) {
            progress_.warn(*warning);
        }
        enter(Phase::write);
        log_postponed_ = !log_budget_.allows(replica_.timer().now(), files_->writing_seconds(Lane::log));
        if (!log_postponed_) {
            write_log();
        }
        if (is_best && config_.output.keep_best) {
            has_best_file_ = true;
            unwritten_best_ = nullptr;
            if (!files_->replace_waiting_best([this] { return std::pair(snapshot(), copy_of_record()); })) {
                unwritten_best_ = snapshot();
            }
        }
        if (unwritten_best_ && best_budget_.allows(replica_.timer().now(), files_->writing_seconds(Lane::best))) {
            write_best();
        }
    }
    epoch_samples_ = 0;
    epoch_steps_ = 0;
}

void Trainer::write_log() {
    const double begun = core::thread_seconds();
    files_->write_log({communicator_.size(), plan_.nodes(),
                       static_cast<std::int64_t>(replica_.network().layout().parameter_count()),
                       replica_.dataset().name, plan_.reducer_name(), plan_.used_products().arithmetic_name()},
                      copy_of_record());
    log_postponed_ = false;
    log_budget_.wrote(replica_.timer().now(), core::thread_seconds() - begun);
}

std::shared_ptr<const io::RunRecord> Trainer::copy_of_record() {
    if (!copied_record_ || copied_record_->step_cost.size() != record_.step_cost.size() ||
        copied_record_->epochs.size() != record_.epochs.size()) {
        copied_record_ = std::make_shared<const io::RunRecord>(record_);
    }
    return copied_record_;
}

bool Trainer::checkpoint_due() {
    const config::Interval& every = config_.output.checkpoint_every;
    switch (every.unit) {
    case config::Interval::Unit::epochs:
        return epoch_ended() && epoch_of(step_) % every.count == 0 &&
               (config_.output.keep_checkpoints == 0 ||
                checkpoint_budget_.allows(replica_.timer().now(), files_->writing_seconds(Lane::checkpoint)));
    case config::Interval::Unit::steps:
        return step_ % every.count == 0;
    case config::Interval::Unit::seconds:
        return replica_.timer().now() - last_checkpoint_ >= std::chrono::seconds(every.count);
    }
    return false;
}

/// On rank 0 only. No other rank can change parameters or state meanwhile: this takes the next step, which rank 0 joins
/// only after it has made the copy.
void Trainer::write_checkpoint() {
    last_checkpoint_ = replica_.timer().now();
    checkpoint_step_ = step_;
    if (!all_finite(replica_.parameters())) {
        return; // all ranks detect this in the next step, and the last good checkpoint must be kept
    }
    const double begun = core::thread_seconds();
    if (unwritten_best_) {
        write_best(); // before the checkpoint
    }
    files_->write_checkpoint(snapshot(), copy_of_record());
    checkpoint_budget_.wrote(last_checkpoint_, core::thread_seconds() - begun);
}

void Trainer::write_best() {
    const double begun = core::thread_seconds();
    files_->write_best(std::move(unwritten_best_), copy_of_record());
    best_budget_.wrote(replica_.timer().now(), core::thread_seconds() - begun);
}

std::shared_ptr<const RunFiles::Snapshot> Trainer::snapshot() {
    if (auto last = last_snapshot_.lock(); last && last->info.step == step_) {
        return last;
    }
    const std::size_t size = replica_.network().layout().arena_size();
    const std::span<const std::span<float>> sources = replica_.states();
    auto snapshot = std::make_shared<RunFiles::Snapshot>();
    snapshot->values = core::Buffer<float>(size * (1 + sources.size()));
    const std::span<float> copy = snapshot->values.values();
    std::ranges::copy(replica_.parameters(), copy.begin());
    std::vector<std::span<float>> states;
    for (std::size_t i = 0; i < sources.size(); ++i) {
        states.push_back(copy.subspan((i + 1) * size, size));
        std::ranges::copy(sources[i], states.back().begin());
    }
    io::CheckpointInfo& info = snapshot->info;
    info.epoch = epoch_of(step_);
    info.step = step_;
    info.seed = config_.model.seed;
    info.logical_shards = config_.parallel.logical_shards;
    info.fingerprint = model::fingerprint(replica_.network().layout(), replica_.parameters());
    info.config = files_->config().resolved();
    info.dataset = replica_.dataset().name;
    info.sample_shape = replica_.dataset().train.sample_shape;
    info.rounding = plan_.used_products().rounding_name();
    snapshot->tensors =
        model::saved_tensors(replica_.network().layout(), copy.first(size), {plan_.optimizer().state_names(), states});
    last_snapshot_ = snapshot;
    return snapshot;
}

core::ExitCode Trainer::run() {
    watchdog_ = std::make_unique<Watchdog>(
        communicator_, config_.parallel.ranks_per_node, config_.parallel.stall_timeout_seconds,
        [](const std::string& message) { mpi::abort(core::ExitCode::rank_lost, message); });
    replica_.timer().set_observer(watchdog_.get());
    mpi::together(communicator_, [this] {
        if (communicator_.is_root()) {
            files_ = std::make_unique<RunFiles>(config_);
        }
    });
    restore_or_initialise();
    const std::int64_t first_step = step_;
    if (step_ > 0 && patience_ended()) {
        progress_.line(fmt::format("nothing left to do: {}. Raise training.patience, set it to 0, or use "
                                   "--output.resume=never to start from scratch",
                                   describe_patience()));
        return core::ExitCode::ok;
    }
    if (step_ >= total_steps_ && step_ > 0) {
        progress_.line(fmt::format("nothing left to do: trained for {}. Raise training.epochs, or use "
                                   "--output.resume=never to start from scratch",
                                   train::format_count(epoch_of(step_), "epoch")));
        return core::ExitCode::ok;
    }
    mpi::together(communicator_, [this] {
        if (files_) {
            const RunFiles::Opened opened = files_->open();
            if (opened.aside) {
                progress_.line(fmt::format("moved       files of an earlier run to {}", opened.aside->string()));
            }
            if (opened.displaced_best) {
                progress_.line(fmt::format("moved       {}, which is no checkpoint, to {}",
                                           files_->checkpoints().best_file().string(),
                                           opened.displaced_best->string()));
            }
            if (opened.resolved_config) {
                progress_.line(fmt::format("config      {} has every key of this run; config.ini in that folder stays "
                                           "as it is",
                                           opened.resolved_config->string()));
            }
            restore_best();
        }
    });
    warn_at_start();
    progress_.begin(total_steps_, replica_.sampler().steps_per_epoch(), first_step);

    bool stopped = false;
    try {
        stopped = train();
    } catch (const mpi::AgreedError&) {
        enter(core::Phase::write); // pending files are written before the run ends
        if (log_postponed_) {
            write_log();
        }
        if (unwritten_best_) {
            write_best();
        }
        throw;
    }
    enter(core::Phase::write); // all ranks wait for the disk
    mpi::together(communicator_, [this] {
        if (files_) {
            if (checkpoint_step_ != step_) {
                write_checkpoint();
            }
            if (unwritten_best_) {
                write_best();
            }
            if (!epoch_ended() || total_steps_ == 0 || log_postponed_) {
                write_log();
            }
            files_->wait();
        }
    });
    stopped = stopped && step_ < total_steps_ && !patience_ended();
    report_end(stopped);
    return stopped ? core::ExitCode::stopped : core::ExitCode::ok;
}

bool Trainer::train() {
    const std::int64_t first_step = step_;
    bool stopped = false;
    enter(core::Phase::other);
    replica_.timer().reset();
    last_checkpoint_ = replica_.timer().now();
    while (step_ < total_steps_ && !stopped && !patience_ended()) {
        if (files_ && (epoch_ended() || step_ == first_step)) {
            for (std::vector<float>* column : {&record_.step_cost, &record_.step_accuracy}) {
                const auto steps = static_cast<std::size_t>(replica_.sampler().steps_per_epoch());
                const std::size_t needed = column->size() + steps;
                if (column->capacity() < needed) {
                    column->reserve(std::max(needed, 2 * column->capacity())); // doubling: reserve copies all values
                }
            }
        }
        descent_step();
        if (config_.parallel.check_every > 0 && step_ % config_.parallel.check_every == 0) {
            model::require_equal_replicas(model::fingerprint(replica_.network().layout(), replica_.parameters()), step_,
                                          communicator_);
        }
        stopped = replica_.descent().totals().stop_requests > 0;
        if (epoch_ended()) {
            finish_epoch();
            enter(core::Phase::other);
            replica_.timer().reset();
        }
        due_ = due_ || (files_ && checkpoint_due());
        if (due_ && replica_.descent().is_synchronised()) {
            enter(core::Phase::write);
            write_checkpoint();
            due_ = false;
            enter(core::Phase::other);
        }
    }
    progress_.end();
    replica_.require_finite(step_);
    return stopped;
}

void Trainer::warn_at_start() {
    if (const auto warning = find_crowded_host(communicator_, config_.parallel.threads)) {
        progress_.warn(*warning);
    } else {
        exchange_check_.emplace(replica_.sampler().steps_per_epoch() == 1);
    }
    if (!files_) {
        return;
    }
    for (const std::string& warning : find_unlikely_settings(plan_)) {
        progress_.warn(warning);
    }
    if (!files_->locked()) {
        progress_.warn(fmt::format("{} is on a file system without locks: another run could write to this folder too. "
                                   "Make sure that no other run uses it",
                                   config_.output.directory.string()));
    }
    const std::size_t state_bytes =
        replica_.network().layout().arena_size() * (1 + replica_.states().size()) * sizeof(float);
    if (const auto warning = files_->find_full_disk(state_bytes, replica_.sampler().steps_per_epoch(),
                                                    total_steps_ - step_, communicator_.size())) {
        progress_.warn(*warning);
    }
}

std::string Trainer::describe_patience() const {
    return fmt::format("no better {} accuracy in {} after epoch {}, see training.patience", choosing_set(),
                       train::format_count(config_.training.patience, "epoch"), best_.epoch);
}

void Trainer::report_end(bool stopped) {
    if (!files_) {
        return;
    }
    const std::string checkpoint = files_->checkpoints().file(step_).string();
    if (files_->dropped_checkpoints() > 0) {
        progress_.warn(
            fmt::format("{} dropped: checkpoints were produced faster than the disk could write them",
                        train::format_count(static_cast<std::int64_t>(files_->dropped_checkpoints()), "checkpoint")));
    }
    if (stopped) {
        progress_.line(fmt::format("stopped on request after step {} of {}; to resume, run the same command again{}\n"
                                   "checkpoint  {}",
                                   step_, total_steps_, config_.output.resume ? "" : " with --output.resume=auto",
                                   checkpoint));
        return;
    }
    if (step_ < total_steps_) {
        progress_.line(fmt::format("ended early {}", describe_patience()));
    }
    // The test accuracy at the best validation epoch can be published. The best test accuracy could not.
    const auto report = [&](std::string_view set, const std::vector<double>& accuracy) {
        if (!accuracy.empty()) {
            progress_.line(fmt::format("{:<11} accuracy {:.2f} % ({}{:.2f} % after epoch {})", set,
                                       100 * accuracy.back(), set == choosing_set() ? "best " : "",
                                       100 * accuracy[static_cast<std::size_t>(best_.epoch - 1)], best_.epoch));
        }
    };
    report("validation", record_.epochs.validation_accuracy);
    report("test", record_.epochs.test_accuracy);
    if (record_.epochs.size() > 0) {
        progress_.line(fmt::format(
            "speed       {:.1f} s of training, {:.0f} samples/s, {:.1f} % of the time in the phases wait and reduce",
            run_seconds_, static_cast<double>(run_samples_) / run_seconds_, 100 * exchange_seconds_ / run_seconds_));
        progress_.line(fmt::format("weights     {:016x} (fingerprint)", record_.epochs.fingerprint.back()));
    }
    progress_.line(fmt::format("log         {}\ncheckpoint  {}", files_->log_file().string(), checkpoint));
    if (has_best_file_) {
        progress_.line(fmt::format("best        {} (epoch {}, by {} accuracy)",
                                   files_->checkpoints().best_file().string(), best_.epoch, choosing_set()));
    }
}

} // namespace dtrain::run
