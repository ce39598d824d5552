#include "dtrain/io/file_kind.hpp"

#include "dtrain/core/number.hpp"

#include "hdf5_format.hpp"

#include <cstring>
#include <fstream>
#include <ios>
#include <iterator>
#include <string>

namespace dtrain::io {

const char* to_string(FileKind kind) noexcept {
    switch (kind) {
    case FileKind::log:
        return "a cost log";
    case FileKind::checkpoint:
        return "a checkpoint";
    case FileKind::evaluation:
        return "an evaluation";
    }
    return "";
}

std::optional<FileKind> kind_of(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    std::string line;
    if (!std::getline(in, line)) {
        return std::nullopt;
    }
    if (line.starts_with(label_1)) { // no index; the names of HDF5's attributes are somewhere in the rest of the file
        const std::string rest(std::istreambuf_iterator<char>(in), {});
        const auto has = [&rest](const char* name) { return rest.find(name, 0, std::strlen(name) + 1) != rest.npos; };
        return has("logical_shards") ? std::optional(FileKind::checkpoint)
               : has("created")      ? std::optional(FileKind::log)
                                     : std::nullopt;
    }
    if (!line.starts_with("dtrain ")) {
        return std::nullopt;
    }
    // Each kind has an attribute that the other kinds do not have.
    while (std::getline(in, line)) {
        const std::vector<std::string_view> words = split(line, ' ');
        if (words[0] != "attribute" || words.size() != 4) {
            break;
        }
        if (words[2] == "created") {
            return FileKind::log;
        }
        if (words[2] == "fingerprint") {
            return FileKind::checkpoint;
        }
        if (words[2] == "checkpoint") {
            return FileKind::evaluation;
        }
        if (words[1] == "text") {
            const auto length = core::parse_number<std::streamoff>(words[3]);
            if (!length || *length < 0) {
                break;
            }
            in.seekg(*length + 1, std::ios::cur);
        }
    }
    return std::nullopt;
}

} // namespace dtrain::io
