// Writes what dtrain itself writes today, as inputs from which fuzzing sets out: seeds FOLDER.

#include "dtrain/config/config.hpp"
#include "dtrain/io/checkpoint.hpp"
#include "dtrain/io/file.hpp"
#include "dtrain/io/hdf5.hpp"
#include "dtrain/io/run_record.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace dtrain;

io::RunRecord record_of(std::size_t epochs, std::size_t steps) {
    io::RunRecord record;
    record.step_cost.assign(steps, 0.5F);
    io::RunRecord::Epochs& columns = record.epochs;
    columns.epoch.assign(epochs, 1);
    columns.step.assign(epochs, 2);
    for (std::vector<double>* column : {&columns.train_cost, &columns.test_cost, &columns.test_accuracy,
                                        &columns.learning_rate, &columns.seconds, &columns.samples_per_second}) {
        column->assign(epochs, 0.25);
    }
    columns.fingerprint.assign(epochs, 42);
    return record;
}

std::vector<std::byte> checkpoint(std::size_t epochs, std::size_t steps) {
    const config::Config config = config::parse("[model]\nlayers = dense 2 sigmoid, dense 2 sigmoid\n", "seed");
    std::vector<float> weight{1, 2, 3, 4};
    std::vector<float> bias{5, 6};
    std::vector<io::TensorView> tensors;
    for (const std::string folder : {"/model/", "/optimizer/momentum/"}) {
        for (const std::string layer : {"01_dense", "02_dense"}) {
            tensors.push_back({folder + layer + "/weight", {2, 2}, weight});
            tensors.push_back({folder + layer + "/bias", {2}, bias});
        }
    }
    io::CheckpointInfo info;
    info.epoch = static_cast<std::int64_t>(epochs);
    info.step = static_cast<std::int64_t>(steps);
    info.logical_shards = 8;
    info.fingerprint = 42;
    info.config = config.resolved();
    info.dataset = "MNIST";
    info.sample_shape = {1, 2};
    info.record = record_of(epochs, steps);
    return io::encode_checkpoint(info, tensors);
}

std::vector<std::byte> log(std::size_t epochs) {
    const io::RunRecord record = record_of(epochs, 2 * epochs);
    io::RankSeconds seconds;
    for (std::size_t epoch = 0; epoch < epochs; ++epoch) {
        seconds.add_epoch(2, {1, 2}, {1, 2}, {1, 2});
    }
    std::vector<io::DatasetView> datasets;
    record.append_to(datasets);
    seconds.append_to(datasets);
    return io::to_hdf5(datasets, {{"ranks", std::int64_t{2}}, {"config", std::string("[data]\n")}});
}

/// The smallest files: most mutations of them hit something that counts.
std::vector<std::byte> tiny(std::size_t rows, std::size_t columns) {
    const std::vector<double> values(rows * columns, 1.5);
    const std::vector<io::DatasetView> datasets{
        {"/ranks/compute_seconds", {rows, columns}, std::span<const double>(values)}};
    return io::to_hdf5(datasets, {{"epoch", std::int64_t{1}}, {"config", std::string("text")}});
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        return 2;
    }
    const std::filesystem::path folder = argv[1];
    io::replace_file(folder / "checkpoint-0.h5", checkpoint(0, 0));
    io::replace_file(folder / "checkpoint-2.h5", checkpoint(2, 5));
    io::replace_file(folder / "log-0.h5", log(0));
    io::replace_file(folder / "log-2.h5", log(2));
    io::replace_file(folder / "tiny-0.h5", tiny(0, 0));
    io::replace_file(folder / "tiny-6.h5", tiny(3, 2));
    return 0;
}
