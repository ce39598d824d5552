#include "dtrain/io/checkpoint.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/core/number.hpp"
#include "dtrain/io/file.hpp"
#include "dtrain/io/file_kind.hpp"

#include "hdf5_format.hpp"
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string_view>
#include <system_error>

namespace dtrain::io {
namespace {

constexpr std::int64_t format_version = 4;
constexpr std::int64_t oldest_version = 3;
constexpr std::string_view prefix = "step-";
constexpr std::string_view suffix = ".h5";
constexpr const char* best_name = "best.h5";

constexpr std::size_t affixes = prefix.size() + suffix.size();

std::string name_of(std::int64_t step) {
    return fmt::format("{}{:08}{}", prefix, step, suffix);
}

std::optional<std::int64_t> step_of(std::string_view name) {
    if (name.size() < affixes || !name.starts_with(prefix) || !name.ends_with(suffix)) {
        return std::nullopt;
    }
    const auto step = core::parse_number<std::int64_t>(name.substr(prefix.size(), name.size() - affixes));
    return step && *step >= 0 && name == name_of(*step) ? step : std::nullopt;
}

/// Parses positive sizes separated by single blanks. Empty if the text has another form or if the product overflows.
std::vector<std::size_t> parse_shape(std::string_view text) {
    std::vector<std::size_t> shape;
    std::size_t product = 1;
    for (const std::string_view word : split(text, ' ')) {
        const std::size_t size = core::parse_number<std::size_t>(word).value_or(0);
        if (size == 0 || __builtin_mul_overflow(product, size, &product)) {
            return {};
        }
        shape.push_back(size);
    }
    return shape;
}

std::vector<std::string> names_in(const std::filesystem::path& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error)) {
        names.push_back(entry->path().filename().string());
    }
    // If a folder that cannot be listed counted as empty, training would start from scratch.
    if (error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory) {
        throw core::Error(core::ExitCode::bad_checkpoint,
                          fmt::format("cannot list {}: {}", folder.string(), error.message()));
    }
    return names;
}

} // namespace

std::vector<std::byte> encode_checkpoint(const CheckpointInfo& info, std::span<const TensorView> tensors) {
    std::vector<DatasetView> datasets;
    for (const TensorView& tensor : tensors) {
        datasets.push_back({tensor.path, tensor.shape, std::span<const float>(tensor.values)});
    }
    info.record.append_to(datasets);
    return to_hdf5(datasets, {{"format_version", format_version},
                              {"dtrain_version", std::string(DTRAIN_VERSION)},
                              {"epoch", info.epoch},
                              {"step", info.step},
                              {"seed", info.seed},
                              {"logical_shards", info.logical_shards},
                              {"fingerprint", fmt::format("{:016x}", info.fingerprint)},
                              {"config", info.config},
                              {"dataset", info.dataset},
                              {"sample_shape", fmt::format("{}", fmt::join(info.sample_shape, " "))},
                              {"rounding", info.rounding}});
}

Checkpoint::Checkpoint(const std::filesystem::path& file) : name_(file.string()), file_(read_file(file), name_) {
    if (const std::int64_t version = file_.integer("format_version");
        version < oldest_version || version > format_version) {
        fail(fmt::format("the file has format version {}, but this program reads only versions {} and {}", version,
                         oldest_version, format_version));
    }
    info_.epoch = file_.integer("epoch");
    info_.step = file_.integer("step");
    info_.seed = file_.unsigned_integer("seed");
    info_.logical_shards = file_.integer("logical_shards");
    const auto fingerprint = core::parse_number<std::uint64_t>(file_.text("fingerprint"), 16);
    if (!fingerprint) {
        file_.fail("attribute fingerprint is not a hexadecimal number");
    }
    info_.fingerprint = *fingerprint;
    info_.config = file_.text("config");
    info_.dataset = file_.text("dataset");
    info_.sample_shape = parse_shape(file_.text("sample_shape"));
    if (info_.sample_shape.empty()) {
        file_.fail("attribute sample_shape is not a shape");
    }
    if (file_.has_attribute("rounding")) {
        info_.rounding = file_.text("rounding");
    }
    info_.record = RunRecord::from(file_);
    if (info_.epoch < 0 || static_cast<std::size_t>(info_.epoch) != info_.record.epochs.size() || info_.step < 0 ||
        static_cast<std::size_t>(info_.step) != info_.record.step_cost.size()) {
        file_.fail("the numbers of epochs and steps do not match the lengths of the cost columns");
    }
    for (std::int64_t i = 0; i < info_.epoch; ++i) { // others use these numbers as indices
        if (info_.record.epochs.epoch[static_cast<std::size_t>(i)] != i + 1) {
            file_.fail("the epochs are not numbered 1, 2, 3, ...");
        }
    }
}

