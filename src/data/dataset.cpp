#include "dtrain/data/dataset.hpp"

#include "dtrain/core/hash.hpp"
#include "dtrain/data/idx.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

namespace dtrain::data {
namespace {

constexpr std::size_t piece_bytes = std::size_t{4} << 20;

struct KnownSplit {
    const char* name;
    std::uint64_t train;
    std::uint64_t test;
};

/// XXH3-64 over labels, then images, headers left out.
constexpr std::array<KnownSplit, 2> known_datasets{{
    {"MNIST", 0x7213478eab378a79, 0x7438a49d69dd7e78},
    {"Fashion-MNIST", 0xa68da56b9fd20732, 0x2e6aea666e9a55b6},
}};

std::size_t product(std::span<const std::size_t> dimensions) {
    return std::accumulate(dimensions.begin(), dimensions.end(), std::size_t{1}, std::multiplies<>());
}

/// Images and labels side by side, on the rank that reads them.
class PairReader {
  public:
    PairReader(const std::filesystem::path& images, const std::filesystem::path& labels, int classes)
        : images_(images), classes_(classes) {
        const std::vector<std::size_t>& dimensions = images_.dimensions();
        if (dimensions.size() < 2) {
            images_.fail("images need at least two dimensions: samples x pixels");
        }
        sample_shape_.assign(dimensions.begin() + 1, dimensions.end());
        sample_size_ = product(sample_shape_);
        if (samples() == 0 || sample_size_ == 0) {
            images_.fail("holds no samples");
        }
        if (!labels.empty()) {
            read_labels(labels);
        }
    }

    [[nodiscard]] std::size_t samples() const { return images_.dimensions().front(); }
    [[nodiscard]] std::size_t sample_size() const { return sample_size_; }
    [[nodiscard]] const std::vector<std::size_t>& sample_shape() const { return sample_shape_; }
    [[nodiscard]] std::span<const std::byte> labels() const { return labels_; }
    [[nodiscard]] std::uint64_t digest() const { return hash_.digest(); }

    void read_pixels(std::span<std::byte> pixels) {
        images_.read(pixels);
        hash_.update(pixels);
    }

    /// Reads the samples after `used`, so that the whole file is validated and hashed whatever part is used.
    void skip_rest(std::size_t used, std::span<std::byte> scratch) {
        for (std::size_t left = (samples() - used) * sample_size_; left > 0;) {
            const std::size_t piece = std::min(left, scratch.size());
            read_pixels(scratch.first(piece));
            left -= piece;
        }
        images_.expect_end();
    }

  private:
    void read_labels(const std::filesystem::path& file) {
        IdxReader reader(file);
        if (reader.dimensions().size() != 1) {
            reader.fail("labels need one dimension");
        }
        if (reader.size() != samples()) {
            reader.fail(fmt::format("{} labels for {} images", reader.size(), samples()));
        }
        while (labels_.size() < reader.size()) {
            const std::size_t known = labels_.size();
            labels_.resize(std::min(reader.size(), known + piece_bytes));
            reader.read(std::span(labels_).subspan(known));
        }
        reader.expect_end();
        const auto bad = std::find_if(labels_.begin(), labels_.end(),
                                      [this](std::byte label) { return std::to_integer<int>(label) >= classes_; });
        if (bad != labels_.end()) {
            reader.fail(fmt::format("label {} of sample {}, but the network tells {} classes apart (0 to {})",
                                    std::to_integer<int>(*bad), bad - labels_.begin(), classes_, classes_ - 1));
        }
        hash_.update(labels_);
    }

    IdxReader images_;
    int classes_;
    std::vector<std::size_t> sample_shape_;
    std::size_t sample_size_ = 0;
    std::vector<std::byte> labels_;
    core::Hash64 hash_;
};

struct SplitFiles {
    const char* images;
    const char* labels;
};
constexpr SplitFiles train_files{"train-images-idx3-ubyte", "train-labels-idx1-ubyte"};
constexpr SplitFiles test_files{test_images, test_labels};

struct LoadedSplit {
    Split split;
    std::uint64_t digest = 0;
};

class SplitLoader {
  public:
    SplitLoader(std::int64_t shards, std::span<const core::Range> shards_of_rank, const mpi::Communicator& communicator)
        : shards_(shards), shards_of_rank_(shards_of_rank), communicator_(communicator),
          scratch_(communicator.is_root() ? piece_bytes : 0) {}

