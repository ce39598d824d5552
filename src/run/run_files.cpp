#include "dtrain/run/run_files.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/io/file.hpp"
#include "dtrain/io/file_kind.hpp"
#include "dtrain/model/saved_network.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <system_error>
#include <utility>

namespace dtrain::run {
namespace {

constexpr std::int64_t log_format_version = 4;
constexpr const char* log_name = "log.h5";
/// Names for the resolved config. It is written to the first one that may be replaced.
constexpr std::array<const char*, 2> config_names{"config.ini", "config-resolved.ini"};
constexpr std::string_view resolved_heading = "# Written by dtrain: every key of the run in this folder.\n";

/// Lines of the resolved config of the first version: 26 keys in 6 sections, with an empty line between sections.
constexpr std::size_t min_config_lines = 26 + 2 * 6 - 1;

/// The text of a file; empty if it cannot be read.
std::string text_of(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

/// Whether dtrain wrote the file. Early versions wrote no heading, and wrote each of their keys, which were fewer, on a
/// line.
bool is_resolved_config(const std::filesystem::path& file) {
    const std::string text = text_of(file);
    if (text.starts_with(resolved_heading)) {
        return true;
    }
    try {
        std::istringstream now(config::parse_resolved(text, file.string()).resolved());
        std::istringstream then(text);
        std::size_t lines = 0;
        for (std::string line, candidate; std::getline(then, line); ++lines) {
            do {
                if (!std::getline(now, candidate)) {
                    return false;
                }
            } while (candidate != line);
        }
        return lines >= min_config_lines;
    } catch (const core::Error&) {
        return false;
    }
}

/// Throws core::Error (bad_checkpoint) if a key on which the results depend differs from `before`, the checkpoint's
/// config.
void require_same_run(const config::Config& config, const config::Config& before, const std::string& dataset,
                      const io::Checkpoint& checkpoint) {
    const auto require = [&](const char* key, const auto& then, const auto& now) {
        if (then != now) {
            checkpoint.fail(
                fmt::format("cannot resume: the checkpoint has {} = {}, the config has {}. Restore the value, "
                            "use another output.directory, or start over with --output.resume=never",
                            key, then, now));
        }
    };
    require("[model] layers", before.model.layers, config.model.layers);
    require("[model] cost", before.model.cost, config.model.cost);
    require("[model] seed", before.model.seed, config.model.seed);
    require("[data] train_samples", before.data.train_samples, config.data.train_samples);
    require("[data] validation_samples", before.data.validation_samples, config.data.validation_samples);
    require("[training] batch_size", before.training.batch_size, config.training.batch_size);
    require("[training] optimizer", before.training.optimizer, config.training.optimizer);
    require("[parallel] logical_shards", before.parallel.logical_shards, config.parallel.logical_shards);
    require("data set", checkpoint.info().dataset, dataset);
    const io::RunRecord::Epochs& epochs = checkpoint.info().record.epochs;
    if (config.data.validation_samples > 0 && epochs.validation_accuracy.size() != epochs.size()) {
        checkpoint.fail("the scores of the validation set are missing");
    }
}

void move(const std::filesystem::path& from, const std::filesystem::path& to) {
    std::error_code error;
    std::filesystem::rename(from, to, error);
    if (error) {
        throw core::Error(core::ExitCode::bad_output,
                          fmt::format("cannot rename {} to {}: {}", from.string(), to.string(), error.message()));
    }
}

/// Moves the files of an earlier run to another folder, so that starting from scratch loses nothing. Files first go
/// into the folder of checkpoints: if this is interrupted, the next start replaces none of them.
std::filesystem::path set_aside(const std::filesystem::path& checkpoints,
                                const std::vector<std::filesystem::path>& files) {
    io::create_writable_folder(checkpoints);
    for (const std::filesystem::path& file : files) {
        if (std::filesystem::exists(file)) {
            move(file, checkpoints / file.filename());
        }
    }
    for (int number = 1;; ++number) {
        std::filesystem::path aside = checkpoints;
        aside += fmt::format("-before-{}", number);
        if (!std::filesystem::exists(aside)) {
            move(checkpoints, aside);
            return aside;
        }
    }
}

} // namespace

RunFiles::RunFiles(const config::Config& config)
    : config_(config), folder_(config.output.directory / "checkpoints"),
      created_(fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                           fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())))) {
    if (std::filesystem::is_directory(config.output.directory)) {
        output_.emplace(config.output.directory).lock();
    }
    if (std::filesystem::exists(log_file()) && io::kind_of(log_file()) != io::FileKind::log) {
        throw core::Error(
            core::ExitCode::bad_output,
            fmt::format("{} was not written by dtrain, and the log of this run would replace it. Move it, or choose "
                        "another output.directory",
                        log_file().string()));
    }
}

