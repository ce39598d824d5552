#include "dtrain/core/random.hpp"

#include "sources.hpp"
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

// This file is compiled without fused multiply-add (src/data/CMakeLists.txt), so every operation is rounded separately
// on every CPU. The only function of the C library is the square root, which is exact. So the bits are the same on all
// machines.

namespace dtrain::data {
namespace {

/// Identifies the images of this version. If you change the images, change this name too, so that no run resumes with
/// different data.
constexpr const char* name_of_pictures = "synthetic digits";
constexpr std::size_t side = 28; ///< pixels
constexpr std::size_t classes = 10;

struct Point {
    float x, y;
};
/// Points on a smooth curve. The curve is closed if the last point is the first one.
using Stroke = std::vector<Point>;
using Strokes = std::vector<Stroke>;

/// The ways to write each digit, in a square from 0 to 100. x points to the right and y down.
const std::array<std::vector<Strokes>, classes>& variants() {
    static const std::array<std::vector<Strokes>, classes> all{{
        {{{{50, 2}, {26, 17}, {18, 50}, {26, 83}, {50, 98}, {74, 83}, {82, 50}, {74, 17}, {50, 2}}},
         {{{60, 3}, {38, 13}, {24, 42}, {26, 78}, {44, 97}, {64, 87}, {77, 57}, {76, 20}, {60, 3}}}},
        {{{{50, 2}, {50, 98}}},
         {{{34, 22}, {54, 3}}, {{54, 3}, {52, 98}}},
         {{{32, 22}, {52, 3}}, {{52, 3}, {52, 98}}, {{30, 98}, {72, 98}}}},
        {{{{22, 25}, {34, 6}, {56, 2}, {75, 14}, {75, 36}, {58, 60}, {38, 80}, {20, 97}}, {{20, 97}, {82, 97}}},
         {{{20, 22},
           {40, 3},
           {66, 6},
           {74, 28},
           {58, 58},
           {34, 86},
           {20, 92},
           {20, 80},
           {38, 80},
           {60, 94},
           {84, 88}}}},
        {{{{22, 12}, {44, 2}, {70, 8}, {73, 28}, {60, 43}, {42, 47}},
          {{42, 47}, {66, 53}, {79, 71}, {70, 91}, {44, 98}, {20, 88}}},
         {{{22, 4}, {76, 4}}, {{76, 4}, {44, 40}}, {{44, 40}, {70, 48}, {80, 70}, {66, 93}, {40, 98}, {18, 88}}}},
        {{{{28, 4}, {25, 30}, {20, 56}}, {{20, 56}, {82, 54}}, {{70, 5}, {66, 98}}},
         {{{64, 2}, {18, 64}}, {{18, 64}, {84, 64}}, {{64, 2}, {64, 98}}}},
        {{{{78, 4}, {32, 4}},
          {{32, 4}, {27, 44}},
          {{27, 44}, {48, 37}, {70, 44}, {80, 66}, {69, 89}, {44, 98}, {18, 88}}},
         {{{82, 2}, {58, 6}, {37, 6}},
          {{37, 6}, {28, 46}},
          {{28, 46}, {52, 43}, {68, 57}, {67, 82}, {46, 97}, {20, 92}}}},
        {{{{70, 3},
           {44, 18},
           {26, 48},
           {23, 76},
           {38, 96},
           {60, 97},
           {76, 81},
           {72, 62},
           {54, 54},
           {36, 61},
           {24, 76}}},
         {{{58, 2}, {36, 34}, {23, 66}, {32, 92}, {56, 97}, {72, 80}, {64, 62}, {44, 60}, {26, 74}}}},
        {{{{20, 5}, {80, 5}}, {{80, 5}, {60, 44}, {46, 98}}},
         {{{20, 6}, {80, 4}}, {{80, 4}, {60, 48}, {44, 98}}, {{36, 50}, {76, 50}}},
         {{{22, 22}, {24, 5}}, {{24, 5}, {78, 5}}, {{78, 5}, {62, 46}, {54, 98}}}},
        {{{{50, 47},
           {30, 30},
           {30, 10},
           {50, 2},
           {70, 10},
           {70, 30},
           {50, 47},
           {26, 66},
           {25, 88},
           {50, 98},
           {75, 88},
           {74, 66},
           {50, 47}}},
         {{{50, 2}, {31, 11}, {31, 35}, {50, 45}, {69, 35}, {69, 11}, {50, 2}},
          {{50, 45}, {28, 56}, {26, 85}, {50, 98}, {74, 85}, {72, 56}, {50, 45}}}},
        {{{{74, 16}, {54, 2}, {32, 10}, {25, 32}, {40, 49}, {62, 42}, {74, 16}}, {{74, 14}, {72, 52}, {64, 98}}},
         {{{75, 24}, {58, 3}, {35, 8}, {25, 30}, {40, 49}, {63, 43}, {75, 24}, {75, 60}, {62, 90}, {34, 96}}}},
    }};
    return all;
}

/// A straight piece of a stroke.
struct Segment {
    Point from, to;
};

/// Appends segments that follow the Catmull-Rom spline through the points of a stroke.
void flatten(const Stroke& stroke, std::vector<Segment>& segments) {
    constexpr int pieces = 3; // segments from one point to the next
    const std::size_t last = stroke.size() - 1;
    const bool closed = stroke[0].x == stroke[last].x && stroke[0].y == stroke[last].y;
    const auto mirrored = [](Point end, Point inner) { return Point{2 * end.x - inner.x, 2 * end.y - inner.y}; };
    for (std::size_t i = 0; i < last; ++i) {
        const Point b = stroke[i];
        const Point c = stroke[i + 1];
        const Point a = i > 0 ? stroke[i - 1] : closed ? stroke[last - 1] : mirrored(b, c);
        const Point d = i + 1 < last ? stroke[i + 2] : closed ? stroke[1] : mirrored(c, b);
        const auto at = [](float t, float p, float q, float r, float s) {
            return 0.5F * (2 * q + t * ((r - p) + t * ((2 * p - 5 * q + 4 * r - s) + t * (3 * q - p - 3 * r + s))));
        };
        Point from = b;
        for (int piece = 1; piece <= pieces; ++piece) {
            const float t = static_cast<float>(piece) / pieces;
            const Point to{at(t, a.x, b.x, c.x, d.x), at(t, a.y, b.y, c.y, d.y)};
            segments.push_back({from, to});
            from = to;
        }
    }
}

/// All variants as segments.
const std::array<std::vector<std::vector<Segment>>, classes>& outlines() {
    static const auto all = [] {
        std::array<std::vector<std::vector<Segment>>, classes> result;
        for (std::size_t digit = 0; digit < classes; ++digit) {
            for (const Strokes& strokes : variants()[digit]) {
                std::vector<Segment>& segments = result[digit].emplace_back();
                std::ranges::for_each(strokes, [&](const Stroke& stroke) { flatten(stroke, segments); });
            }
        }
        return result;
    }();
    return all;
}

/// A uniform random number between the bounds.
float between(core::RandomStream& random, float low, float high) noexcept {
    return low + (high - low) * static_cast<float>(random.uniform());
}

/// Maps the points of one sample to pixels: first an elastic displacement, then an affine transformation.
class Distortion {
  public:
    explicit Distortion(core::RandomStream& random) noexcept {
        for (Point& node : field_) {
            node = {between(random, -stretch, stretch), between(random, -stretch, stretch)};
        }
        const float width = between(random, 0.65F, 1.1F);
        const float height = between(random, 0.8F, 1.05F);
        const float shear = between(random, -0.45F, 0.45F);
        // A rotation by up to 18 degrees to both sides, from the tangent of half the angle.
        const float tangent = between(random, -0.158F, 0.158F);
        const float cosine = (1 - tangent * tangent) / (1 + tangent * tangent);
        const float sine = 2 * tangent / (1 + tangent * tangent);
        xx_ = cosine * width;
        xy_ = (cosine * shear - sine) * height;
        yx_ = sine * width;
        yy_ = (sine * shear + cosine) * height;
        const float middle = static_cast<float>(side - 1) / 2;
        shift_ = {middle + between(random, -2, 2), middle + between(random, -2, 2)};
    }

