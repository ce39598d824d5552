#include "dtrain/config/config.hpp"

#include "dtrain/core/nearest.hpp"

#include "keys.hpp"
#include <boost/program_options/errors.hpp>
#include <boost/program_options/options_description.hpp>
#include <boost/program_options/parsers.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace dtrain::config {
namespace {

constexpr std::size_t max_file_bytes = std::size_t{1} << 20;
constexpr std::string_view blanks = " \t\r\n";
constexpr std::string_view command_line = "command line";

core::Error bad_config(const std::string& message) {
    return {core::ExitCode::bad_config, message};
}

std::string_view trimmed(std::string_view text) {
    const std::size_t first = text.find_first_not_of(blanks);
    if (first == std::string_view::npos)
        return {};
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

bool is_control(char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

/// Text for a message: one line of limited length, with control characters escaped.
std::string printable(std::string_view text, std::size_t max_bytes = 200) {
    std::size_t length = std::min(text.size(), max_bytes);
    if (length < text.size())
        while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80)
            --length; // not in the middle of a UTF-8 character
    std::string result;
    for (const char c : text.substr(0, length)) {
        if (is_control(c))
            result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        else
            result += c;
    }
    if (length < text.size())
        result += "...";
    return result;
}

/// The position of a comment: a # at the beginning of the line or after a blank. npos if there is no comment.
std::size_t comment_in(std::string_view line) {
    std::size_t at = line.find('#');
    while (at != std::string_view::npos && at > 0 && blanks.find(line[at - 1]) == std::string_view::npos)
        at = line.find('#', at + 1);
    return at;
}

/// A message if a value uses the notation of another language, such as quotes or $HOME; otherwise empty. Without this
/// check, such a value would silently name the wrong file or folder.
std::string foreign_notation(std::string_view value, Kind kind) {
    if (value.starts_with('"') || value.starts_with('\''))
        return "expected a value without quotes";
    if (value.find(" ;") != std::string_view::npos)
        return "comments begin with #, not with ;";
    const std::size_t dollar = value.find('$');
    if (kind == Kind::path && dollar != std::string_view::npos && dollar + 1 < value.size() &&
        (std::isalpha(static_cast<unsigned char>(value[dollar + 1])) != 0 || value[dollar + 1] == '{' ||
         value[dollar + 1] == '_'))
        return "environment variables are not expanded; expected a path, or ~/ for your home folder";
    if (kind == Kind::path && value.starts_with('~') && value.size() > 1 && value[1] != '/')
        return "expected ~/ for your home folder, or the full path of another user's folder";
    return {};
}

/// Expands a leading ~ or ~/ to $HOME. Empty if HOME is not set.
std::string expanded(std::string_view value) {
    const char* const home = std::getenv("HOME");
    return home == nullptr || *home == '\0' ? std::string() : home + std::string(value.substr(1));
}

std::string full_name(const Key& key) {
    return fmt::format("{}.{}", key.section, key.name);
}

struct Name {
    std::string_view section; ///< empty if there is no dot
    std::string_view key;
};

Name split(std::string_view name) {
    const std::size_t dot = name.find('.');
    if (dot == std::string_view::npos)
        return {.section = {}, .key = name};
    return {.section = name.substr(0, dot), .key = name.substr(dot + 1)};
}

const Key* find_key(std::string_view name) {
    const auto all = keys();
    const Name parts = split(name);
    const auto found = std::ranges::find_if(
        all, [&](const Key& key) { return key.section == parts.section && key.name == parts.key; });
    return found == all.end() ? nullptr : &*found;
}

std::vector<std::string> sections() {
    std::vector<std::string> result;
    for (const Key& key : keys())
        if (result.empty() || result.back() != key.section)
            result.emplace_back(key.section);
    return result;
}

std::vector<std::string> names_in(std::string_view section) {
    std::vector<std::string> result;
    for (const Key& key : keys())
        if (key.section == section)
            result.emplace_back(key.name);
    return result;
}

/// The key that the user may have meant by an unknown name. Searches the section (or the section with the nearest name)
/// first, then all sections.
const Key* nearest_key(std::string_view name) {
    const auto [section, key] = split(name);
    const std::string near_section = core::nearest(section, sections()).value_or("");
    if (const auto near = core::nearest(key, names_in(near_section)))
        return find_key(fmt::format("{}.{}", near_section, *near));
    const auto all = keys();
    std::vector<std::string> names;
    for (const Key& candidate : all)
        names.emplace_back(candidate.name);
    const auto near = core::nearest(key, names);
    return near ? &*std::ranges::find(all, *near, &Key::name) : nullptr;
}

std::string list_for_section(std::string_view section) {
    const auto names = names_in(section);
    if (names.empty())
        return fmt::format("the sections are {}", fmt::join(sections(), ", "));
    return fmt::format("the keys of [{}] are {}", section, fmt::join(names, ", "));
}

core::Error unknown_in_file(const std::string& origin, std::string_view name) {
    const auto [section, key] = split(name);
    const std::string_view current = current_name(name);
    const Key* const near = nearest_key(name);
    std::string hint;
    if (current != name)
        hint = fmt::format("it is now called {}", split(current).key);
    else if (near == nullptr)
        hint = list_for_section(section);
    else if (near->section == section)
        hint = fmt::format("did you mean {}?", near->name);
    else
        hint = fmt::format("did you mean [{}] {}?", near->section, near->name);
    if (section.empty())
        return bad_config(fmt::format("{}: key {} is not in a section; {}", origin, printable(key), hint));
    return bad_config(fmt::format("{}: unknown key [{}] {}; {}", origin, printable(section), printable(key), hint));
}

core::Error unknown_on_command_line(std::string_view word, std::string_view name) {
    const std::string_view current = current_name(name);
    const Key* const near = nearest_key(name);
    const std::string hint = current != name   ? fmt::format("it is now called --{}", current)
                             : near == nullptr ? list_for_section(split(name).section)
                                               : fmt::format("did you mean --{}?", full_name(*near));
    return bad_config(fmt::format("{}: {}: unknown key; {}", command_line, printable(word), hint));
}

/// Checks for errors that Boost's parser does not handle. Up to version 1.74 at least, it reads beyond the end of an
/// empty section name; later versions accept ; as the start of a comment. It ignores sections without keys, whatever
/// their name, and accepts any bytes as text.
void check_lines(std::string_view ini, const std::string& origin) {
    const std::vector<std::string> known = sections();
    for (std::size_t number = 1; !ini.empty(); ++number) {
        const std::string_view whole_line = ini.substr(0, ini.find('\n'));
        ini.remove_prefix(std::min(whole_line.size() + 1, ini.size()));
        const auto fail = [&](const std::string& problem) {
            return bad_config(fmt::format("{}: line {}: {}", origin, number, problem));
        };

        std::string_view text = whole_line;
        if (text.ends_with('\r'))
            text.remove_suffix(1);
        const auto stray = std::ranges::find_if(text, [](char c) { return is_control(c) && c != '\t'; });
        if (stray != text.end())
            throw fail(
                fmt::format("control character 0x{:02x}; expected a text file", static_cast<unsigned char>(*stray)));

        const std::string_view line = trimmed(text.substr(0, comment_in(text)));
        if (line.empty())
            continue;
        if (line.find('#') != std::string_view::npos)
            throw fail(fmt::format("{}: a value cannot contain #. For a comment, write a blank before the #",
                                   printable(line)));
        if (line.starts_with('[') && line.ends_with(']')) {
            const std::string section(line.substr(1, line.size() - 2));
            if (std::ranges::find(known, section) != known.end())
                continue;
            if (section.empty())
                throw fail(fmt::format("empty section name []; {}", list_for_section(section)));
            const auto near = core::nearest(section, known);
            throw bad_config(fmt::format("{}: unknown section [{}]; {}", origin, printable(section),
                                         near ? fmt::format("did you mean [{}]?", *near) : list_for_section(section)));
        }
        if (line.find('=') == std::string_view::npos || line.starts_with('=') || line.starts_with(';'))
            throw fail(fmt::format("{}: expected key = value, [section] or # comment", printable(line)));
    }
}

struct Assignment {
    std::string name; ///< "section.key"
    std::string value;
};

std::vector<Assignment> read_ini(std::string_view ini, const std::string& origin) {
    constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
    if (ini.starts_with(byte_order_mark))
        ini.remove_prefix(byte_order_mark.size());
    check_lines(ini, origin);

    namespace po = boost::program_options;
    std::istringstream stream{std::string(ini)};
    std::vector<Assignment> result;
    try {
        // No key is declared to Boost, because its messages have neither the file name nor the nearest key.
        const po::options_description undeclared;
        for (const po::option& option : po::parse_config_file(stream, undeclared, true).options)
            result.push_back({.name = option.string_key, .value = option.value.at(0)});
    } catch (const po::error& error) {
        throw bad_config(fmt::format("{}: {}", origin, printable(error.what())));
    }
    return result;
}

} // namespace

Config::Config() {
    for (const Key& key : keys())
        set(full_name(key), std::string(key.default_value), "default", Author::dtrain);
}

void Config::set(std::string_view key, std::string value, std::string origin, Author author) {
    const Key& entry = *find_key(key);
    Setting& setting = settings_[std::string(key)];
    setting = {.value = std::move(value), .origin = std::move(origin)};
    if (author == Author::user) {
        if (const std::string problem = foreign_notation(setting.value, entry.kind); !problem.empty())
            throw invalid(key, problem);
        if (entry.kind == Kind::path && setting.value.starts_with('~')) {
            std::string path = expanded(setting.value);
            if (path.empty())
                throw invalid(key, "expected a path without ~, because the environment variable HOME is not set");
            setting.value = std::move(path);
        }
    }
    // Such a value could not be written to a file and read back.
    if (std::ranges::any_of(setting.value, [](char c) { return c == '#' || (is_control(c) && c != '\t'); }))
        throw invalid(key, "expected text without # or control characters");
    if (entry.assign(*this, setting.value) == Verdict::wrong) {
        throw invalid(key, fmt::format("expected {}", entry.allowed));
    }
}

core::Error Config::invalid(std::string_view key, std::string_view problem) const {
    const auto found = settings_.find(key);
    if (found == settings_.end())
        throw std::logic_error(fmt::format("no such config key: {}", key));
    const Setting& setting = found->second;
    const std::string value = printable(setting.value);
    if (setting.origin == command_line)
        return bad_config(fmt::format("{}: --{}={}: {}", command_line, key, value, problem));
    const auto [section, name] = split(key);
    return bad_config(
        fmt::format("{}: [{}] {} ={}{}: {}", setting.origin, section, name, value.empty() ? "" : " ", value, problem));
}

void Config::require_one_of(std::string_view key, const std::vector<std::string>& names) const {
    const auto found = settings_.find(key);
    if (found != settings_.end() && std::ranges::find(names, found->second.value) != names.end())
        return;
    std::string problem = fmt::format("expected {}{}", names.size() > 1 ? "one of " : "", fmt::join(names, ", "));
    if (found != settings_.end())
        problem += core::did_you_mean(found->second.value, names);
    throw invalid(key, problem);
}

std::string Config::resolved() const {
    std::string text;
    std::string_view section;
    for (const Key& key : keys()) {
        if (key.section != section) {
            text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", key.section);
            section = key.section;
        }
        text += fmt::format("{} = {}\n", key.name, settings_.find(full_name(key))->second.value);
    }
    return text;
}

Config Config::with(std::string_view key, const Config& other) const {
    Config result = *this;
    const Setting& setting = other.settings_.find(key)->second;
    result.set(key, setting.value, setting.origin, Author::dtrain);
    return result;
}

std::vector<Config::Change> Config::changes_since(const Config& before) const {
    std::vector<Change> changes;
    for (const Key& key : keys()) {
        const std::string name = full_name(key);
        const std::string& then = before.settings_.find(name)->second.value;
        const std::string& now = settings_.find(name)->second.value;
        if (then != now) {
            changes.push_back({name, then, now});
        }
    }
    return changes;
}

void Config::read(std::string_view ini, const std::string& origin, Author author) {
    constexpr std::size_t max_path = 4096;
    const std::string file = printable(origin, max_path);
    std::set<std::string, std::less<>> seen;
    for (const auto& [name, value] : read_ini(ini, file)) {
        const std::string_view current = author == Author::dtrain ? current_name(name) : name;
        if (find_key(current) == nullptr)
            throw unknown_in_file(file, name);
        const bool again = !seen.emplace(current).second;
        set(current, value, file, author);
        if (again)
            throw invalid(current, "this key is set more than once; expected each key at most once");
    }
}

Config parse_resolved(std::string_view ini, const std::string& origin) {
    Config config;
    config.read(ini, origin, Config::Author::dtrain);
    return config;
}

Config parse(std::string_view ini, const std::string& origin, const std::vector<std::string>& overrides) {
    Config config;
    config.read(ini, origin, Config::Author::user);
    for (const std::string& word : overrides) {
        const std::string_view text = word;
        const std::size_t equals = text.find('=');
        if (!text.starts_with("--") || equals == std::string_view::npos)
            throw bad_config(fmt::format(
                "{}: {}: expected --section.key=value without spaces around the =, or an option listed by --help",
                command_line, printable(text)));
        const std::string_view name = text.substr(2, equals - 2);
        if (find_key(name) == nullptr)
            throw unknown_on_command_line(text, name);
        config.set(name, std::string(trimmed(text.substr(equals + 1))), std::string(command_line),
                   Config::Author::user);
    }
    return config;
}

Config load(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
    const auto fail = [&](std::string_view problem) {
        return bad_config(fmt::format("cannot read config {}: {}", printable(file.native(), 4096), problem));
    };
    // C's streams set errno on failure, also for a directory. C++ streams do not guarantee that.
    struct Close {
        void operator()(std::FILE* stream) const noexcept { std::fclose(stream); }
    };
    const std::unique_ptr<std::FILE, Close> stream(std::fopen(file.c_str(), "rb"));
    if (!stream)
        throw fail(std::strerror(errno));
    std::string text(max_file_bytes + 1, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), stream.get()));
    if (std::ferror(stream.get()) != 0)
        throw fail(std::strerror(errno));
    if (text.size() > max_file_bytes)
        throw fail("larger than 1 MiB; expected a text file");
    Config config = parse(text, file.native(), overrides);
    config.file_ = file;
    return config;
}

} // namespace dtrain::config
