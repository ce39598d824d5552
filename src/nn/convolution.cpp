#include "convolution.hpp"

#include "bfloat16_convolution.hpp"

namespace dtrain::nn {

using kernels::Maps;

template <class Real>
std::unique_ptr<Layer<Real>> make_convolution(const LayerArguments& arguments) {
    constexpr std::size_t max_maps = 65536;
    constexpr std::size_t max_kernel = 255;
    constexpr const char* expected =
        "expected `conv CxKxK [pad P] [stride S] [activation]` in this order, where C is the number of output channels "
        "and K x K the kernel size";
    const auto& words = arguments.words;
    if (words.size() < 2) {
        arguments.fail(expected);
    }
    std::array<std::string_view, 3> sizes;
    std::string_view rest = words[1];
    for (std::string_view& size : sizes) {
        const std::size_t end = std::min(rest.find('x'), rest.size());
        size = rest.substr(0, end);
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    if (sizes[1] != sizes[2] || sizes[2].empty() || !rest.empty() || words[1].ends_with('x')) {
        arguments.fail(expected);
    }
    const std::size_t maps = arguments.number_in(sizes[0], "the number of output channels", 1, max_maps);
    const std::size_t kernel = arguments.number_in(sizes[1], "the kernel size", 1, max_kernel);
    std::size_t padding = 0;
    std::size_t stride = 1;
    std::size_t word = 2;
    if (word + 1 < words.size() && words[word] == "pad") {
        padding = arguments.number_in(words[word + 1], "pad (less than the kernel size)", 0, kernel - 1);
        word += 2;
    }
    if (word + 1 < words.size() && words[word] == "stride") {
        stride = arguments.number_in(words[word + 1], "the stride", 1, max_kernel);
        word += 2;
    }
    Activation activation = Activation::linear;
    if (word < words.size() && words[word] != "pad" &&
        words[word] != "stride") { // these are misplaced or lack a number
        activation = arguments.activation_in(words[word++]);
    }
    if (word < words.size()) {
        arguments.fail(expected);
    }

    const Shape maps_in = arguments.input_maps();
    const Maps input{maps_in[0], maps_in[1], maps_in[2]};
    if (input.height + 2 * padding < kernel || input.width + 2 * padding < kernel) {
        arguments.fail(fmt::format("a kernel of {0} x {0} is larger than the feature maps of {1} x {2} with pad {3}",
                                   kernel, input.height, input.width, padding));
    }
    const Maps output{maps, (input.height + 2 * padding - kernel) / stride + 1,
                      (input.width + 2 * padding - kernel) / stride + 1};
    arguments.require_size({output.channels, output.height, output.width});
    arguments.require_size({output.channels, input.channels, kernel, kernel});
    if constexpr (std::is_same_v<Real, float>) {
        if (arguments.products.rounds_factors() && gains_from_bfloat16(input.channels)) {
            return make_bfloat16_convolution(input, output, kernel, padding, stride, activation, arguments);
        }
    }
    return std::make_unique<Convolution<Real>>(input, output, kernel, padding, stride, activation, arguments);
}

template std::unique_ptr<Layer<float>> make_convolution(const LayerArguments&);
template std::unique_ptr<Layer<double>> make_convolution(const LayerArguments&);

} // namespace dtrain::nn
