// Writes files as dtrain writes them today, as the first inputs for fuzzing: seeds FOLDER.

#include "dtrain/config/config.hpp"
#include "dtrain/core/hash.hpp"
#include "dtrain/io/checkpoint.hpp"
#include "dtrain/io/hdf5.hpp"
#include "dtrain/io/run_record.hpp"

#include "support/gzip.hpp"
#include "support/idx_files.hpp"
#include "support/sealed.hpp"
#include "support/temporary_folder.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <regex>
#include <span>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace dtrain;

std::string pair(const std::string& labels, const std::string& images) {
    return std::string{static_cast<char>(labels.size() / 256), static_cast<char>(labels.size() % 256)} + labels +
           images;
}

void write_idx(const std::filesystem::path& folder) {
    const std::string labels = support::idx({3}, "\x01\x09\x02");
    const std::string images = support::idx({3, 2, 2}, "twelve bytes");
    support::write_file(folder / "plain", pair(labels, images));
    support::write_file(folder / "gzip", pair(support::gzip(labels), support::gzip(images)));
    support::write_file(folder / "unlabelled", pair("", support::idx({3, 4}, "twelve bytes")));
    const std::string floats = support::idx({3, 1, 2}, support::big_endian({1, -2, 0.5F, 1e30F, 0, 1e-40F}), 0x0d);
    support::write_file(folder / "floats", pair(labels, floats));
    support::write_file(folder / "floats-gzip", pair(support::gzip(labels), support::gzip(floats)));
    support::write_file(folder / "unlabelled-gzip", pair("", support::gzip(images)));
}

io::RunRecord record_of(std::size_t epochs, std::size_t steps) {
    io::RunRecord record;
    record.step_cost.assign(steps, 0.5F);
    record.step_accuracy.assign(steps, 0.75F);
    io::RunRecord::Epochs& columns = record.epochs;
    columns.epoch.assign(epochs, 1);
    columns.step.assign(epochs, 2);
    for (std::vector<double>* column :
         {&columns.train_cost, &columns.train_accuracy, &columns.test_cost, &columns.test_accuracy,
          &columns.learning_rate, &columns.seconds, &columns.samples_per_second}) {
        column->assign(epochs, 0.25);
    }
    columns.fingerprint.assign(epochs, 42);
    return record;
}

/// The index of a file. The target appends the data; each dataset's only piece has the digest of that data.
std::string index_of(const std::vector<std::byte>& file) {
    const std::string contents = support::contents_of(file);
    std::istringstream lines{std::string(support::index_in(contents))};
    const std::regex piece(R"((dataset \S+ \S+ \S+ (\d+) \d+ )[0-9a-f]{32})");
    std::string index;
    for (std::string line; std::getline(lines, line);) {
        if (std::smatch words; std::regex_match(line, words, piece)) {
            const std::string data(std::stoul(words[2]), '?');
            line = words[1].str() + core::hash128(std::as_bytes(std::span(data)));
        }
        index += (line.starts_with("bytes ") ? "bytes 1000" : line) + "\n";
    }
    return index;
}

/// Writes an index in today's format and in the previous one, without digests of pieces.
void write_indices(const std::filesystem::path& file, const std::string& index) {
    support::write_file(file, index);
    support::write_file(file.string() + "-2", std::regex_replace(index, std::regex(" [0-9a-f]{32}\n"), "\n"));
}

std::string checkpoint(const std::string& config, std::size_t epochs, std::size_t steps) {
    std::vector<float> values{1, 2, 3, 4};
    const std::vector<io::TensorView> tensors{{"/model/01_dense/weight", {2, 2}, values},
                                              {"/model/01_dense/bias", {2}, std::span(values).first(2)},
                                              {"/model/02_dense/weight", {1, 2}, std::span(values).first(2)},
                                              {"/model/02_dense/bias", {1}, std::span(values).first(1)}};
    io::CheckpointInfo info;
    info.epoch = static_cast<std::int64_t>(epochs);
    info.step = static_cast<std::int64_t>(steps);
    info.logical_shards = 8;
    info.fingerprint = 42;
    info.config = config;
    info.dataset = "MNIST";
    info.sample_shape = {1, 2};
    info.record = record_of(epochs, steps);
    return index_of(io::encode_checkpoint(info, tensors));
}

std::string log(std::size_t epochs) {
    io::RankSeconds seconds;
    for (std::size_t epoch = 0; epoch < epochs; ++epoch) {
        seconds.add_epoch(std::vector<io::PhaseSeconds>(2, {1, 2, 3, 4}));
    }
    std::vector<io::DatasetView> datasets;
    seconds.append_to(datasets);
    return index_of(io::to_hdf5(datasets, {{"ranks", std::int64_t{2}}, {"config", std::string("[data]\n")}}));
}

void write_checkpoints(const std::filesystem::path& folder) {
    const std::string ini = "[model]\nlayers = dense 2 sigmoid, dense 1\n";
    write_indices(folder / "checkpoint", checkpoint(ini, 2, 5));
    write_indices(folder / "checkpoint-begun", checkpoint(ini, 0, 0));
    // Without epochs, because the target's data does not number them.
    write_indices(folder / "checkpoint-resolved", checkpoint(config::parse(ini, "seed").resolved(), 0, 5));
    write_indices(folder / "log", log(2));
    write_indices(folder / "log-begun", log(0));
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        return 2;
    }
    const std::filesystem::path folder = argv[1];
    std::filesystem::create_directories(folder / "idx");
    std::filesystem::create_directories(folder / "checkpoint");
    write_idx(folder / "idx");
    write_checkpoints(folder / "checkpoint");
    return 0;
}
