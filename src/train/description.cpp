#include "dtrain/train/description.hpp"

#include "dtrain/core/hash.hpp"
#include "dtrain/core/memory.hpp"
#include "dtrain/model/evaluator.hpp"
#include "dtrain/model/fingerprint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <span>
#include <vector>

namespace dtrain::train {
namespace {

std::string megabytes(std::size_t bytes) {
    return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

/// Collective.
void touch_shared_memory(const Replica& replica) {
    parallel::GradientReducer& reducer = replica.reducer();
    reducer.arrive();
    reducer.combine();
    for (core::Range left = reducer.slice(); !left.empty();) {
        left.begin = reducer.sum_block(left.begin).range.end;
    }
    reducer.publish();
    (void)core::hash128(std::as_bytes(reducer.parameters()));
    if (replica.config().parallel.sync_every > 1) { // whose states are among the parameters
        return;
    }
    const core::Range slice = reducer.slice();
    for (const std::span<float> state : replica.states()) {
        (void)core::hash128(std::as_bytes(state).subspan(static_cast<std::size_t>(slice.begin) * sizeof(float),
                                                         static_cast<std::size_t>(slice.size()) * sizeof(float)));
    }
}

} // namespace

std::string count_of(std::int64_t number, std::string_view what) {
    return fmt::format("{} {}{}", number, what, number == 1 ? "" : "s");
}

std::string describe(const Replica& replica) {
    const config::Config& config = replica.config();
    const nn::Network<float>& network = replica.network();
    const data::Dataset& dataset = replica.dataset();
    std::string text = fmt::format("dtrain {}\n", DTRAIN_VERSION);
    auto out = std::back_inserter(text);
    fmt::format_to(out, "ranks       {} on {}, {} each, {}\n", count_of(replica.communicator().size(), "rank"),
                   count_of(replica.nodes(), "node"), count_of(config.parallel.blas_threads, "thread"),
                   count_of(config.parallel.logical_shards, "logical shard"));
    fmt::format_to(out, "reducer     {}\n", replica.reducer().description());
    fmt::format_to(out, "arithmetic  {}\n", replica.products().arithmetic_name());
    fmt::format_to(out, "data set    {}: {} training and {} test samples of {}\n", dataset.name, dataset.train.total,
                   dataset.test.total, nn::to_string(dataset.train.sample_shape));
    const auto& layers = network.layers();
    for (std::size_t l = 0; l < layers.size(); ++l) {
        std::string shapes;
        std::size_t parameters = 0;
        for (const nn::Tensor& tensor : network.layout().tensors()) {
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
                   network.layout().parameter_count(), network.training_flops());
    std::string schedule = config.training.schedule == "constant" ? "" : ", schedule " + config.training.schedule;
    if (config.training.warmup_epochs > 0) {
        schedule += fmt::format(", warm-up over {} epochs", config.training.warmup_epochs);
    }
    fmt::format_to(out, "training    {}, {} cost, {} with learning rate {}{}, batches of {}, {} of {}\n",
                   count_of(config.training.epochs, "epoch"), config.model.cost, config.training.optimizer,
                   config.training.learning_rate, schedule, replica.sampler().batch_samples(0),
                   config.training.epochs == 1 ? "1 epoch" : "epochs",
                   count_of(replica.sampler().steps_per_epoch(), "step"));
    text.pop_back();
    if (config.parallel.sync_every > 1) {
        text += fmt::format(", averaged every {} steps", config.parallel.sync_every);
    }
    return text;
}

MemoryUse memory_of(const Replica& replica) {
    const data::Split& train = replica.dataset().train;
    const data::Split& test = replica.dataset().test;
    const parallel::GradientReducer& reducer = replica.reducer();
    MemoryUse bytes;
    bytes.samples = train.elements.size() + train.labels.size() + test.elements.size() + test.labels.size() +
                    static_cast<std::size_t>(train.local.size()) * sizeof(std::uint32_t);
    bytes.parameters = replica.parameters().size_bytes() * (1 + replica.states().size());
    bytes.gradients = reducer.gradients(0).size_bytes() * reducer.subtrees().size() + reducer.exchange_bytes() +
                      replica.descent().bytes();
    bytes.activations = replica.network().bytes() + replica.products().bytes() + replica.loader().bytes() +
                        model::evaluation_rows * train.sample_size * sizeof(float);
    return bytes;
}

std::string describe_memory(const Replica& replica, std::size_t checkpoint_bytes) {
    touch_shared_memory(replica);
    const MemoryUse memory = memory_of(replica);
    // What steps need is there by now, so the rest is what the process has beyond the items.
    const std::size_t peak = core::peak_resident_bytes();
    const std::vector<std::size_t> peaks = replica.communicator().gather_all(std::span(&peak, 1));
    std::string text = fmt::format(
        "memory      of rank 0: {} samples, {} parameters and optimizer state, {} gradients, {} activations, {} MPI, "
        "libraries and\n            program; with {} more while checkpoints are written up to {}",
        megabytes(memory.samples), megabytes(memory.parameters), megabytes(memory.gradients),
        megabytes(memory.activations), megabytes(peak - std::min(peak, memory.total())), megabytes(checkpoint_bytes),
        megabytes(peak + checkpoint_bytes));
    if (peaks.size() > 1) {
        text += fmt::format("; other ranks up to {}", megabytes(*std::max_element(peaks.begin() + 1, peaks.end())));
    }
    return text;
}

} // namespace dtrain::train