    LoadedSplit load(const std::filesystem::path& directory, const SplitFiles& files, std::int64_t limit, int classes) {
        std::optional<PairReader> reader;
        std::array<std::int64_t, 11> header{}; // samples, number of dimensions, dimensions of one sample
        mpi::together(communicator_, [&] {
            if (!communicator_.is_root()) {
                return;
            }
            reader.emplace(find_idx(directory, files.images), find_idx(directory, files.labels), classes);
            const auto available = static_cast<std::int64_t>(reader->samples());
            header[0] = limit == 0 ? available : std::min(limit, available);
            header[1] = static_cast<std::int64_t>(reader->sample_shape().size());
            std::copy(reader->sample_shape().begin(), reader->sample_shape().end(), header.begin() + 2);
        });
        communicator_.broadcast(std::span(header));

        LoadedSplit loaded;
        Split& split = loaded.split;
        split.total = header[0];
        split.sample_shape.assign(header.begin() + 2, header.begin() + 2 + header[1]);
        split.sample_size = product(split.sample_shape);
        split.local = samples_of(communicator_.rank(), split.total);
        mpi::together(communicator_, [&] {
            split.pixels = core::Buffer<std::uint8_t>(static_cast<std::size_t>(split.local.size()) * split.sample_size);
            split.labels = core::Buffer<std::uint8_t>(static_cast<std::size_t>(split.local.size()));
        });
        mpi::together(communicator_, [&] {
            if (communicator_.is_root()) {
                hand_out(*reader, split);
                loaded.digest = reader->digest();
            } else {
                receive(std::as_writable_bytes(split.labels.values())) &&
                    receive(std::as_writable_bytes(split.pixels.values()));
            }
        });
        return loaded;
    }

  private:
    [[nodiscard]] core::Range samples_of(int rank, std::int64_t total) const {
        return samples_of_shards(total, shards_, shards_of_rank_[static_cast<std::size_t>(rank)]);
    }

    /// Ranks hold ascending parts of the file, so reading it through once serves them one after the other. If reading
    /// fails, an empty message releases those that still wait.
    void hand_out(PairReader& reader, Split& own) {
        int rank = 0;
        try {
            for (; rank < communicator_.size(); ++rank) {
                const core::Range part = samples_of(rank, own.total);
                const auto labels = reader.labels().subspan(static_cast<std::size_t>(part.begin),
                                                            static_cast<std::size_t>(part.size()));
                const std::size_t bytes = labels.size() * own.sample_size;
                if (rank == 0) {
                    std::copy(labels.begin(), labels.end(), std::as_writable_bytes(own.labels.values()).begin());
                    reader.read_pixels(std::as_writable_bytes(own.pixels.values()));
                    continue;
                }
                send(labels, rank);
                for (std::size_t sent = 0; sent < bytes;) {
                    const auto piece = scratch_.values().first(std::min(bytes - sent, scratch_.size()));
                    reader.read_pixels(piece);
                    send(piece, rank);
                    sent += piece.size();
                }
            }
            reader.skip_rest(static_cast<std::size_t>(own.total), scratch_.values());
        } catch (const core::Error&) {
            for (; rank < communicator_.size(); ++rank) {
                if (rank > 0 && samples_of(rank, own.total).size() > 0) {
                    communicator_.send({}, rank);
                }
            }
            throw;
        }
    }

    void send(std::span<const std::byte> bytes, int rank) {
        for (std::size_t sent = 0; sent < bytes.size(); sent += piece_bytes) {
            communicator_.send(bytes.subspan(sent, std::min(piece_bytes, bytes.size() - sent)), rank);
        }
    }

