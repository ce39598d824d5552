#pragma once

#include "dtrain/config/config.hpp"

#include <span>
#include <string_view>

namespace dtrain::config {

enum class Verdict {
    ok,
    wrong, ///< not an allowed value
};

enum class Kind {
    plain,
    path, ///< a file or folder; a leading ~ stands for the user's home folder
};

/// One key of the config, with its default and its check.
struct Key {
    std::string_view section;
    std::string_view name;
    std::string_view default_value;
    std::string_view allowed; ///< completes "expected ..." in messages
    Verdict (*assign)(Config& config, std::string_view value);
    Kind kind = Kind::plain;
};

/// All keys, section by section, in the order in which they are printed.
[[nodiscard]] std::span<const Key> keys();

/// The new name of the key "section.name" if it was renamed, otherwise `name` itself.
[[nodiscard]] std::string_view current_name(std::string_view name);

} // namespace dtrain::config