std::size_t RunFiles::max_kept(const config::Config& config) {
    const int keep = config.output.keep_checkpoints;
    return keep == 0 ? std::numeric_limits<std::size_t>::max() : static_cast<std::size_t>(keep);
}

std::filesystem::path RunFiles::log_file() const {
    return config_.output.directory / log_name;
}

std::optional<io::Checkpoint> RunFiles::newest(const std::string& dataset,
                                               const std::function<void(std::string_view)>& warn) {
    if (!config_.output.resume) {
        return std::nullopt;
    }
    const auto resumable = [&](const std::filesystem::path& file) {
        std::optional<io::Checkpoint> checkpoint(std::in_place, file);
        const config::Config before = model::config_of(*checkpoint);
        require_same_run(config_, before, dataset, *checkpoint);
        config_ = config_.with("model.initial", before);
        return checkpoint;
    };
    for (const std::int64_t step : folder_.steps()) {
        const auto skip = [&](const core::Error& error) {
            warn(fmt::format("{}; trying an older checkpoint. If one is valid, this file is renamed to {}",
                             error.what(),
                             io::CheckpointFolder::name_if_damaged(folder_.file(step)).filename().string()));
            damaged_.push_back(step);
        };
        try {
            std::optional<io::Checkpoint> checkpoint = resumable(folder_.file(step));
            if (checkpoint->info().step != step) {
                throw io::DamagedFile(fmt::format("{}: contains step {}, which does not match its name",
                                                  folder_.file(step).string(), checkpoint->info().step));
            }
            return checkpoint;
        } catch (const io::DamagedFile& error) {
            skip(error);
        } catch (const io::UnreadableFile& error) {
            skip(error);
        }
    }
    if (io::kind_of(folder_.best_file()) == io::FileKind::checkpoint) {
        try { // the user removed the others, or the run was killed before it wrote one
            return resumable(folder_.best_file());
        } catch (const io::DamagedFile& error) {
            warn(error.what());
        } catch (const io::UnreadableFile& error) {
            warn(error.what());
        }
    }
    if (!damaged_.empty()) {
        throw core::Error(
            core::ExitCode::bad_checkpoint,
            fmt::format("{}: no valid checkpoint is left. Use --output.resume=never to start from scratch",
                        folder_.path().string()));
    }
    return std::nullopt;
}

RunFiles::Opened RunFiles::open() {
    Opened opened;
    const char* const config_name = place_of_resolved_config(); // may throw, so it comes before any change
    io::create_writable_folder(config_.output.directory);
    if (!output_) {
        output_.emplace(config_.output.directory).lock();
    }
    for (const char* name : {log_name, config_names[0], config_names[1]}) {
        std::error_code ignored;
        std::filesystem::remove(io::temporary_of(config_.output.directory / name), ignored);
    }
    folder_.sweep();
    if (!config_.output.resume && (!folder_.steps().empty() || std::filesystem::exists(log_file()) ||
                                   std::filesystem::exists(folder_.best_file()))) {
        std::vector<std::filesystem::path> files{log_file()};
        for (const char* name : config_names) {
            if (is_resolved_config(config_.output.directory / name) && !is_config_read(name)) {
                files.push_back(config_.output.directory / name);
            }
        }
        opened.aside = set_aside(folder_.path(), files);
    }
    io::create_writable_folder(folder_.path());
    for (const std::int64_t step : damaged_) {
        move(folder_.file(step), io::CheckpointFolder::name_if_damaged(folder_.file(step)));
    }
    if (config_.output.keep_best && std::filesystem::exists(folder_.best_file()) &&
        io::kind_of(folder_.best_file()) != io::FileKind::checkpoint) {
        opened.displaced_best = io::CheckpointFolder::name_if_damaged(folder_.best_file());
        move(folder_.best_file(), *opened.displaced_best);
    }
    checkpoint_output_.emplace(folder_.path());
    if (!is_config_read(config_name)) {
        const std::string text = resolved_config();
        output_->replace_file(config_name, std::as_bytes(std::span(text)));
    }
    if (config_name != config_names[0]) {
        opened.resolved_config = config_.output.directory / config_name;
    }
    if (config_.output.resume && std::filesystem::exists(log_file())) {
        try {
            rank_seconds_ = io::RankSeconds::from(io::Hdf5Image(io::read_file(log_file()), log_file().string()));
        } catch (const core::Error&) {
            rank_seconds_ = {}; // the times of earlier epochs are lost; the checkpoint has everything else
        }
    }
    writer_.emplace();
    return opened;
}

