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

/// The types of elements that samples may have, by their codes in an IDX file.
enum class Element : std::uint8_t { ubyte = 0x08, float32 = 0x0D };
[[nodiscard]] constexpr std::size_t size_of(Element element) noexcept {
    return element == Element::ubyte ? 1 : 4;
}

enum class Set : std::uint32_t { train, test };
inline constexpr std::array sets{Set::train, Set::test};

/// The key of a config that limits a set.
[[nodiscard]] constexpr const char* limit_key(Set set) noexcept {
    return set == Set::train ? "data.train_samples" : "data.test_samples";
}

/// One of something for each set.
template <class T>
struct PerSet {
    T train{};
    T test{};
    [[nodiscard]] T& of(Set set) noexcept { return set == Set::train ? train : test; }
    [[nodiscard]] const T& of(Set set) const noexcept { return set == Set::train ? train : test; }
};

/// What is known of a set before its samples are read.
struct SetHeader {
    std::int64_t samples = 0;                ///< at least 1
    std::vector<std::size_t> sample_shape{}; ///< such as 28 × 28, or time × features
    Element element = Element::ubyte;
    bool labelled = true;

    [[nodiscard]] std::size_t sample_size() const noexcept; ///< product of sample_shape
    [[nodiscard]] std::size_t sample_bytes() const noexcept { return sample_size() * size_of(element); }
};

/// Reads one set, on one rank. Functions throw core::Error (bad_data) unless they say otherwise.
class SetReader {
  public:
    virtual ~SetReader() = default;
    [[nodiscard]] const SetHeader& header() const noexcept { return header_; }

    /// Throws unless all labels are below `classes`: an error of the data, or of the key "model.layers" where the data
    /// cannot be wrong.
    virtual void require_classes(std::size_t classes) const = 0;
    /// Reads `samples`: their elements, bytes or finite floats in this machine's order of bytes, and their labels,
    /// unless there are none. Ranges ascend from one call to the next and do not overlap.
    virtual void read(core::Range samples, std::span<std::byte> elements, std::span<std::uint8_t> labels) = 0;
    /// Once, in the end: validates what was not read as well, and returns a hash of the whole set; 0 where a name alone
    /// tells what the data are.
    virtual std::uint64_t finish() = 0;

  protected:
    SetHeader header_;
};

/// `problem` of the value of a config's key ("section.name"), as core::Error (bad_config).
[[nodiscard]] core::Error invalid_setting(std::string_view key, std::string_view problem);

struct SourceSettings {
    std::filesystem::path directory{};
    PerSet<std::int64_t> limits{}; ///< how many samples are used; 0 = all
    /// The error about the value of a key: of those that know where it was set, or else without that.
    std::function<core::Error(std::string_view key, std::string_view problem)> invalid = invalid_setting;
};

/// Where samples come from. Making one touches no file.
class Source {
  public:
    explicit Source(SourceSettings settings) : settings_(std::move(settings)) {}
    virtual ~Source() = default;
    [[nodiscard]] const SourceSettings& settings() const noexcept { return settings_; }

    /// Whether each rank reads its own samples, where any of them is at hand everywhere, or rank 0 reads them all and
    /// hands them out, where they have to be read one after the other.
    [[nodiscard]] virtual bool every_rank_reads() const noexcept = 0;
    /// The folder of the files that are read; empty if there are none.
    [[nodiscard]] virtual std::filesystem::path folder() const = 0;
    /// The reader must not outlive the source. Throws core::Error (bad_data).
    [[nodiscard]] virtual std::unique_ptr<SetReader> open(Set set) const = 0;
    /// What the data are called, from the hashes that the sets' readers gave in the end. Runs go on from a checkpoint
    /// with data of the same name alone.
    [[nodiscard]] virtual std::string name(const PerSet<std::uint64_t>& hashes) const = 0;

  private:
    SourceSettings settings_;
};

/// The names of sources, as a config has them.
[[nodiscard]] std::vector<std::string> source_names();
/// Throws std::out_of_range if there is no source of that name.
[[nodiscard]] std::unique_ptr<Source> make_source(std::string_view name, SourceSettings settings);

} // namespace dtrain::data
