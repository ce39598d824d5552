#pragma once

#include "dtrain/core/error.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::config {

/// How often something is due: every `count` of `unit`.
struct Interval {
    enum class Unit { epochs, steps, seconds };
    std::int64_t count = 1;
    Unit unit = Unit::epochs;
};

/// One run, as written in an INI file and overridden on the command line. Types and ranges hold once it is loaded;
/// names that another module's table decides (data sources, optimizers, costs, reducers, layers) are kept as text and
/// checked by that table, which reports a bad one through `Config::invalid`. The fields are for reading: `resolved` and
/// `invalid` show the text that was loaded, whatever a field is changed to afterwards.
class Config {
  public:
    /// Every key at its default, as the table of keys in src/config/keys.cpp has it.
    Config();

    struct Data {
        std::string source;
        std::filesystem::path directory;
        std::int64_t train_samples = 0; ///< 0 = all, or as many as synthetic data have by default
        std::int64_t test_samples = 0;  ///< 0 = all
    } data;
    /// How training images are distorted, as data::Augmentation has it.
    struct Augment {
        double shift = 0;
        double rotate = 0;
        double scale = 0;
        double shear = 0;
        double elastic_alpha = 0;
        double elastic_sigma = 0;
    } augment;
    struct Model {
        std::string layers;
        std::string cost;
        std::uint64_t seed = 0;
    } model;
    struct Training {
        std::int64_t epochs = 0;
        std::int64_t batch_size = 0;  ///< samples per descent step over all ranks; 0 = `all`, the whole training set
        std::int64_t micro_batch = 0; ///< samples that a rank works on at once; 0 = the usual number
        std::string optimizer;
        double learning_rate = 0;
        double momentum = 0;
        double weight_decay = 0;
        std::string schedule;
        double warmup_epochs = 0;
        double decay_epochs = 0;
        double decay_factor = 0;
    } training;
    struct Parallel {
        int logical_shards = 0;
        std::string reducer;
        int threads = 0;
        double stall_timeout_seconds = 0; ///< 0 = off
        std::int64_t sync_every = 0;      ///< descent steps between two averagings
        int ranks_per_node = 0;           ///< ranks that form a node for the reducer; 0 = those that share a machine
        std::int64_t check_every = 0;     ///< steps between comparisons of the replicas' fingerprints; 0 = never
    } parallel;
    struct Output {
        std::filesystem::path directory;
        Interval checkpoint_every;
        int keep_checkpoints = 0; ///< 0 = all
        bool resume = false;      ///< `auto`, as against `never`
    } output;

    /// The file that was loaded; empty where the config came as text.
    [[nodiscard]] const std::filesystem::path& file() const noexcept { return file_; }

    /// An error (ExitCode::bad_config) about the value of `key` ("section.name"), naming where it was set (file or
    /// command line), the value, and `problem`, which says what is allowed.
    [[nodiscard]] core::Error invalid(std::string_view key, std::string_view problem) const;

    /// Throws `invalid` unless the value of `key` is among `names`; the message lists them, and the nearest one if
    /// the value looks like a typo.
    void require_one_of(std::string_view key, const std::vector<std::string>& names) const;

    /// The whole config as INI text, every key with its value; loading it gives the same config.
    [[nodiscard]] std::string resolved() const;

    friend Config parse(std::string_view ini, const std::string& origin, const std::vector<std::string>& overrides);
    friend Config parse_resolved(std::string_view ini, const std::string& origin);
    friend Config load(const std::filesystem::path& file, const std::vector<std::string>& overrides);

  private:
    struct Setting {
        std::string value;  ///< as the user wrote it, or the default
        std::string origin; ///< file name, "command line", or "default"
    };
    /// Of a text: the user's, where ~ is replaced and the habits of other languages are refused, or what `resolved`
    /// made, which is taken as it stands.
    enum class Author { user, dtrain };
    void set(std::string_view key, std::string value, std::string origin, Author author);
    void read(std::string_view ini, const std::string& origin, Author author);

    std::map<std::string, Setting, std::less<>> settings_; ///< every key, by "section.name"
    std::filesystem::path file_;
};

/// Parses INI text, then applies `overrides` of the form "--section.key=value". `origin` names the text in messages.
/// An override given twice counts as given last. Throws core::Error (bad_config) on syntax, unknown sections or keys
/// (naming the nearest), a key set twice in the text, wrong types and values out of range; a bad value in the text is
/// an error even if it is overridden.
[[nodiscard]] Config parse(std::string_view ini, const std::string& origin,
                           const std::vector<std::string>& overrides = {});

/// The config that `resolved` made this text of, in this process, another, or an earlier version: values that no user
/// may write today are taken as they stand.
[[nodiscard]] Config parse_resolved(std::string_view ini, const std::string& origin);

/// `parse` for a file. Throws core::Error (bad_config) also if it cannot be read or is larger than 1 MiB.
[[nodiscard]] Config load(const std::filesystem::path& file, const std::vector<std::string>& overrides = {});

} // namespace dtrain::config
