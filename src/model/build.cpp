#include "dtrain/model/build.hpp"

#include "dtrain/data/source.hpp"
#include "dtrain/model/data_source.hpp"

#include <fmt/format.h>

#include <stdexcept>
#include <utility>

namespace dtrain::model {
namespace {

constexpr const char* float32 = "float32";
constexpr const char* bfloat16 = "bfloat16";

data::Augmentation augmentation_of(const config::Config& config) {
    const auto& keys = config.augment;
    return {keys.shift, keys.rotate, keys.scale, keys.shear, keys.elastic_alpha, keys.elastic_sigma};
}

} // namespace

void check_names(const config::Config& config) {
    config.require_one_of("data.source", data::source_names());
    config.require_one_of("model.cost", nn::cost_names());
    config.require_one_of("training.optimizer", optim::optimizer_names());
    config.require_one_of("training.schedule", optim::schedule_names());
    check_products(config);
    if (config.parallel.sync_every > 1 && build_optimizer(config)->needs_norms()) {
        throw config.invalid("parallel.sync_every", fmt::format("sync_every > 1 does not work with optimizer = {}",
                                                                config.training.optimizer));
    }
}

void check_products(const config::Config& config) {
    config.require_one_of("parallel.products", kernels::product_names());
    config.require_one_of("training.precision", std::vector<std::string>{float32, bfloat16});
    if (config.training.precision != bfloat16) {
        return;
    }
    if (config.parallel.products != kernels::product_names().front()) {
        throw config.invalid("training.precision", fmt::format("precision = {} works only with products = {}", bfloat16,
                                                               kernels::product_names().front()));
    }
    if (const auto rows = config.training.micro_batch; rows > 0 && rows < 32) {
        throw config.invalid(
            "training.micro_batch",
            fmt::format("with precision = {}, expected 0 or at least 32: products add up 32 samples at "
                        "a time",
                        bfloat16));
    }
}

std::unique_ptr<kernels::Products> build_products(const config::Config& config) {
    const int threads = config.parallel.threads;
    return config.training.precision == bfloat16 ? kernels::make_bfloat16_products(threads)
                                                 : kernels::make_products(config.parallel.products, threads);
}

nn::Network<float> build_network(const config::Config& config, const nn::Shape& sample_shape,
                                 kernels::Products& products) {
    try {
        nn::Network<float> network(config.model.layers, sample_shape, products);
        if (network.outputs() > 256) {
            throw std::invalid_argument("the size of the last layer is the number of classes, at most 256");
        }
        if (nn::needs_linear_output(config.model.cost) && !network.layers().back()->ends_linear()) {
            throw std::invalid_argument(fmt::format("with cost = {} the last layer must be linear: the cost contains "
                                                    "the activation",
                                                    config.model.cost));
        }
        return network;
    } catch (const std::invalid_argument& error) {
        throw config.invalid("model.layers", error.what());
    }
}

nn::Cost<float> find_cost(const config::Config& config) {
    return nn::find_cost<float>(config.model.cost);
}

std::unique_ptr<optim::Optimizer> build_optimizer(const config::Config& config) {
    return optim::make_optimizer(config.training.optimizer, {config.training.momentum, config.training.weight_decay});
}

optim::Schedule build_schedule(const config::Config& config, std::int64_t steps_per_epoch) {
    const auto& keys = config.training;
    return {
        keys.schedule,
        {keys.learning_rate, steps_per_epoch, keys.epochs, keys.warmup_epochs, keys.decay_epochs, keys.decay_factor}};
}

void check_augmentation(const config::Config& config, const nn::Shape& shape) {
    struct Amount {
        const char* key;
        double value;
    };
    const auto& keys = config.augment;
    constexpr std::size_t max_pixels = data::Augmenter::max_pixels;
    const bool is_image = shape.size() == 2 && shape[0] <= max_pixels && shape[1] <= max_pixels;
    for (const Amount& amount : {Amount{"augment.shift", keys.shift}, Amount{"augment.rotate", keys.rotate},
                                 Amount{"augment.scale", keys.scale}, Amount{"augment.shear", keys.shear},
                                 Amount{"augment.elastic_alpha", keys.elastic_alpha}}) {
        if (amount.value > 0 && !is_image) {
            throw config.invalid(amount.key,
                                 fmt::format("expected 0: augmentation needs images of two dimensions, at most "
                                             "{0} × {0}, and the samples in {1} are {2}",
                                             max_pixels, make_source(config)->origin().value, nn::to_string(shape)));
        }
    }
}

std::optional<data::Augmenter> build_augmenter(const config::Config& config, const nn::Shape& shape) {
    const data::Augmentation augmentation = augmentation_of(config);
    if (!augmentation.any()) {
        return std::nullopt;
    }
    return std::optional<data::Augmenter>(std::in_place, augmentation, shape.at(0), shape.at(1), config.model.seed);
}

} // namespace dtrain::model
