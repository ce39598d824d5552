#pragma once

#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace dtrain::core {

/// The name of this machine, terminated by a zero.
using HostName = std::array<char, 64>; // Linux allows 64 characters at most

inline HostName host_name() {
    HostName name{};
    if (gethostname(name.data(), name.size() - 1) != 0) {
        std::ranges::copy(std::string_view("unknown host"), name.begin());
    }
    return name;
}

} // namespace dtrain::core