    [[nodiscard]] Point operator()(Point p) const noexcept {
        // Interpolates bilinearly between the nodes of a grid over the square.
        const auto cell = [](float place) { return std::clamp(static_cast<int>(place), 0, nodes - 2); };
        const float u = p.x * (static_cast<float>(nodes - 1) / 100);
        const float v = p.y * (static_cast<float>(nodes - 1) / 100);
        const int column = cell(u);
        const int row = cell(v);
        const Point* const upper = &field_[static_cast<std::size_t>(row * nodes + column)];
        const Point* const lower = upper + nodes;
        const float right = u - static_cast<float>(column);
        const float down = v - static_cast<float>(row);
        const auto blend = [&](float a, float b, float c, float d) {
            return (1 - down) * ((1 - right) * a + right * b) + down * ((1 - right) * c + right * d);
        };
        const float x = (p.x - 50) * (box / 100) + blend(upper[0].x, upper[1].x, lower[0].x, lower[1].x);
        const float y = (p.y - 50) * (box / 100) + blend(upper[0].y, upper[1].y, lower[0].y, lower[1].y);
        return {xx_ * x + xy_ * y + shift_.x, yx_ * x + yy_ * y + shift_.y};
    }

  private:
    static constexpr int nodes = 4;        ///< of the elastic field, in each direction
    static constexpr float stretch = 2.2F; ///< maximum displacement of a node, in pixels
    static constexpr float box = 20;       ///< size of a digit in pixels, as in MNIST
    std::array<Point, nodes * nodes> field_{};
    float xx_ = 1, xy_ = 0, yx_ = 0, yy_ = 1;
    Point shift_{};
};

constexpr std::size_t stride = 32; ///< a row of pixels, rounded up to whole vectors

constexpr std::array<float, stride> columns = [] {
    std::array<float, stride> result{};
    for (std::size_t i = 0; i < stride; ++i) {
        result[i] = static_cast<float>(i);
    }
    return result;
}();

/// For each pixel, the square of the distance to the nearest segment, if that is within `reach` pixels.
class Distances {
  public:
    explicit Distances(float reach) noexcept : reach_(reach) { nearest_.fill(static_cast<float>(side * side)); }

