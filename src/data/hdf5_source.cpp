#include "dtrain/core/hash.hpp"
#include "dtrain/data/idx.hpp"
#include "dtrain/io/hdf5_file.hpp"

#include "sources.hpp"
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <system_error>
#include <utility>

namespace dtrain::data {
namespace {

constexpr std::size_t hdf5_piece_bytes = std::size_t{4} << 20;

/// The rows in a piece of a few megabytes: whole chunks, so HDF5 unpacks each chunk once.
std::int64_t rows_of_piece(const io::Hdf5Dataset& dataset, std::size_t row_bytes) {
    const std::size_t chunk = dataset.chunk_rows();
    return static_cast<std::int64_t>(chunk * std::max<std::size_t>(hdf5_piece_bytes / (chunk * row_bytes), 1));
}

/// Calls action for pieces of `rows`.
template <class Action>
void for_each_piece(const io::Hdf5Dataset& dataset, std::size_t row_bytes, core::Range rows, Action&& action) {
    const std::int64_t step = rows_of_piece(dataset, row_bytes);
    for (core::Range piece{rows.begin, rows.begin}; piece.end < rows.end; piece.begin = piece.end) {
        piece.end = std::min((piece.begin / step + 1) * step, rows.end);
        action(piece);
    }
}

/// The memory for reading `rows` rows in pieces, one piece and HDF5's own memory.
std::size_t bytes_for_reading(const io::Hdf5Dataset& dataset, std::size_t row_bytes, std::int64_t rows) {
    return dataset.unpacking_bytes() + core::as_size(std::min(rows, rows_of_piece(dataset, row_bytes))) * row_bytes;
}

/// The part of `values` for the samples `part` of `samples`, with `size` values each.
template <class T>
std::span<T> part_of(std::span<T> values, core::Range samples, core::Range part, std::size_t size) {
    return values.subspan(core::as_size(part.begin - samples.begin) * size, core::as_size(part.size()) * size);
}

class Hdf5Set final : public SetReader {
  public:
    Hdf5Set(const std::filesystem::path& file, const std::string& set)
        : samples_(file, fmt::format("/{}/samples", set)), labels_(file, fmt::format("/{}/labels", set)) {
        const std::vector<std::size_t>& shape = samples_.shape();
        if (samples_.type() != "uint8" && samples_.type() != "float32") {
            // astype("float32") alone would leave bytes 255 times too large.
            samples_.fail(fmt::format("expected uint8 (bytes) or float32, but the elements are {}. Convert them with "
                                      "samples.astype({}",
                                      samples_.type(),
                                      samples_.is_integer() ? "\"uint8\") if the values are 0 to 255, else with "
                                                              "samples.astype(\"float32\") and scale them to about 0 "
                                                              "to 1"
                                                            : "\"float32\")"));
        }
        if (shape.size() < 2 || shape.size() > max_dimensions) {
            samples_.fail(fmt::format("expected from 2 to {} dimensions, the number of samples first, but there are {}",
                                      max_dimensions, shape.size()));
        }
        if (std::ranges::find(shape, 0U) != shape.end()) {
            samples_.fail(fmt::format("the shape {} has no elements", fmt::join(shape, " x ")));
        }
        if (!labels_.is_integer()) {
            labels_.fail(fmt::format("expected integers, but the elements are {}. Convert them with "
                                     "labels.astype(\"uint8\")",
                                     labels_.type()));
        }
        if (labels_.shape().size() != 1) {
            labels_.fail(fmt::format("expected one dimension, but there are {}", labels_.shape().size()));
        }
        if (labels_.shape().front() != shape.front()) {
            labels_.fail(fmt::format("there are {} labels, but {} samples", labels_.shape().front(), shape.front()));
        }
        header_ = {static_cast<std::int64_t>(shape.front()),
                   {shape.begin() + 1, shape.end()},
                   samples_.type() == "uint8" ? Element::ubyte : Element::float32};
    }

    void require_classes(std::size_t classes, core::Range samples) const override {
        std::vector<std::uint8_t> labels;
        for_each_piece(labels_, sizeof(std::int64_t), samples, [&](core::Range piece) {
            labels.resize(core::as_size(piece.size()));
            read_labels(piece, labels);
            data::require_classes(labels, piece.begin, classes, labels_.name());
        });
    }

    [[nodiscard]] std::size_t reading_bytes(std::int64_t rest) const override {
        return std::max(bytes_for_reading(samples_, header_.sample_bytes(), rest),
                        bytes_for_reading(labels_, sizeof(std::int64_t), header_.samples));
    }

