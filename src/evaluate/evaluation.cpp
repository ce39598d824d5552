#include "dtrain/evaluate/evaluation.hpp"

#include "dtrain/io/hdf5.hpp"
#include "dtrain/model/evaluator.hpp"
#include "dtrain/nn/cost.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <deque>
#include <tuple>
#include <utility>

namespace dtrain::evaluate {
namespace {

constexpr std::int64_t format_version = 1;
constexpr std::size_t max_wrong_recorded = 25;

/// The first sample of each class, ordered by class.
std::vector<std::int64_t> one_of_each(const Evaluation& evaluation) {
    std::vector<std::int64_t> found;
    for (std::size_t label = 0; label < evaluation.classes; ++label) {
        const auto first = std::ranges::find(evaluation.labels, static_cast<std::int64_t>(label));
        if (first != evaluation.labels.end()) {
            found.push_back(first - evaluation.labels.begin());
        }
    }
    return found;
}

/// Datasets, with their values until they are written.
class Contents {
  public:
    template <class T>
    void add(std::string path, nn::Shape shape, std::vector<T> values) {
        const std::vector<T>& kept = std::get<std::deque<std::vector<T>>>(kept_).emplace_back(std::move(values));
        datasets.push_back({std::move(path), std::move(shape), std::span<const T>(kept)});
    }
    template <class T>
    void add(std::string path, std::vector<T> values) {
        nn::Shape shape{values.size()};
        add(std::move(path), std::move(shape), std::move(values));
    }
    std::vector<io::DatasetView> datasets;