    /// False if rank 0 gave up.
    bool receive(std::span<std::byte> bytes) {
        while (!bytes.empty()) {
            const std::size_t got = communicator_.receive(bytes.first(std::min(piece_bytes, bytes.size())), 0);
            if (got == 0) {
                return false;
            }
            bytes = bytes.subspan(got);
        }
        return true;
    }

    std::int64_t shards_;
    std::span<const core::Range> shards_of_rank_;
    const mpi::Communicator& communicator_;
    core::Buffer<std::byte> scratch_;
};

std::string identify(std::uint64_t train, std::uint64_t test) {
    for (const KnownSplit& known : known_datasets) {
        if (known.train == train && known.test == test) {
            return known.name;
        }
    }
    return fmt::format("unknown IDX data (hash {:016x}-{:016x})", train, test);
}

} // namespace

core::Range samples_of_shards(std::int64_t samples, std::int64_t shards, core::Range part) noexcept {
    const std::int64_t begin = core::partition(samples, shards, part.begin).begin;
    return {begin, part.empty() ? begin : core::partition(samples, shards, part.end - 1).end};
}

Dataset load_dataset(const std::filesystem::path& directory, const Limits& limits, int classes, std::int64_t shards,
                     std::span<const core::Range> shards_of_rank, const mpi::Communicator& communicator) {
    SplitLoader loader(shards, shards_of_rank, communicator);
    LoadedSplit train = loader.load(directory, train_files, limits.train_samples, classes);
    LoadedSplit test = loader.load(directory, test_files, limits.test_samples, classes);
    if (train.split.sample_shape != test.split.sample_shape) {
        throw mpi::AgreedError(core::ExitCode::bad_data,
                               fmt::format("{}: training samples are {}, test samples {}", directory.string(),
                                           fmt::join(train.split.sample_shape, " x "),
                                           fmt::join(test.split.sample_shape, " x ")));
    }
    std::string name = communicator.broadcast(identify(train.digest, test.digest));
    return {std::move(train.split), std::move(test.split), std::move(name)};
}

DatasetHeader read_header(const std::filesystem::path& directory) {
    const IdxReader train(find_idx(directory, train_files.images));
    const IdxReader test(find_idx(directory, test_files.images));
    if (train.dimensions().size() < 2) {
        train.fail("images need at least two dimensions: samples x pixels");
    }
    return {{train.dimensions().begin() + 1, train.dimensions().end()},
            static_cast<std::int64_t>(train.dimensions().front()),
            static_cast<std::int64_t>(test.dimensions().front())};
}

Split load_split(const std::filesystem::path& images, const std::filesystem::path& labels, int classes) {
    PairReader reader(images, labels, classes);
    Split split;
    split.total = static_cast<std::int64_t>(reader.samples());
    split.local = {0, split.total};
    split.sample_shape = reader.sample_shape();
    split.sample_size = reader.sample_size();
    split.labels = core::Buffer<std::uint8_t>(reader.labels().size());
    std::copy(reader.labels().begin(), reader.labels().end(), std::as_writable_bytes(split.labels.values()).begin());
    split.pixels = core::Buffer<std::uint8_t>(reader.samples() * reader.sample_size());
    reader.read_pixels(std::as_writable_bytes(split.pixels.values()));
    reader.skip_rest(reader.samples(), {});
    return split;
}

void to_unit_interval(std::span<const std::uint8_t> pixels, std::span<float> out) noexcept {
    // The reciprocal in two parts: one alone is an ulp off for some values, and dividing takes several times as long.
    constexpr float high = 1.0F / 255.0F;
    constexpr auto low = static_cast<float>(1.0 / 255.0 - static_cast<double>(high));
    const std::uint8_t* const in = pixels.data();
    float* const result = out.data();
    const std::size_t size = out.size();
    for (std::size_t i = 0; i < size; ++i) {
        const auto value = static_cast<float>(in[i]);
        result[i] = std::fma(value, high, value * low);
    }
}

} // namespace dtrain::data
