#include "dtrain/core/memory.hpp"
#include "dtrain/core/number.hpp"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>

namespace dtrain::core {
namespace {

constexpr const char* status_file = "/proc/self/status";

/// The bytes in a line of `file` such as "RssAnon:      1234 kB"; 0 if there is no such line.
std::size_t bytes_in(const char* file, std::string_view name) {
    std::ifstream status(file);
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with(name) && line.substr(name.size()).starts_with(':')) {
            const std::size_t first = line.find_first_of("0123456789");
            const std::size_t end = line.find(' ', first);
            return parse_number<std::size_t>(std::string_view(line).substr(first, end - first)).value_or(0) * 1024;
        }
    }
    return 0;
}

/// The path in a line of /proc/self/cgroup if the line is about these controllers, otherwise empty. Lines look like
/// "0::/path" in v2 and "4:memory:/path" in v1.
std::string_view path_in(std::string_view line, std::string_view controllers) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string_view::npos || line.substr(first + 1, second - first - 1) != controllers) {
        return {};
    }
    return line.substr(second + 1);
}

} // namespace

std::size_t own_bytes() {
    return bytes_in(status_file, "RssAnon") + bytes_in(status_file, "RssShmem");
}

std::size_t available_bytes() {
    return bytes_in("/proc/meminfo", "MemAvailable");
}

std::vector<GroupLimit> group_limits(const std::filesystem::path& root) {
    struct Hierarchy {
        std::string_view controllers;
        const char* mount;
        const char* file;
    };
    static constexpr std::array hierarchies{Hierarchy{"", "sys/fs/cgroup", "memory.max"},
                                            Hierarchy{"memory", "sys/fs/cgroup/memory", "memory.limit_in_bytes"}};
    std::vector<GroupLimit> limits;
    std::ifstream groups(root / "proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        for (const Hierarchy& hierarchy : hierarchies) {
            const std::string_view path = path_in(line, hierarchy.controllers);
            if (path.empty()) {
                continue;
            }
            // In a container the path may start at the root of the host, and only the container's own group is mounted
            // here, at `top`. So groups that do not exist are skipped on the way up.
            const std::filesystem::path top = root / hierarchy.mount;
            for (std::filesystem::path group = top / path.substr(1);; group = group.parent_path()) {
                std::string text;
                std::ifstream(group / hierarchy.file) >> text;
                const auto bytes = parse_number<std::size_t>(text);
                struct stat status {};
                if (bytes && stat(group.c_str(), &status) == 0) {
                    limits.push_back({*bytes, status.st_ino});
                }
                if (group == top || group == group.parent_path()) {
                    break;
                }
            }
        }
    }
    return limits;
}

UlimitRoom room_under_ulimit() {
    const auto room = [](__rlimit_resource resource, std::string_view used) {
        rlimit limit{};
        if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
            return std::numeric_limits<std::size_t>::max();
        }
        return limit.rlim_cur - std::min<std::size_t>(limit.rlim_cur, bytes_in(status_file, used));
    };
    return {room(RLIMIT_AS, "VmSize"), room(RLIMIT_DATA, "VmData")};
}

} // namespace dtrain::core