void Checkpoint::fail(const std::string& problem) const {
    throw core::Error(core::ExitCode::bad_checkpoint, fmt::format("{}: {}", name_, problem));
}

void Checkpoint::require(const std::string& path, const std::vector<std::size_t>& shape) const {
    if (!file_.has(path)) {
        fail(fmt::format("{} is missing", path));
    }
    if (const auto& stored = file_.shape(path); stored != shape) {
        fail(fmt::format("{} has shape {}, expected {}", path, fmt::join(stored, " x "), fmt::join(shape, " x ")));
    }
}

void Checkpoint::read(std::span<const TensorView> tensors) const {
    for (const TensorView& tensor : tensors) {
        require(tensor.path, tensor.shape);
        file_.read(tensor.path, tensor.values);
    }
}

std::filesystem::path CheckpointFolder::file(std::int64_t step) const {
    return folder_ / name_of(step);
}

std::filesystem::path CheckpointFolder::best_file() const {
    return folder_ / best_name;
}

std::vector<std::int64_t> CheckpointFolder::steps() const {
    std::vector<std::int64_t> found;
    for (const std::string& name : names_in(folder_)) {
        if (const auto step = step_of(name)) {
            found.push_back(*step);
        }
    }
    std::ranges::sort(found, std::greater<>());
    return found;
}

void CheckpointFolder::prune(std::size_t keep) const {
    const std::vector<std::int64_t> found = steps();
    for (std::size_t i = keep; i < found.size(); ++i) {
        std::error_code ignored; // a file that cannot be removed does not prevent training
        std::filesystem::remove(file(found[i]), ignored);
    }
}

void CheckpointFolder::sweep() const {
    for (const std::string& name : names_in(folder_)) {
        const auto step = step_of(std::string_view(name).substr(0, name.rfind('.')));
        if ((step && name == temporary_of(name_of(*step))) || name == temporary_of(best_name)) {
            std::error_code ignored;
            std::filesystem::remove(folder_ / name, ignored);
        }
    }
}

std::filesystem::path CheckpointFolder::name_if_damaged(const std::filesystem::path& file) {
    std::filesystem::path name = file;
    name += ".damaged";
    const std::filesystem::path first = name;
    for (int number = 2; std::filesystem::exists(std::filesystem::symlink_status(name)); ++number) {
        name = first;
        name += fmt::format("-{}", number);
    }
    return name;
}

Checkpoint open_checkpoint(std::filesystem::path& path, const std::function<void(std::string_view)>& warn) {
    std::error_code unknown; // ignored: opening the file reports errors, for example a name that is too long
    if (!std::filesystem::is_directory(path, unknown)) {
        if (const auto kind = kind_of(path); kind && kind != FileKind::checkpoint) {
            throw core::Error(core::ExitCode::bad_checkpoint,
                              fmt::format("{}: is {}; expected a checkpoint or the output folder of a run",
                                          path.string(), to_string(*kind)));
        }
        return Checkpoint(path);
    }
    for (const std::filesystem::path& folder : {path / "checkpoints", path}) {
        const CheckpointFolder checkpoints(folder);
        const auto pass_over = [&](const core::Error& error) {
            warn(fmt::format("{}; trying an older checkpoint", error.what()));
        };
        for (const std::int64_t step : checkpoints.steps()) {
            try {
                Checkpoint checkpoint(checkpoints.file(step));
                path = checkpoints.file(step);
                return checkpoint;
            } catch (const DamagedFile& error) {
                pass_over(error);
            } catch (const UnreadableFile& error) {
                pass_over(error);
            }
        }
    }
    throw core::Error(core::ExitCode::bad_checkpoint,
                      fmt::format("{}: no valid checkpoint in this folder", path.string()));
}

} // namespace dtrain::io
