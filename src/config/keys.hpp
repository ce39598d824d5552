#pragma once

#include "dtrain/config/config.hpp"

#include <span>
#include <string_view>

namespace dtrain::config {

enum class Verdict {
    ok,
    wrong, ///< not among what is allowed
};

enum class Kind {
    plain,
    path, ///< of a file or folder: a leading ~ is the user's home
};

/// One key of the config. Its text in the file, the default and the check all come from here.
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

/// What the key "section.name" is called today, if it was renamed; otherwise `name` itself.
[[nodiscard]] std::string_view current_name(std::string_view name);

} // namespace dtrain::config
