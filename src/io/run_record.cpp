#include "dtrain/io/run_record.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <variant>

namespace dtrain::io {
namespace {

template <class Epochs>
using Column = std::variant<decltype(&Epochs::epoch), decltype(&Epochs::train_cost), decltype(&Epochs::fingerprint)>;

struct NamedColumn {
    const char* path;
    Column<RunRecord::Epochs> member;
    bool is_optional = false; ///< all of these may be missing in a file, and are then empty
};
using Epochs = RunRecord::Epochs;
const std::array<NamedColumn, 12> epoch_columns{{{"/epochs/epoch", &Epochs::epoch},
                                                 {"/epochs/step", &Epochs::step},
                                                 {"/epochs/train_cost", &Epochs::train_cost},
                                                 {"/epochs/train_accuracy", &Epochs::train_accuracy},
                                                 {"/epochs/test_cost", &Epochs::test_cost},
                                                 {"/epochs/test_accuracy", &Epochs::test_accuracy},
                                                 {"/epochs/validation_cost", &Epochs::validation_cost, true},
                                                 {"/epochs/validation_accuracy", &Epochs::validation_accuracy, true},
                                                 {"/epochs/learning_rate", &Epochs::learning_rate},
                                                 {"/epochs/seconds", &Epochs::seconds},
                                                 {"/epochs/samples_per_second", &Epochs::samples_per_second},
                                                 {"/epochs/fingerprint", &Epochs::fingerprint}}};

struct NamedPhase {
    const char* path;
    std::vector<double> RankSeconds::*member;
    double PhaseSeconds::*seconds;
};
constexpr std::array<NamedPhase, 4> phases{{{"/ranks/compute_seconds", &RankSeconds::compute, &PhaseSeconds::compute},
                                            {"/ranks/reduce_seconds", &RankSeconds::reduce, &PhaseSeconds::reduce},
                                            {"/ranks/wait_seconds", &RankSeconds::wait, &PhaseSeconds::wait},
                                            {"/ranks/data_seconds", &RankSeconds::data, &PhaseSeconds::data}}};

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

/// Extends a table of `rows` rows from `from` to `to` columns. New columns have NaN.
std::vector<double> widened(const std::vector<double>& table, std::size_t rows, std::size_t from, std::size_t to) {
    std::vector<double> wide(rows * to, unknown);
    for (std::size_t row = 0; row < rows; ++row) {
        std::copy_n(table.begin() + static_cast<std::ptrdiff_t>(row * from), from,
                    wide.begin() + static_cast<std::ptrdiff_t>(row * to));
    }
    return wide;
}

} // namespace

RunRecord RunRecord::first(std::size_t epoch_count, std::size_t step_count) const {
    RunRecord record = *this;
    record.step_cost.resize(step_count);
    record.step_accuracy.resize(step_count);
    for (const NamedColumn& column : epoch_columns) {
        std::visit(
            [&](auto member) {
                auto& values = record.epochs.*member;
                values.resize(std::min(values.size(), epoch_count));
            },
            column.member);
    }
    return record;
}

void RunRecord::append_to(std::vector<DatasetView>& datasets) const {
    datasets.push_back({"/steps/cost", {step_cost.size()}, std::span<const float>(step_cost)});
    datasets.push_back({"/steps/accuracy", {step_accuracy.size()}, std::span<const float>(step_accuracy)});
    for (const NamedColumn& column : epoch_columns) {
        std::visit(
            [&](auto member) {
                const auto& values = epochs.*member;
                if (column.is_optional && values.empty()) {
                    return;
                }
                datasets.push_back({column.path, {values.size()}, std::span(values)});
            },
            column.member);
    }
}

RunRecord RunRecord::from(const Hdf5Image& file) {
    RunRecord record;
    record.step_cost = file.values<float>("/steps/cost");
    record.step_accuracy = file.values<float>("/steps/accuracy");
    if (record.step_accuracy.size() != record.step_cost.size()) {
        file.fail("the columns of /steps differ in length");
    }
    const bool has_optional = std::ranges::any_of(
        epoch_columns, [&](const NamedColumn& column) { return column.is_optional && file.has(column.path); });
    for (const NamedColumn& column : epoch_columns) {
        if (column.is_optional && !has_optional) {
            continue;
        }
        std::visit(
            [&](auto member) {
                auto& values = record.epochs.*member;
                using T = typename std::remove_reference_t<decltype(values)>::value_type;
                values = file.values<T>(column.path);
                if (values.size() != record.epochs.size()) {
                    file.fail("the columns of /epochs differ in length");
                }
            },
            column.member);
    }
    return record;
}

void RankSeconds::add_epoch(std::span<const PhaseSeconds> ranks_now) {
    const std::size_t width = std::max(ranks, ranks_now.size());
    for (const NamedPhase& phase : phases) {
        std::vector<double>& column = this->*phase.member;
        if (width > ranks) {
            column = widened(column, epochs, ranks, width);
        }
        column.resize((epochs + 1) * width, unknown);
        std::ranges::transform(ranks_now, column.begin() + static_cast<std::ptrdiff_t>(epochs * width), phase.seconds);
    }
    ranks = width;
    ++epochs;
}

void RankSeconds::append_to(std::vector<DatasetView>& datasets) const {
    for (const NamedPhase& phase : phases) {
        datasets.push_back({phase.path, {epochs, ranks}, std::span<const double>(this->*phase.member)});
    }
}

RankSeconds RankSeconds::from(const Hdf5Image& file) {
    RankSeconds seconds;
    const std::vector<std::size_t>& shape = file.shape(phases[0].path);
    if (shape.size() != 2) {
        file.fail("the datasets of /ranks are not tables (epochs x ranks)");
    }
    seconds.epochs = shape[0];
    seconds.ranks = shape[0] == 0 ? 0 : shape[1]; // without rows, nothing in the file confirms the number of columns
    for (const NamedPhase& phase : phases) {
        seconds.*phase.member = file.values<double>(phase.path);
        if ((seconds.*phase.member).size() != shape[0] * shape[1]) {
            file.fail("the datasets of /ranks differ in shape");
        }
    }
    return seconds;
}

void RankSeconds::resize(std::size_t rows) {
    epochs = rows;
    for (const NamedPhase& phase : phases) {
        (this->*phase.member).resize(rows * ranks, unknown);
    }
}

} // namespace dtrain::io
