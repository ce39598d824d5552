#include "idx_files.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/data/idx.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

namespace dtrain::data {
namespace {

using std::filesystem::path;

constexpr std::size_t max_names_listed = 5;
constexpr PerSet<const char*> stems{"train", "t10k"};

/// The possible names of a file of samples; MNIST's own name is the first.
std::vector<std::string> sample_names(Set set) {
    std::vector<std::string> names{fmt::format("{}-images-idx3-ubyte", stems.of(set))};
    for (std::size_t dimensions = 2; dimensions <= max_dimensions; ++dimensions) {
        for (const char* const type : {"ubyte", "float"}) {
            names.push_back(fmt::format("{}-images-idx{}-{}", stems.of(set), dimensions, type));
        }
    }
    names.erase(std::find(names.begin() + 1, names.end(), names.front()));
    return names;
}

std::string label_name(Set set) {
    return fmt::format("{}-labels-idx1-ubyte", stems.of(set));
}

std::array<std::string, 2> spellings(const std::string& name) {
    std::string dotted = name;
    dotted.at(name.find("-idx")) = '.';
    return {name, dotted};
}

bool is_file(const path& file) {
    using std::filesystem::file_type;
    std::error_code ignored;
    const file_type type = std::filesystem::status(file, ignored).type();
    return type != file_type::none && type != file_type::not_found && type != file_type::directory;
}

std::optional<path> find(const path& folder, const std::string& name) {
    for (const std::string& spelling : spellings(name)) {
        for (path file : {folder / spelling, folder / spelling / spelling}) {
            for (const char* const ending : {"", ".gz"}) {
                file += ending;
                if (is_file(file)) {
                    return file;
                }
            }
        }
    }
    return std::nullopt;
}

/// Whether `test` is true for any file name of a data set.
template <class Test>
bool any_name(Test&& test) {
    return std::ranges::any_of(
        sets, [&](Set set) { return test(label_name(set)) || std::ranges::any_of(sample_names(set), test); });
}

bool is_spelling(const path& name) {
    const std::string plain = (name.extension() == ".gz" ? name.stem() : name).string();
    return any_name([&](const std::string& usual) {
        const auto known = spellings(usual);
        return std::ranges::find(known, plain) != known.end();
    });
}

/// What the folder contains, for a message, or the error if it cannot be listed.
std::string contents_of(const path& folder, const std::string& name) {
    std::error_code error;
    std::vector<std::string> names;
    if (std::filesystem::status(folder / name, error).type() != std::filesystem::file_type::none) {
        for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
             entry.increment(error)) {
            names.push_back(entry->path().filename().string());
            std::ranges::replace_if(
                names.back(), [](unsigned char c) { return std::iscntrl(c) != 0; }, '?');
        }
    }
    if (error) {
        return error.message();
    }
    if (names.empty()) {
        return "the folder is empty";
    }
    std::ranges::sort(names);
    const std::size_t listed = std::min(names.size(), max_names_listed);
    return fmt::format("the folder contains {}{}", fmt::join(std::span(names).first(listed), ", "),
                       listed < names.size() ? fmt::format(" and {} more", names.size() - listed) : "");
}

[[noreturn]] void fail_without(const path& folder, const std::string& name, const char* alternatives) {
    throw core::Error(
        core::ExitCode::bad_data,
        fmt::format("{}: {}; expected {}, plain or .gz{}. data.directory must name the folder of the data "
                    "set, relative to the working directory. `./quickstart.sh data` puts MNIST into data/mnist",
                    folder.string(), contents_of(folder, name), name, alternatives));
}

} // namespace

path find_data_folder(const path& directory) {
    path outer = directory.has_filename() ? directory : directory.parent_path(); // without a trailing slash
    while (is_spelling(outer.filename())) {
        outer = outer.has_parent_path() ? outer.parent_path() : ".";
    }
    const std::array folders{outer, outer / "MNIST" / "raw", outer / "raw"};
    const auto holder = std::ranges::find_if(folders, [](const path& folder) {
        return any_name([&](const std::string& name) { return find(folder, name).has_value(); });
    });
    return holder != folders.end() ? *holder : directory;
}

SetFiles find_files(const path& directory, Set set) {
    const path folder = find_data_folder(directory);
    const std::vector<std::string> names = sample_names(set);
    std::optional<path> samples;
    for (const std::string& name : names) {
        const std::optional<path> found = find(folder, name);
        if (found && samples) {
            throw core::Error(core::ExitCode::bad_data,
                              fmt::format("{}: the folder also contains {}; expected only one file of samples",
                                          samples->string(), found->filename().string()));
        }
        samples = samples ? samples : found;
    }
    if (!samples) {
        fail_without(folder, names.front(), ", or with other dimensions (idx2 to idx8) or floats (-float)");
    }
    const std::optional<path> labels = find(folder, label_name(set));
    if (!labels) {
        fail_without(folder, label_name(set), "");
    }
    return {*samples, *labels};
}

} // namespace dtrain::data