bool RunFiles::is_config_read(const char* name) const {
    std::error_code unknown;
    return std::filesystem::equivalent(config_.output.directory / name, config_.file(), unknown);
}

std::string RunFiles::resolved_config() const {
    return std::string(resolved_heading) + config_.resolved();
}

const char* RunFiles::place_of_resolved_config() const {
    for (const char* name : config_names) {
        const std::filesystem::path file = config_.output.directory / name;
        if (is_config_read(name)
                ? text_of(file) == resolved_config()
                : !std::filesystem::exists(std::filesystem::symlink_status(file)) || is_resolved_config(file)) {
            return name;
        }
    }
    throw core::Error(
        core::ExitCode::bad_output,
        fmt::format("{} has {} and {}, and the resolved config may replace neither of them: dtrain did not write them, "
                    "or one is the config of this run. Choose another output.directory",
                    config_.output.directory.string(), config_names[0], config_names[1]));
}

void RunFiles::add_rank_seconds(std::span<const io::PhaseSeconds> ranks, std::size_t earlier_epochs) {
    rank_seconds_.resize(earlier_epochs);
    rank_seconds_.add_epoch(ranks);
}

void RunFiles::write_log(const LogHeader& header, std::shared_ptr<const io::RunRecord> record) {
    io::Attributes attributes{{"format_version", log_format_version},
                              {"dtrain_version", std::string(DTRAIN_VERSION)},
                              {"created", created_},
                              {"ranks", header.ranks},
                              {"nodes", header.nodes},
                              {"parameters", header.parameters},
                              {"dataset", header.dataset},
                              {"reducer", header.reducer},
                              {"arithmetic", header.arithmetic},
                              {"config", config_.resolved()}};
    writer_->submit(
        BackgroundWriter::Lane::log,
        [this, attributes = std::move(attributes), record = std::move(record), seconds = rank_seconds_] {
            std::vector<io::DatasetView> datasets;
            record->append_to(datasets);
            seconds.append_to(datasets);
            output_->replace_file(log_name, io::to_hdf5(datasets, attributes));
        },
        1);
}

std::optional<std::string> RunFiles::find_full_disk(std::size_t state_bytes, std::int64_t steps_per_epoch,
                                                    std::int64_t steps_left, int ranks) const {
    const config::Interval& every = config_.output.checkpoint_every;
    std::int64_t to_come = 1; // the checkpoint at the end
    if (every.unit != config::Interval::Unit::seconds) {
        to_come += steps_left / every.count / (every.unit == config::Interval::Unit::epochs ? steps_per_epoch : 1);
    }
    double here = 0;
    try {
        here = static_cast<double>(folder_.steps().size());
    } catch (const core::Error&) {
        return std::nullopt; // a warning is not worth an error
    }
    // One more than are kept, as the oldest is removed only after the newest is complete.
    const double more = std::min(static_cast<double>(to_come), static_cast<double>(max_kept(config_)) + 1 - here) +
                        (config_.output.keep_best && !std::filesystem::exists(folder_.best_file()) ? 1 : 0);
    // Sizes at the end of the run: a row of the record per step and epoch. HDF5 adds about 2 kB per dataset.
    constexpr double hdf5_bytes = 40'000;
    const auto epochs = static_cast<double>(config_.training.epochs);
    const double record = 8 * epochs * static_cast<double>(steps_per_epoch) + 80 * epochs + hdf5_bytes;
    const double needed =
        std::max(more, 1.0) * (static_cast<double>(state_bytes) + record) + 2 * (record + 32 * epochs * ranks);
    const auto free = output_->free_bytes();
    if (!free || static_cast<double>(*free) >= needed) {
        return std::nullopt;
    }
    return fmt::format(
        "{} has {:.1f} MB free, and the files of this run need up to {:.1f} MB more: the run will end when "
        "the disk is full. Free some space, choose another output.directory, or lower "
        "output.keep_checkpoints",
        config_.output.directory.string(), static_cast<double>(*free) / 1e6, needed / 1e6);
}

