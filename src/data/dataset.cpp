#include "dtrain/data/dataset.hpp"

#include "dtrain/core/hash.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <optional>

namespace dtrain::data {
namespace {

constexpr std::size_t piece_bytes = std::size_t{4} << 20;
constexpr const char* too_few_dimensions = "samples need at least two dimensions: their number x elements";
constexpr const char* no_samples = "holds no samples";

struct KnownSplit {
    const char* name;
    std::uint64_t train;
    std::uint64_t test;
};

/// XXH3-64 over labels, then samples, as the files have them, headers left out.
constexpr std::array<KnownSplit, 2> known_datasets{{
    {"MNIST", 0x7213478eab378a79, 0x7438a49d69dd7e78},
    {"Fashion-MNIST", 0xa68da56b9fd20732, 0x2e6aea666e9a55b6},
}};

std::size_t product(std::span<const std::size_t> dimensions) {
    return std::accumulate(dimensions.begin(), dimensions.end(), std::size_t{1}, std::multiplies<>());
}

/// Samples and labels side by side, on the rank that reads them.
class PairReader {
  public:
    PairReader(const std::filesystem::path& samples_file, const std::filesystem::path& labels, int classes)
        : reader_(samples_file), classes_(classes) {
        const std::vector<std::size_t>& dimensions = reader_.dimensions();
        if (dimensions.size() < 2) {
            reader_.fail(too_few_dimensions);
        }
        sample_shape_.assign(dimensions.begin() + 1, dimensions.end());
        sample_size_ = product(sample_shape_);
        if (reader_.size() == 0) {
            reader_.fail(no_samples);
        }
        if (!labels.empty()) {
            read_labels(labels);
        }
    }

    [[nodiscard]] std::size_t samples() const { return reader_.dimensions().front(); }
    [[nodiscard]] Element element() const { return reader_.element(); }
    [[nodiscard]] std::size_t sample_size() const { return sample_size_; }
    [[nodiscard]] const std::vector<std::size_t>& sample_shape() const { return sample_shape_; }
    [[nodiscard]] std::span<const std::byte> labels() const { return labels_; }
    [[nodiscard]] std::uint64_t digest() const { return hash_.digest(); }

    /// The next elements, a whole number of them, in this machine's order of bytes.
    void read(std::span<std::byte> elements) {
        reader_.read(elements);
        hash_.update(elements);
        if (element() == Element::float32) {
            take_floats(elements);
        }
        elements_read_ += elements.size() / size_of(element());
    }

    /// Reads what is left, so that the whole file is validated and hashed whatever part is used.
    void skip_rest(std::span<std::byte> scratch) {
        for (std::size_t left = (reader_.size() - elements_read_) * size_of(element()); left > 0;) {
            const std::size_t piece = std::min(left, scratch.size());
            read(scratch.first(piece));
            left -= piece;
        }
        reader_.expect_end();
    }

  private:
    /// Turns big-endian floats into this machine's.
    void take_floats(std::span<std::byte> elements) {
        for (std::size_t i = 0; i < elements.size(); i += sizeof(float)) {
            std::uint32_t bits = 0;
            std::memcpy(&bits, &elements[i], sizeof bits);
            if constexpr (std::endian::native == std::endian::little) {
                bits = __builtin_bswap32(bits);
            }
            if (!std::isfinite(std::bit_cast<float>(bits))) {
                reader_.fail(fmt::format("sample {} holds a value that is not finite",
                                         (elements_read_ + i / sizeof(float)) / sample_size_));
            }
            std::memcpy(&elements[i], &bits, sizeof bits);
        }
    }

