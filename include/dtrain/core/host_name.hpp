#pragma once

#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace dtrain::core {

/// What this machine is called, ended by a zero.
using HostName = std::array<char, 64>; // no longer on Linux

inline HostName host_name() {
    HostName name{};
    if (gethostname(name.data(), name.size() - 1) != 0) {
        std::ranges::copy(std::string_view("unknown host"), name.begin());
    }
    return name;
}

} // namespace dtrain::core
