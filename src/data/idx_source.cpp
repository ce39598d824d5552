#include "dtrain/core/hash.hpp"
#include "dtrain/data/idx.hpp"

#include "idx_files.hpp"
#include "sources.hpp"
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

namespace dtrain::data {
namespace {

constexpr std::size_t skip_bytes = std::size_t{4} << 20;

struct KnownDataset {
    const char* name;
    PerSet<std::uint64_t> hashes;
};

/// XXH3-64 over the labels and then the samples, as bytes of the files without headers.
constexpr std::array<KnownDataset, 2> known_datasets{{
    {"MNIST", {0x7213478eab378a79, 0x7438a49d69dd7e78}},
    {"Fashion-MNIST", {0xa68da56b9fd20732, 0x2e6aea666e9a55b6}},
}};

/// Reads all labels at once, but samples only on request, because their file may be a stream.
class IdxSet final : public SetReader {
  public:
    IdxSet(const std::filesystem::path& samples_file, std::filesystem::path labels_file)
        : samples_(samples_file), labels_file_(std::move(labels_file)) {
        const std::vector<std::size_t>& dimensions = samples_.dimensions();
        if (dimensions.size() < 2) {
            samples_.fail(
                !labels_file_.empty() && IdxReader(labels_file_).dimensions().size() > 1
                    ? fmt::format("this file contains labels, and {} contains samples. Swap the two files",
                                  labels_file_.string())
                    : "the file has one dimension, like labels; samples need at least two: number x elements");
        }
        if (samples_.size() == 0) {
            samples_.fail("the file contains no samples");
        }
        header_ = {static_cast<std::int64_t>(dimensions.front()),
                   {dimensions.begin() + 1, dimensions.end()},
                   samples_.element(),
                   !labels_file_.empty()};
        if (header_.labelled) {
            read_labels();
        }
    }

    void require_classes(std::size_t classes, core::Range samples) const override {
        if (header_.labelled) {
            data::require_classes(labels_of(samples), samples.begin, classes, labels_file_.string());
        }
    }

    void read(core::Range samples, std::span<std::byte> elements, std::span<std::uint8_t> labels) override {
        skip_to(samples.begin);
        take(elements);
        if (header_.labelled) {
            std::ranges::copy(labels_of(samples), labels.begin());
        }
    }

    std::uint64_t finish(core::Range rest) override {
        skip_to(rest.end);
        samples_.expect_end();
        return hash_.digest();
    }

  private:
    [[nodiscard]] std::span<const std::uint8_t> labels_of(core::Range samples) const {
        return std::span(labels_).subspan(core::as_size(samples.begin), core::as_size(samples.size()));
    }

    /// Reads the next elements, converts floats, and updates the hash.
    void take(std::span<std::byte> elements) {
        samples_.read(elements);
        hash_.update(elements);
        if (header_.element == Element::float32) {
            convert_floats(elements);
        }
        bytes_taken_ += elements.size();
    }

    /// Converts big-endian floats to native byte order.
    void convert_floats(std::span<std::byte> elements) {
        for (std::size_t i = 0; i < elements.size(); i += sizeof(float)) {
            std::uint32_t bits = 0;
            std::memcpy(&bits, &elements[i], sizeof bits);
            if constexpr (std::endian::native == std::endian::little) {
                bits = __builtin_bswap32(bits);
            }
            if (!std::isfinite(std::bit_cast<float>(bits))) {
                samples_.fail(fmt::format("sample {} has a value that is not finite",
                                          (bytes_taken_ + i) / header_.sample_bytes()));
            }
            std::memcpy(&elements[i], &bits, sizeof bits);
        }
    }

    /// Reads and drops everything before `sample`, so that the whole file is validated and hashed.
    void skip_to(std::int64_t sample) {
        std::size_t left = static_cast<std::size_t>(sample) * header_.sample_bytes() - bytes_taken_;
        std::vector<std::byte> skipped(std::min(left, skip_bytes));
        while (left > 0) {
            skipped.resize(std::min(left, skip_bytes));
            take(skipped);
            left -= skipped.size();
        }
    }

    void read_labels() {
        IdxReader reader(labels_file_);
        if (reader.dimensions().size() != 1 || reader.element() != Element::ubyte) {
            reader.fail(fmt::format(
                "expected labels (1 dimension of unsigned bytes), but dimensions = {}, elements = {}",
                reader.dimensions().size(), reader.element() == Element::ubyte ? "unsigned bytes" : "floats"));
        }
        const auto samples = static_cast<std::size_t>(header_.samples);
        if (reader.size() != samples) {
            reader.fail(fmt::format("the file has {} labels, but there are {} samples", reader.size(), samples));
        }
        while (labels_.size() < samples) {
            const std::size_t known = labels_.size();
            labels_.resize(std::min(samples, known + skip_bytes));
            reader.read(std::as_writable_bytes(std::span(labels_)).subspan(known));
        }
        reader.expect_end();
        hash_.update(std::as_bytes(std::span(labels_)));
    }

    IdxReader samples_;
    std::filesystem::path labels_file_; ///< empty if there are no labels
    std::vector<std::uint8_t> labels_;
    std::size_t bytes_taken_ = 0; ///< bytes of elements that were read so far
    core::Hash64 hash_;
};

class IdxSource final : public Source {
  public:
    using Source::Source;
    [[nodiscard]] bool every_rank_reads() const noexcept override { return false; }
    [[nodiscard]] Origin origin() const override { return {"data.directory", settings().directory.string()}; }
    [[nodiscard]] std::unique_ptr<SetReader> open(Set set) const override {
        const SetFiles files = find_files(settings().directory, set);
        return open_idx_pair(files.samples, files.labels);
    }
    [[nodiscard]] std::string name(const PerSet<std::uint64_t>& hashes) const override {
        for (const KnownDataset& known : known_datasets) {
            if (known.hashes.train == hashes.train && known.hashes.test == hashes.test) {
                return known.name;
            }
        }
        return fmt::format("unknown IDX data (hash {:016x}-{:016x})", hashes.train, hashes.test);
    }
};

} // namespace

std::unique_ptr<SetReader> open_idx_pair(const std::filesystem::path& samples, const std::filesystem::path& labels) {
    return std::make_unique<IdxSet>(samples, labels);
}

std::unique_ptr<Source> make_idx_source(SourceSettings settings) {
    return std::make_unique<IdxSource>(std::move(settings));
}

} // namespace dtrain::data
