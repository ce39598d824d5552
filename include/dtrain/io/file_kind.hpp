#pragma once

#include <filesystem>
#include <optional>

namespace dtrain::io {

/// The kinds of HDF5 files that dtrain writes.
enum class FileKind { log, checkpoint, evaluation };

/// The kind as text, such as "a cost log".
[[nodiscard]] const char* to_string(FileKind kind) noexcept;

/// The kind of a file according to its beginning; the rest may be damaged. Nothing if dtrain did not write the file or
/// if it cannot be read.
[[nodiscard]] std::optional<FileKind> kind_of(const std::filesystem::path& file);

} // namespace dtrain::io
