#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace dtrain::core {

/// Finds the candidate that `word` is most likely a typo of. The number of changed, inserted, missing or swapped
/// letters may be at most a third of the candidate's length, but at least one is allowed. Upper and lower case count as
/// equal. If several candidates are equally near, returns the first one. Returns nothing if no candidate is near.
[[nodiscard]] std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);

/// The end of a message about an unknown word: "; did you mean WORD?" with the nearest candidate, or nothing.
[[nodiscard]] std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

} // namespace dtrain::core
