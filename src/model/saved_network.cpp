#include "dtrain/model/saved_network.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/core/nearest.hpp"
#include "dtrain/data/source.hpp"
#include "dtrain/model/build.hpp"
#include "dtrain/nn/cost.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

namespace dtrain::model {

config::Config config_of(const io::Checkpoint& checkpoint) {
    try {
        return config::parse_resolved(checkpoint.info().config, "its config");
    } catch (const core::Error& error) {
        checkpoint.fail(error.what());
    }
}

std::unique_ptr<kernels::Products> products_of(const io::Checkpoint& checkpoint) {
    config::Config config = config_of(checkpoint);
    config.parallel.products = kernels::product_names().front(); // the machine need not have another engine
    try {
        check_products(config);
    } catch (const core::Error& error) {
        checkpoint.fail(error.what());
    }
    return build_products(config);
}

nn::Network<float> network_of(const io::Checkpoint& checkpoint, kernels::Products& products) {
    const config::Config config = config_of(checkpoint);
    nn::Network<float> network = [&] {
        try {
            config.require_one_of("data.source", data::source_names());
            config.require_one_of("model.cost", nn::cost_names());
            return build_network(config, checkpoint.info().sample_shape, products);
        } catch (const core::Error& error) {
            checkpoint.fail(error.what());
        }
    }();
    for (const nn::Tensor& tensor : network.layout().tensors()) {
        checkpoint.require("/model/" + tensor.name, tensor.shape);
    }
    return network;
}

core::Buffer<float> parameters_of(const io::Checkpoint& checkpoint, const nn::Network<float>& network) {
    core::Buffer<float> parameters(network.layout().arena_size());
    checkpoint.read(saved_tensors(network.layout(), parameters.values()));
    return parameters;
}

std::optional<InitialWeights> open_initial(const config::Config& config, const nn::ParameterLayout& layout,
                                           const std::function<void(std::string_view)>& warn) {
    if (!config.model.initial) {
        return std::nullopt;
    }
    std::filesystem::path file = *config.model.initial;
    std::error_code unknown; // ignored: opening the file reports errors
    const std::string hint = core::did_you_mean(file.string(), std::vector<std::string>{"random"});
    if (!hint.empty() && !std::filesystem::exists(file, unknown)) {
        throw config.invalid("model.initial", "no such file or folder" + hint);
    }
    io::Checkpoint checkpoint = io::open_checkpoint(file, warn);
    try {
        for (const nn::Tensor& tensor : layout.tensors()) {
            checkpoint.require("/model/" + tensor.name, tensor.shape);
        }
    } catch (const core::Error& error) {
        throw core::Error(error.code(),
                          fmt::format("{}. model.initial finds weights by the number and the kind of their layer; the "
                                      "checkpoint has [model] layers = {}",
                                      error.what(), config_of(checkpoint).model.layers));
    }
    return InitialWeights{std::move(file), std::move(checkpoint)};
}

std::vector<io::TensorView> saved_tensors(const nn::ParameterLayout& layout, std::span<float> parameters,
                                          const NamedStates& states) {
    std::vector<io::TensorView> views;
    const auto add = [&](const std::string& group, std::span<float> arena, bool with_statistics) {
        for (const nn::Tensor& tensor : layout.tensors()) {
            if (with_statistics || tensor.role == nn::Role::parameter) {
                views.push_back({group + tensor.name, tensor.shape, tensor.in(arena)});
            }
        }
    };
    add("/model/", parameters, true);
    for (std::size_t i = 0; i < states.arenas.size(); ++i) {
        add("/optimizer/" + states.names[i] + "/", states.arenas[i], false);
    }
    return views;
}

} // namespace dtrain::model
