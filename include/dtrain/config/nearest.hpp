#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace dtrain::config {

/// The candidate that `word` is most likely a typo of, or nothing if none is near. Near means that at most a third of
/// the candidate's letters (one at least) were changed, inserted, left out or swapped with their neighbour; case does
/// not count. The first of equally near ones is taken.
[[nodiscard]] std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);

} // namespace dtrain::config
