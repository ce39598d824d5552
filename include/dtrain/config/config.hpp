#pragma once

#include "dtrain/core/error.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dtrain::config {

/// An interval between repeated actions: `count` units.
struct Interval {
    enum class Unit { epochs, steps, seconds };
    std::int64_t count = 1;
    Unit unit = Unit::epochs;
};

/// The config of a run: an INI file with overrides from the command line. Loading checks types and ranges. Names that
/// another module defines (data sources, optimizers, costs, reducers, layers) are stored as text. That module checks
/// them and reports an unknown name with `Config::invalid`. Treat the fields as read-only: `resolved` and `invalid`
/// show the text that was loaded, even if a field was changed afterwards.
class Config {
  public:
    /// Sets every key to its default, from the table in src/config/keys.cpp.
    Config();

    struct Data {
        std::string source;
        std::filesystem::path directory;     ///< of the source "idx"
        std::filesystem::path file;          ///< of the source "hdf5"
        std::int64_t train_samples = 0;      ///< 0 = all; for synthetic data, 0 = the source's default number
        std::int64_t test_samples = 0;       ///< likewise
        std::int64_t validation_samples = 0; ///< the last so many of the training samples
        int readers = 0;                     ///< ranks that read the file of the source "hdf5" at once; 0 = all
    } data;
    /// The transformations of training images, in the units of data::Augmentation.
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
        std::optional<std::filesystem::path> initial; ///< a checkpoint, or a folder with checkpoints
    } model;
    struct Training {
        std::int64_t epochs = 0;
        std::int64_t batch_size = 0;  ///< samples per training step over all ranks; 0 = `all`, the whole training set
        std::int64_t micro_batch = 0; ///< samples that a rank processes at once; 0 = automatic
        std::string precision;        ///< of the factors of products
        std::string optimizer;
        double learning_rate = 0;
        double momentum = 0;
        double weight_decay = 0;
        double clip_norm = 0; ///< 0 = off
        std::string schedule;
        double warmup_epochs = 0;
        double decay_epochs = 0;
        double decay_factor = 0;
        std::int64_t patience = 0; ///< epochs without a better score after which training ends; 0 = all epochs
    } training;
    struct Parallel {
        int logical_shards = 0;
        std::string reducer;
        bool compressed = false; ///< whether gradients are rounded to bfloat16
        std::string products;    ///< engine for matrix products
        int threads = 0;
        double stall_timeout_seconds = 0; ///< 0 = off
        std::int64_t sync_every = 0;      ///< training steps between two averagings; 1 = no local SGD
        int ranks_per_node = 0;           ///< ranks that form a node for the reducer; 0 = all ranks of a machine
        std::int64_t check_every = 0;     ///< steps between comparisons of the ranks' fingerprints; 0 = never
    } parallel;
    struct Output {
        std::filesystem::path directory;
        Interval checkpoint_every;
        int keep_checkpoints = 0; ///< 0 = all
        bool keep_best = false;
        bool resume = false; ///< true for `auto`, false for `never`
    } output;

    /// The file that was loaded; empty if the config was parsed from text.
    [[nodiscard]] const std::filesystem::path& file() const noexcept { return file_; }

    /// Makes an error (ExitCode::bad_config) about the value of `key` ("section.name"). The message has the place where
    /// the key was set (file or command line), the value, and `problem`, which should say what is allowed.
    [[nodiscard]] core::Error invalid(std::string_view key, std::string_view problem) const;

    /// Throws `invalid` unless the value of `key` is one of `names`. The message lists all names, and suggests the
    /// nearest one if the value looks like a typo.
    void require_one_of(std::string_view key, const std::vector<std::string>& names) const;

    /// The whole config as INI text, with every key and its value. parse_resolved() reads it back.
    [[nodiscard]] std::string resolved() const;

    /// This config with the value of `key` ("section.name") from `other`.
    [[nodiscard]] Config with(std::string_view key, const Config& other) const;

    struct Change {
        std::string key; ///< "section.name"
        std::string before;
        std::string now;
    };
    /// The keys whose values are spelled differently in `before`, in the order of the table of keys.
    [[nodiscard]] std::vector<Change> changes_since(const Config& before) const;

    friend Config parse(std::string_view ini, const std::string& origin, const std::vector<std::string>& overrides);
    friend Config parse_resolved(std::string_view ini, const std::string& origin);
    friend Config load(const std::filesystem::path& file, const std::vector<std::string>& overrides);

  private:
    struct Setting {
        std::string value;  ///< from the user, or the default
        std::string origin; ///< file name, "command line", or "default"
    };
    /// Who wrote a text. In a user's text, ~ is expanded and notations of other languages are refused. A text from
    /// `resolved` is accepted unchanged.
    enum class Author { user, dtrain };
    void set(std::string_view key, std::string value, std::string origin, Author author);
    void read(std::string_view ini, const std::string& origin, Author author);

    std::map<std::string, Setting, std::less<>> settings_; ///< every key, by "section.name"
    std::filesystem::path file_;
};

/// Parses INI text, then applies `overrides` of the form "--section.key=value". `origin` names the text in messages. If
/// an override is repeated, the last one counts. Throws core::Error (bad_config) for wrong syntax, unknown sections or
/// keys (the message suggests the nearest name), keys that are set twice in the text, wrong types and values out of
/// range. A bad value in the text is an error even if it is overridden.
[[nodiscard]] Config parse(std::string_view ini, const std::string& origin,
                           const std::vector<std::string>& overrides = {});

/// Parses the text that `resolved` wrote, in this process or in an earlier version of dtrain. Accepts renamed keys and
/// values that a user may not write.
[[nodiscard]] Config parse_resolved(std::string_view ini, const std::string& origin);

/// Calls `parse` for a file. Also throws core::Error (bad_config) if the file cannot be read or is larger than 1 MiB.
[[nodiscard]] Config load(const std::filesystem::path& file, const std::vector<std::string>& overrides = {});

} // namespace dtrain::config