std::size_t RunFiles::max_waiting(const config::Config& config, std::size_t bytes) {
    constexpr std::size_t memory_bytes = 16 << 20;
    return std::clamp<std::size_t>(memory_bytes / std::max<std::size_t>(bytes, 1), 1, max_kept(config));
}

std::function<std::size_t(std::size_t bytes)> RunFiles::writing_bytes(const config::Config& config) {
    return [&config](std::size_t bytes) {
        const std::size_t best = config.output.keep_best ? 1 : 0; // waits for a better time, then for the disk
        return bytes * (3 + max_waiting(config, bytes) + best);
    };
}

void RunFiles::write_checkpoint(std::shared_ptr<const Snapshot> snapshot, std::shared_ptr<const io::RunRecord> record) {
    const std::size_t waiting =
        max_waiting(config_, (snapshot->values.size() + 2 * record->step_cost.size()) * sizeof(float));
    {
        const std::lock_guard lock(best_mutex_);
        best_is_counted_ = true;
    }
    const std::size_t dropped = writer_->submit(
        BackgroundWriter::Lane::checkpoint,
        [this, snapshot = std::move(snapshot), record = std::move(record)] {
            write_waiting_best();
            io::CheckpointInfo info = snapshot->info;
            info.record = *record;
            output_->require_in_place();
            checkpoint_output_->replace_file(folder_.file(info.step).filename(),
                                             io::encode_checkpoint(info, snapshot->tensors));
            folder_.prune(max_kept(config_));
        },
        waiting);
    if (waiting < max_kept(config_)) {
        dropped_checkpoints_ += dropped;
    }
}

std::function<void()> RunFiles::writer_of_best(std::shared_ptr<const Snapshot> snapshot,
                                               std::shared_ptr<const io::RunRecord> record) {
    return [this, snapshot = std::move(snapshot), record = std::move(record)] {
        io::CheckpointInfo info = snapshot->info;
        info.record = record->first(static_cast<std::size_t>(info.epoch), static_cast<std::size_t>(info.step));
        output_->require_in_place();
        checkpoint_output_->replace_file(folder_.best_file().filename(),
                                         io::encode_checkpoint(info, snapshot->tensors));
    };
}

void RunFiles::write_best(std::shared_ptr<const Snapshot> snapshot, std::shared_ptr<const io::RunRecord> record) {
    {
        const std::lock_guard lock(best_mutex_);
        waiting_best_ = writer_of_best(std::move(snapshot), std::move(record));
        best_is_counted_ = false;
    }
    writer_->submit(
        BackgroundWriter::Lane::best, [this] { write_waiting_best(); }, 1);
}

bool RunFiles::replace_waiting_best(const std::function<SnapshotAndRecord()>& take) {
    const std::lock_guard lock(best_mutex_); // the writer waits here, before it writes the checkpoint
    if (!std::exchange(waiting_best_, nullptr) || !best_is_counted_) {
        return false;
    }
    auto [snapshot, record] = take();
    waiting_best_ = writer_of_best(std::move(snapshot), std::move(record));
    return true;
}

void RunFiles::write_waiting_best() {
    std::function<void()> write;
    {
        const std::lock_guard lock(best_mutex_);
        write = std::exchange(waiting_best_, nullptr);
    }
    if (write) {
        write();
    }
}

bool RunFiles::restore_best(std::int64_t step, std::uint64_t fingerprint) {
    const auto is_best = [&](const std::filesystem::path& file) {
        try {
            const io::Checkpoint checkpoint(file);
            return checkpoint.info().step == step && checkpoint.info().fingerprint == fingerprint;
        } catch (const core::Error&) {
            return false;
        }
    };
    if (is_best(folder_.best_file())) {
        return true;
    }
    if (!is_best(folder_.file(step))) {
        return false;
    }
    checkpoint_output_->replace_file(folder_.best_file().filename(), io::read_file(folder_.file(step)));
    return true;
}

} // namespace dtrain::run
