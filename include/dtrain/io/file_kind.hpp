#pragma once

#include <filesystem>
#include <optional>

namespace dtrain::io {

/// What dtrain writes as HDF5.
enum class FileKind { log, checkpoint, evaluation };

/// "a cost log"
[[nodiscard]] const char* to_string(FileKind kind) noexcept;

/// What a file is by its heading, whole or damaged; nothing if dtrain did not write it, or if it cannot be read.
[[nodiscard]] std::optional<FileKind> kind_of(const std::filesystem::path& file);

} // namespace dtrain::io
