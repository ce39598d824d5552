#pragma once

#include "dtrain/core/error.hpp"
#include "dtrain/core/partition.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dtrain::data {

/// The element types of samples. The values are the type codes of the IDX format.
enum class Element : std::uint8_t { ubyte = 0x08, float32 = 0x0D };
[[nodiscard]] constexpr std::size_t size_of(Element element) noexcept {
    return element == Element::ubyte ? 1 : 4;
}

/// The sets that a source has. The validation set of a run is a part of the source's training set.
enum class Set : std::uint32_t { train, test };
inline constexpr std::array sets{Set::train, Set::test};

/// The config key that limits the number of samples of a set.
[[nodiscard]] constexpr const char* limit_key(Set set) noexcept {
    return set == Set::train ? "data.train_samples" : "data.test_samples";
}

/// One value for each set.
template <class T>
struct PerSet {
    T train{};
    T test{};
    [[nodiscard]] T& of(Set set) noexcept { return set == Set::train ? train : test; }
    [[nodiscard]] const T& of(Set set) const noexcept { return set == Set::train ? train : test; }
};

/// The properties of a set that are known before its samples are read.
struct SetHeader {
    std::int64_t samples = 0;                ///< at least 1
    std::vector<std::size_t> sample_shape{}; ///< such as 28 × 28, or time × features
    Element element = Element::ubyte;
    bool labelled = true;

    [[nodiscard]] std::size_t sample_size() const noexcept; ///< product of sample_shape
    [[nodiscard]] std::size_t sample_bytes() const noexcept { return sample_size() * size_of(element); }
    friend bool operator==(const SetHeader&, const SetHeader&) = default;
};

/// Reads one set on one rank; nothing is collective. Functions throw core::Error (bad_data) unless noted otherwise.
class SetReader {
  public:
    virtual ~SetReader() = default;
    [[nodiscard]] const SetHeader& header() const noexcept { return header_; }

    /// Throws unless the labels of `samples` are below `classes`. The error is about the data, or about the key
    /// "model.layers" (bad_config) if the source always has correct labels.
    virtual void require_classes(std::size_t classes, core::Range samples) const = 0;
    /// An upper bound of the memory that reading needs for a while, beyond the samples and a few megabytes, if finish()
    /// validates `rest` samples.
    [[nodiscard]] virtual std::size_t reading_bytes(std::int64_t rest) const {
        static_cast<void>(rest);
        return 0;
    }
    /// Reads the elements of `samples` (bytes, or finite floats in native byte order) and their labels, if there are
    /// any. `elements` has samples.size() × sample_bytes() bytes, `labels` has samples.size(). Ranges must ascend from
    /// call to call and must not overlap.
    virtual void read(core::Range samples, std::span<std::byte> elements, std::span<std::uint8_t> labels) = 0;
    /// Call it once, as the last function. Validates the samples `rest`, which were not read. Returns a hash of all
    /// samples that this reader read or validated, or 0 if the name of the source alone identifies the data. If every
    /// rank reads, and each sample of the set is read or validated on one rank, the sum of the ranks' hashes does not
    /// depend on how the samples are divided.
    virtual std::uint64_t finish(core::Range rest) = 0;

  protected:
    SetHeader header_;
};

/// A core::Error (bad_config) about the value of a config key ("section.name").
[[nodiscard]] core::Error invalid_setting(std::string_view key, std::string_view problem);

struct SourceSettings {
    std::filesystem::path directory{}; ///< of the source "idx"
    std::filesystem::path file{};      ///< of the source "hdf5"
    PerSet<std::int64_t> limits{};     ///< number of samples to use; 0 = all
    std::int64_t validation = 0;       ///< the last so many of the training samples are the validation set
    int readers = 0;                   ///< of the source "hdf5": see Source::readers_at_once()
    /// Makes the error about the value of a key. A config's function also names the place where the key was set.
    std::function<core::Error(std::string_view key, std::string_view problem)> invalid = invalid_setting;
};

/// What names the data in a config, for messages.
struct Origin {
    const char* key; ///< "data.directory"
    std::string value;
};

/// A source of samples. Constructing a Source opens no file.
class Source {
  public:
    explicit Source(SourceSettings settings) : settings_(std::move(settings)) {}
    virtual ~Source() = default;
    [[nodiscard]] const SourceSettings& settings() const noexcept { return settings_; }

    /// True if each rank can read its own samples directly. False if samples must be read sequentially: then rank 0
    /// reads them all and sends them to the other ranks.
    [[nodiscard]] virtual bool every_rank_reads() const noexcept = 0;
    /// If every rank reads: how many ranks may read at the same time, for file systems that become slow or fail with
    /// more. 0: all. It must be the same on all ranks.
    [[nodiscard]] virtual int readers_at_once() const noexcept { return 0; }
    [[nodiscard]] virtual Origin origin() const = 0;
    /// Opens a set. The reader must not outlive the source. Throws core::Error (bad_data).
    [[nodiscard]] virtual std::unique_ptr<SetReader> open(Set set) const = 0;
    /// The name of the data, from the hashes that SetReader::finish() returned, added up over the ranks that read. A
    /// run resumes from a checkpoint only if the name is the same.
    [[nodiscard]] virtual std::string name(const PerSet<std::uint64_t>& hashes) const = 0;

  private:
    SourceSettings settings_;
};

/// The values of the config key data.source.
[[nodiscard]] std::vector<std::string> source_names();
/// Throws std::out_of_range if there is no source of that name.
[[nodiscard]] std::unique_ptr<Source> make_source(std::string_view name, SourceSettings settings);

} // namespace dtrain::data