    void read(core::Range samples, std::span<std::byte> elements, std::span<std::uint8_t> labels) override {
        read_labels(samples, labels);
        for_each_piece(samples_, header_.sample_bytes(), samples, [&](core::Range piece) {
            read_elements(piece, part_of(elements, samples, piece, header_.sample_bytes()),
                          part_of<const std::uint8_t>(labels, samples, piece, 1));
        });
    }

    std::uint64_t finish(core::Range rest) override {
        std::vector<std::uint8_t> labels(core::as_size(rest.size()));
        read_labels(rest, labels);
        std::vector<std::byte> elements;
        for_each_piece(samples_, header_.sample_bytes(), rest, [&](core::Range piece) {
            elements.resize(core::as_size(piece.size()) * header_.sample_bytes());
            read_elements(piece, elements, part_of<const std::uint8_t>(labels, rest, piece, 1));
        });
        return hash_;
    }

  private:
    void read_labels(core::Range samples, std::span<std::uint8_t> out) const {
        std::vector<std::int64_t> labels;
        for_each_piece(labels_, sizeof(std::int64_t), samples, [&](core::Range piece) {
            labels.resize(core::as_size(piece.size()));
            labels_.read(piece, std::span(labels));
            const auto bad = std::ranges::find_if(labels, [](std::int64_t label) {
                return label < 0 || label > std::numeric_limits<std::uint8_t>::max();
            });
            if (bad != labels.end()) {
                labels_.fail(fmt::format("sample {} has label {}; expected labels from 0 to 255",
                                         piece.begin + (bad - labels.begin()), *bad));
            }
            std::ranges::transform(labels, part_of(out, samples, piece, 1).begin(),
                                   [](std::int64_t label) { return static_cast<std::uint8_t>(label); });
        });
    }

    /// Reads elements, checks them, and adds their hashes.
    void read_elements(core::Range samples, std::span<std::byte> elements, std::span<const std::uint8_t> labels) {
        if (header_.element == Element::float32) {
            const std::span floats(reinterpret_cast<float*>(elements.data()), elements.size() / sizeof(float));
            samples_.read(samples, floats);
            const auto bad = std::ranges::find_if_not(floats, [](float value) { return std::isfinite(value); });
            if (bad != floats.end()) {
                samples_.fail(fmt::format("sample {} has a value that is not finite",
                                          samples.begin + (bad - floats.begin()) /
                                                              static_cast<std::int64_t>(header_.sample_size())));
            }
        } else {
            samples_.read(samples, std::span(reinterpret_cast<std::uint8_t*>(elements.data()), elements.size()));
        }
        for (std::size_t i = 0; i < labels.size(); ++i) {
            const auto number = static_cast<std::uint64_t>(samples.begin) + i;
            hash_ += core::hash64(elements.subspan(i * header_.sample_bytes(), header_.sample_bytes()),
                                  number << 8 | labels[i]);
        }
    }

    io::Hdf5Dataset samples_;
    io::Hdf5Dataset labels_;
    std::uint64_t hash_ = 0; ///< sum over the samples that were read
};

class Hdf5Source final : public Source {
  public:
    using Source::Source;
    [[nodiscard]] bool every_rank_reads() const noexcept override { return true; }
    [[nodiscard]] int readers_at_once() const noexcept override { return settings().readers; }
    [[nodiscard]] Origin origin() const override { return {"data.file", settings().file.string()}; }
    [[nodiscard]] std::unique_ptr<SetReader> open(Set set) const override {
        std::error_code error;
        if (std::filesystem::status(settings().file, error).type() == std::filesystem::file_type::not_found) {
            throw core::Error(
                core::ExitCode::bad_data,
                fmt::format("{}: no such file; expected an HDF5 file (data.file), relative to the working directory",
                            settings().file.string()));
        }
        return std::make_unique<Hdf5Set>(settings().file, set == Set::train ? "train" : "test");
    }
    [[nodiscard]] std::string name(const PerSet<std::uint64_t>& hashes) const override {
        return fmt::format("HDF5 data (hash {:016x}-{:016x})", hashes.train, hashes.test);
    }
};

} // namespace

std::unique_ptr<Source> make_hdf5_source(SourceSettings settings) {
    return std::make_unique<Hdf5Source>(std::move(settings));
}

} // namespace dtrain::data