    void add(Point from, Point to) noexcept {
        const float along_x = to.x - from.x;
        const float along_y = to.y - from.y;
        const float square = along_x * along_x + along_y * along_y;
        const float inverse = square > 1e-6F ? 1 / square : 0;
        const auto row = [](float y) { return std::clamp(static_cast<int>(y), 0, static_cast<int>(side)); };
        const int end = row(std::max(from.y, to.y) + reach_ + 1);
        for (int y = row(std::min(from.y, to.y) - reach_); y < end; ++y) {
            float* const nearest = &nearest_[static_cast<std::size_t>(y) * stride];
            const float away_y = static_cast<float>(y) - from.y;
            const float dot_y = away_y * along_y;
            for (std::size_t x = 0; x < stride; ++x) {
                const float away_x = columns[x] - from.x;
                float position =
                    (away_x * along_x + dot_y) * inverse; // of the nearest point, from 0 to 1 along the segment
                position = position > 0 ? position : 0;
                position = position < 1 ? position : 1;
                const float off_x = away_x - position * along_x;
                const float off_y = away_y - position * along_y;
                const float here = off_x * off_x + off_y * off_y;
                const float before = nearest[x];
                nearest[x] = here < before ? here : before;
            }
        }
    }

    /// Draws with a pen of `radius` pixels. The ink fades out over `softness` pixels around the edge of the pen.
    void ink(float radius, float softness, float darkest, std::span<std::uint8_t> image) const noexcept {
        const float steepness = darkest / softness;
        const float edge = radius + softness / 2;
        for (std::size_t y = 0; y < side; ++y) {
            std::array<std::uint8_t, stride> row;
            for (std::size_t x = 0; x < stride; ++x) {
                float value = (edge - std::sqrt(nearest_[y * stride + x])) * steepness;
                value = value > 0 ? value : 0;
                value = value < darkest ? value : darkest;
                row[x] = static_cast<std::uint8_t>(static_cast<std::int32_t>(value + 0.5F));
            }
            std::copy_n(row.begin(), side, image.begin() + static_cast<std::ptrdiff_t>(y * side));
        }
    }