  private:
    std::tuple<std::deque<std::vector<float>>, std::deque<std::vector<double>>, std::deque<std::vector<std::int64_t>>>
        kept_;
};

nn::Shape joined(std::size_t rows, const nn::Shape& shape) {
    nn::Shape all{rows};
    all.insert(all.end(), shape.begin(), shape.end());
    return all;
}

/// Adds the numbers of some samples, and their values as the network reads them. Returns these values.
std::vector<float> add_samples(Contents& contents, const std::string& group, const data::Split& split,
                               const std::vector<std::int64_t>& samples) {
    std::vector<float> images(samples.size() * split.sample_size);
    for (std::size_t i = 0; i < samples.size(); ++i) {
        split.fetch(samples[i], std::span(images).subspan(i * split.sample_size, split.sample_size));
    }
    contents.add(group + "/index", samples);
    contents.add(group + "/image", joined(samples.size(), split.sample_shape), images);
    return images;
}

/// Adds the activations of every layer for `images`, at most one image per class.
void add_layers(Contents& contents, const Evaluated& evaluated, std::vector<float> images) {
    nn::Network<float>& network = evaluated.network;
    const std::size_t rows = images.size() / network.inputs();
    const std::array<std::size_t, 2> shard{0, rows};
    (void)network.forward(evaluated.parameters, {shard}, {images.data(), rows, network.inputs()});
    for (std::size_t l = 0; l < network.layers().size(); ++l) {
        const nn::Layer<float>& layer = *network.layers()[l];
        const std::size_t width = nn::element_count(layer.output_shape());
        std::vector<float> activations(rows * width);
        network.copy_activations(l, shard, {activations.data(), rows, width});
        contents.add("/shown/layers/" + layer.label(), joined(rows, layer.output_shape()), std::move(activations));
    }
}

void add_direction(Contents& contents, const std::string& group, const nn::ParameterLayout& layout,
                   std::span<const double> direction) {
    for (const nn::Tensor& tensor : layout.tensors()) {
        const std::span<const double> part = tensor.in(direction);
        std::vector<float> values(part.size());
        std::ranges::transform(part, values.begin(), [](double value) { return static_cast<float>(value); });
        contents.add(fmt::format("{}/{}", group, tensor.name), tensor.shape, std::move(values));
    }
}

void add_surface(Contents& contents, const nn::ParameterLayout& layout, const CostSurface& surface) {
    contents.add("/surface/x", surface.x);
    contents.add("/surface/y", surface.y);
    contents.add("/surface/cost", {surface.y.size(), surface.x.size()}, surface.cost);
    contents.add("/surface/path_x", surface.path_x);
    contents.add("/surface/path_y", surface.path_y);
    contents.add("/surface/path_cost", surface.path_cost);
    contents.add("/surface/path_step", surface.path_step);
    contents.add("/surface/explained", std::vector<double>(surface.explained.begin(), surface.explained.end()));
    add_direction(contents, "/surface/direction_x", layout, surface.plane.x);
    add_direction(contents, "/surface/direction_y", layout, surface.plane.y);
}

} // namespace

std::vector<std::int64_t> Evaluation::confusion() const {
    std::vector<std::int64_t> counts(classes * classes);
    for (std::size_t n = 0; n < labels.size(); ++n) {
        ++counts[static_cast<std::size_t>(labels[n]) * classes + static_cast<std::size_t>(predictions[n])];
    }
    return counts;
}

Evaluation evaluate(nn::Network<float>& network, std::span<const float> parameters, std::string_view cost,
                    const data::Split& split, std::int64_t samples) {
    Evaluation evaluation;
    evaluation.classes = network.outputs();
    const bool labelled = split.labels.size() > 0;
    model::Evaluator evaluator(network, cost, split);
    evaluator.visit(parameters, {0, samples}, [&](std::int64_t first, core::MatrixView<const float> outputs) {
        evaluation.outputs.insert(evaluation.outputs.end(), outputs.data, outputs.data + outputs.size());
        for (std::size_t n = 0; n < outputs.rows; ++n) {
            const auto predicted = static_cast<std::int64_t>(model::predicted_class(outputs.row(n)));
            evaluation.predictions.push_back(predicted);
            if (labelled) {
                evaluation.labels.push_back(split.labels.data()[static_cast<std::size_t>(first) + n]);
                evaluation.correct += evaluation.labels.back() == predicted ? 1 : 0;
            }
        }
        evaluation.cost += labelled ? evaluator.cost(first, outputs) : 0;
    });
    evaluation.cost /= static_cast<double>(samples);
    return evaluation;
}

std::vector<float> class_scores(const Evaluation& evaluation, std::string_view cost) {
    std::vector<float> values = evaluation.outputs;
    if (nn::needs_linear_output(cost)) {
        for (std::size_t first = 0; first < values.size(); first += evaluation.classes) {
            const auto row = std::span(values).subspan(first, evaluation.classes);
            nn::softmax<float>(row, row);
        }
    }
    return values;
}

std::vector<std::int64_t> worst_mistakes(const Evaluation& evaluation, std::span<const float> scores,
                                         std::size_t max_count) {
    const auto excess = [&](std::int64_t sample) {
        const auto n = static_cast<std::size_t>(sample);
        const std::span<const float> row = scores.subspan(n * evaluation.classes, evaluation.classes);
        return row[static_cast<std::size_t>(evaluation.predictions[n])] -
               row[static_cast<std::size_t>(evaluation.labels[n])];
    };
    std::vector<std::int64_t> wrong;
    for (std::size_t n = 0; n < evaluation.labels.size(); ++n) {
        if (evaluation.labels[n] != evaluation.predictions[n]) {
            wrong.push_back(static_cast<std::int64_t>(n));
        }
    }
    std::ranges::stable_sort(wrong, [&](std::int64_t a, std::int64_t b) { return excess(a) > excess(b); });
    wrong.resize(std::min(wrong.size(), max_count));
    return wrong;
}

std::vector<std::byte> encode_evaluation(const Evaluated& evaluated, const Evaluation& evaluation,
                                         const CostSurface* surface) {
    const auto samples = static_cast<std::size_t>(evaluation.samples());
    const std::vector<float> scores = class_scores(evaluation, evaluated.cost);
    Contents contents;
    contents.add("/samples/output", {samples, evaluation.classes}, scores);
    contents.add("/samples/label", evaluation.labels);
    contents.add("/samples/prediction", evaluation.predictions);
    add_layers(contents, evaluated, add_samples(contents, "/shown", evaluated.split, one_of_each(evaluation)));
    (void)add_samples(contents, "/wrong", evaluated.split, worst_mistakes(evaluation, scores, max_wrong_recorded));
    io::Attributes attributes{{"format_version", format_version},
                              {"kind", std::string("evaluation")},
                              {"dtrain_version", std::string(DTRAIN_VERSION)},
                              {"checkpoint", evaluated.checkpoint},
                              {"step", evaluated.info.step},
                              {"dataset", evaluated.dataset},
                              {"config", evaluated.info.config},
                              {"cost", evaluation.cost},
                              {"accuracy", evaluation.accuracy()}};
    if (surface != nullptr) {
        add_surface(contents, evaluated.network.layout(), *surface);
        attributes["/surface/directions"] = std::string(surface->plane.principal ? "pca" : "random");
        attributes["/surface/samples"] = surface->samples;
        attributes["/surface/set"] = evaluated.surface_set;
    }
    return io::to_hdf5(contents.datasets, attributes);
}

} // namespace dtrain::evaluate
