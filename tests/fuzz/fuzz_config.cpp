// A config file and overrides from the command line. The input is the text of the file, then the overrides, each
// behind a zero byte.

#include "dtrain/config/config.hpp"
#include "dtrain/core/error.hpp"
#include "dtrain/nn/layer.hpp"
#include "dtrain/nn/parameters.hpp"

#include "require.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace dtrain;

struct Input {
    std::string_view ini;
    std::vector<std::string> overrides;
};

Input split(std::string_view text) {
    Input input{.ini = text.substr(0, text.find('\0')), .overrides = {}};
    while (text.find('\0') != std::string_view::npos) {
        text.remove_prefix(text.find('\0') + 1);
        input.overrides.emplace_back(text.substr(0, text.find('\0')));
    }
    return input;
}

bool leaves_a_terminal_alone(std::string_view message) {
    return std::ranges::none_of(message, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

void read(const Input& input) {
    const config::Config config = config::parse(input.ini, "fuzz.ini", input.overrides);
    const std::string resolved = config.resolved();
    try {
        require(config::parse(resolved, "resolved.ini").resolved() == resolved, "a resolved config is itself again");
    } catch (const core::Error&) {
        require(false, "a resolved config can be read");
    }
    try {
        nn::ParameterLayout layout;
        (void)nn::make_layers<float>(config.model.layers, {28, 28}, layout);
    } catch (const std::invalid_argument&) {
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        read(split({reinterpret_cast<const char*>(data), size}));
    } catch (const core::Error& error) {
        require(error.code() == core::ExitCode::bad_config, "a bad config is a bad config");
        require(leaves_a_terminal_alone(error.what()), "a message is one line of text");
    }
    return 0;
}
