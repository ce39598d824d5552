#include "dtrain/train/description.hpp"

#include <fmt/format.h>

#include <iterator>

namespace dtrain::train {

std::string format_count(std::int64_t number, std::string_view what) {
    return fmt::format("{} {}{}", number, what, number == 1 ? "" : "s");
}

std::string describe(const Plan& plan) {
    const config::Config& config = plan.config();
    const nn::Network<float>& network = plan.network();
    std::string text = fmt::format("dtrain {}\n", DTRAIN_VERSION);
    auto out = std::back_inserter(text);
    fmt::format_to(out, "ranks       {} on {}, {} each, {}\n", format_count(plan.communicator().size(), "rank"),
                   format_count(plan.nodes(), "node"), format_count(config.parallel.threads, "thread"),
                   format_count(config.parallel.logical_shards, "logical shard"));
    fmt::format_to(out, "reducer     {}{}\n", parallel::describe_reducer(config.parallel.reducer, plan.nodes()),
                   config.parallel.compressed ? ", gradients rounded to bfloat16" : "");
    const auto& layers = network.layers();
    const kernels::Products& products = plan.used_products();
    fmt::format_to(out, "arithmetic  {}{}\n", products.arithmetic_name(),
                   products.rounds_factors() != plan.products().rounds_factors()
                       ? "; no layer is large enough for bfloat16, so all compute in float32"
                       : "");
    for (std::size_t l = 0; l < layers.size(); ++l) {
        std::string shapes;
        std::size_t parameters = 0;
        std::size_t statistics = 0;
        for (const nn::Tensor& tensor : network.layout().tensors()) {
            if (tensor.layer == layers[l]->label()) {
                shapes += fmt::format("{}{} {}", shapes.empty() ? "" : ", ", tensor.part, nn::to_string(tensor.shape));
                (tensor.role == nn::Role::parameter ? parameters : statistics) += tensor.size;
            }
        }
        fmt::format_to(out, "{}{:<18} -> {}", l == 0 ? "network     " : "            ", layers[l]->description(),
                       nn::to_string(layers[l]->output_shape()));
        if (parameters > 0) {
            fmt::format_to(out, ", {}: {} parameters", shapes, parameters);
        }
        if (statistics > 0) {
            fmt::format_to(out, ", {} running values", statistics);
        }
        if (layers[l]->forward_flops() > 0) {
            fmt::format_to(out, ", {:.0f} FLOPs forward{}", layers[l]->forward_flops(),
                           layers[l]->rounds_factors() ? " in bfloat16" : "");
        }
        text += '\n';
    }
    fmt::format_to(out, "            {} parameters, {:.0f} FLOPs per training sample\n",
                   network.layout().parameter_count(), network.training_flops());
    std::string schedule = config.training.schedule == "constant" ? "" : ", schedule " + config.training.schedule;
    if (config.training.warmup_epochs > 0) {
        schedule += fmt::format(", warm-up over {} epochs", config.training.warmup_epochs);
    }
    if (config.training.clip_norm > 0) {
        schedule += fmt::format(", gradients clipped to norm {}", config.training.clip_norm);
    }
    fmt::format_to(out, "training    {}, {} cost, {} with learning rate {}{}, batches of {}, {} of {}\n",
                   format_count(config.training.epochs, "epoch"), config.model.cost, config.training.optimizer,
                   config.training.learning_rate, schedule, plan.sampler().batch_samples(0),
                   config.training.epochs == 1 ? "1 epoch" : "epochs",
                   format_count(plan.sampler().steps_per_epoch(), "step"));
    text.pop_back();
    if (config.parallel.sync_every > 1) {
        text += fmt::format(", averaged every {} steps", config.parallel.sync_every);
    }
    if (plan.step_extent().rows < static_cast<std::size_t>(plan.sampler().max_local_rows()) &&
        config.parallel.sync_every == 1) {
        text += fmt::format(", in micro-batches of up to {}", plan.step_extent().rows);
    }
    return text;
}

std::string describe(const data::Dataset& dataset) {
    const std::string validation =
        dataset.validation.total == 0 ? "" : fmt::format(", {} validation", dataset.validation.total);
    return fmt::format("data set    {}: {} training{} and {} test samples of {}", dataset.name, dataset.train.total,
                       validation, dataset.test.total, nn::to_string(dataset.train.sample_shape));
}

} // namespace dtrain::train