    void read_labels(const std::filesystem::path& file) {
        IdxReader reader(file);
        if (reader.dimensions().size() != 1 || reader.element() != Element::ubyte) {
            reader.fail("labels need one dimension, of unsigned bytes");
        }
        if (reader.size() != samples()) {
            reader.fail(fmt::format("{} labels for {} samples", reader.size(), samples()));
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

    IdxReader reader_;
    int classes_;
    std::vector<std::size_t> sample_shape_;
    std::size_t sample_size_ = 0;
    std::size_t elements_read_ = 0;
    std::vector<std::byte> labels_;
    core::Hash64 hash_;
};

struct SplitFiles {
    const char* samples;
    const char* labels;
};
constexpr SplitFiles train_files{train_samples, train_labels};
constexpr SplitFiles test_files{test_samples, test_labels};

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
        std::array<std::int64_t, 11> header{}; // samples, element type, number of dimensions, dimensions of one sample
        mpi::together(communicator_, [&] {
            if (!communicator_.is_root()) {
                return;
            }
            reader.emplace(find_samples(directory, files.samples), find_idx(directory, files.labels), classes);
            const auto available = static_cast<std::int64_t>(reader->samples());
            header[0] = limit == 0 ? available : std::min(limit, available);
            header[1] = static_cast<std::int64_t>(reader->element());
            header[2] = static_cast<std::int64_t>(reader->sample_shape().size());
            std::copy(reader->sample_shape().begin(), reader->sample_shape().end(), header.begin() + 3);
        });
        communicator_.broadcast(std::span(header));

        LoadedSplit loaded;
        Split& split = loaded.split;
        split.total = header[0];
        split.element = static_cast<Element>(header[1]);
        split.sample_shape.assign(header.begin() + 3, header.begin() + 3 + header[2]);
        split.sample_size = product(split.sample_shape);
        split.local = samples_of(communicator_.rank(), split.total);
        mpi::together(communicator_, [&] {
            split.elements =
                core::Buffer<std::byte>(static_cast<std::size_t>(split.local.size()) * split.sample_bytes());
            split.labels = core::Buffer<std::uint8_t>(static_cast<std::size_t>(split.local.size()));
        });
        mpi::together(communicator_, [&] {
            if (communicator_.is_root()) {
                hand_out(*reader, split);
                loaded.digest = reader->digest();
            } else {
                receive(std::as_writable_bytes(split.labels.values())) && receive(split.elements.values());
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
                const std::size_t bytes = labels.size() * own.sample_bytes();
                if (rank == 0) {
                    std::copy(labels.begin(), labels.end(), std::as_writable_bytes(own.labels.values()).begin());
                    reader.read(own.elements.values());
                    continue;
                }
                send(labels, rank);
                for (std::size_t sent = 0; sent < bytes;) {
                    const auto piece = scratch_.values().first(std::min(bytes - sent, scratch_.size()));
                    reader.read(piece);
                    send(piece, rank);
                    sent += piece.size();
                }
            }
            reader.skip_rest(scratch_.values());
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
    const IdxReader train(find_samples(directory, train_files.samples));
    const IdxReader test(find_samples(directory, test_files.samples));
    if (train.dimensions().size() < 2) {
        train.fail(too_few_dimensions);
    }
    if (train.size() == 0) {
        train.fail(no_samples);
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
    split.element = reader.element();
    split.labels = core::Buffer<std::uint8_t>(reader.labels().size());
    std::copy(reader.labels().begin(), reader.labels().end(), std::as_writable_bytes(split.labels.values()).begin());
    split.elements = core::Buffer<std::byte>(reader.samples() * split.sample_bytes());
    reader.read(split.elements.values());
    reader.skip_rest({});
    return split;
}

void Split::fetch(std::int64_t local_index, std::span<float> out) const noexcept {
    const std::byte* const first = elements.data() + static_cast<std::size_t>(local_index) * sample_bytes();
    switch (element) {
    case Element::ubyte:
        to_unit_interval({reinterpret_cast<const std::uint8_t*>(first), sample_size}, out);
        break;
    case Element::float32:
        std::memcpy(out.data(), first, sample_bytes());
        break;
    }
}

void to_unit_interval(std::span<const std::uint8_t> bytes, std::span<float> out) noexcept {
    // The reciprocal in two parts: one alone is an ulp off for some values, and dividing takes several times as long.
    constexpr float high = 1.0F / 255.0F;
    constexpr auto low = static_cast<float>(1.0 / 255.0 - static_cast<double>(high));
    const std::uint8_t* const in = bytes.data();
    float* const result = out.data();
    const std::size_t size = out.size();
    for (std::size_t i = 0; i < size; ++i) {
        const auto value = static_cast<float>(in[i]);
        result[i] = std::fma(value, high, value * low);
    }
}

} // namespace dtrain::data