  private:
    float reach_;
    std::array<float, side * stride> nearest_;
};

/// Draws one sample into `image`, side × side bytes by rows, and returns its label.
std::uint8_t draw(Set set, std::int64_t number, std::span<std::uint8_t> image) noexcept {
    core::RandomStream random(0, core::Purpose::synthetic_digits, static_cast<std::uint32_t>(set),
                              static_cast<std::uint64_t>(number));
    const std::uint32_t digit = random.below(classes);
    const auto& variants = outlines()[digit];
    const std::vector<Segment>& segments = variants[random.below(static_cast<std::uint32_t>(variants.size()))];
    const float radius = between(random, 0.7F, 1.7F);
    const float softness = between(random, 1.0F, 1.8F);
    const float darkest = between(random, 200, 255);
    const Distortion distorted(random);
    Distances distances(radius + softness / 2);
    for (const Segment& segment : segments) {
        distances.add(distorted(segment.from), distorted(segment.to));
    }
    distances.ink(radius, softness, darkest, image);
    return static_cast<std::uint8_t>(digit);
}

class SyntheticSet final : public SetReader {
  public:
    SyntheticSet(const SourceSettings& settings, Set set) : settings_(settings), set_(set) {
        const std::int64_t limit = settings.limits.of(set);
        header_ = {limit > 0 ? limit : set == Set::train ? 60'000 : 10'000, {side, side}};
    }

    void require_classes(std::size_t wanted, core::Range /*samples*/) const override {
        if (wanted < classes) {
            throw settings_.invalid("model.layers", fmt::format("{} have {} classes, but the last layer has only {} "
                                                                "outputs",
                                                                name_of_pictures, classes, wanted));
        }
    }

    void read(core::Range samples, std::span<std::byte> elements, std::span<std::uint8_t> labels) override {
        for (std::size_t i = 0; i < labels.size(); ++i) {
            auto* const image = reinterpret_cast<std::uint8_t*>(elements.data() + i * side * side);
            labels[i] = draw(set_, samples.begin + static_cast<std::int64_t>(i), {image, side * side});
        }
    }

    std::uint64_t finish(core::Range /*rest*/) override { return 0; }

  private:
    const SourceSettings& settings_;
    Set set_;
};

class SyntheticSource final : public Source {
  public:
    using Source::Source;
    [[nodiscard]] bool every_rank_reads() const noexcept override { return true; }
    [[nodiscard]] Origin origin() const override { return {"data.source", "synthetic"}; }
    [[nodiscard]] std::unique_ptr<SetReader> open(Set set) const override {
        return std::make_unique<SyntheticSet>(settings(), set);
    }
    [[nodiscard]] std::string name(const PerSet<std::uint64_t>& /*hashes*/) const override { return name_of_pictures; }
};

} // namespace

std::unique_ptr<Source> make_synthetic_source(SourceSettings settings) {
    return std::make_unique<SyntheticSource>(std::move(settings));
}

} // namespace dtrain::data
