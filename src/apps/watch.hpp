#pragma once

#include <filesystem>

namespace dtrain::apps {

/// dtrain-eval --watch. Follows the log of the run at `path`, its output folder or log.h5, until the run is complete.
/// On a terminal draws curves again whenever the log is replaced, and otherwise prints one line per epoch. Waits for a
/// log that does not exist or cannot be read, and says so. Throws core::Error (bad_config) if `path` is another file.
void watch(const std::filesystem::path& path);

} // namespace dtrain::apps
