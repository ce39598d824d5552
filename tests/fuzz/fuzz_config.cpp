// Reads a config file with overrides from the command line, then makes its layers. The input is the text of the file,
// then the overrides, each preceded by a zero byte.

#include "dtrain/config/config.hpp"
#include "dtrain/nn/layer.hpp"
#include "dtrain/nn/parameters.hpp"

#include "fuzzing.hpp"
#include "support/products.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace dtrain;
using fuzzing::require;

void require_unchanged_by_parsing(const config::Config& config) {
    const std::string resolved = config.resolved();
    std::string again;
    try {
        again = config::parse(resolved, "resolved.ini").resolved();
    } catch (const core::Error& error) {
        require(false, error.what());
    }
    require(again == resolved, "a resolved config does not change when it is parsed");
}

std::string descriptions(const std::vector<std::unique_ptr<nn::Layer<float>>>& layers) {
    std::string text;
    for (const auto& layer : layers) {
        text += (text.empty() ? "" : ", ") + layer->description();
    }
    return text;
}

void make_layers(const std::string& list) {
    nn::ParameterLayout layout;
    std::string text;
    try {
        text = descriptions(nn::make_layers<float>(list, {28, 28}, layout, support::products()));
    } catch (const std::invalid_argument&) {
        return; // build_network turns it into a config error
    }
    nn::ParameterLayout layout_again;
    require(descriptions(nn::make_layers<float>(text, {28, 28}, layout_again, support::products())) == text,
            "layers match their descriptions");
    require(layout_again.arena_size() == layout.arena_size(), "the same layers have the same parameters");
}

void read(std::string_view text) {
    const std::string_view ini = text.substr(0, text.find('\0'));
    std::vector<std::string> overrides;
    while (text.find('\0') != std::string_view::npos) {
        text.remove_prefix(text.find('\0') + 1);
        overrides.emplace_back(text.substr(0, text.find('\0')));
    }
    const config::Config config = config::parse(ini, "fuzz.ini", overrides);
    require_unchanged_by_parsing(config);
    make_layers(config.model.layers);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        read({reinterpret_cast<const char*>(data), size});
    } catch (const core::Error& error) {
        fuzzing::require_refusal(error, core::ExitCode::bad_config);
    }
    return 0;
}
