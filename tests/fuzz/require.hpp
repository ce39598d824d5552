#pragma once

#include <cstdio>
#include <cstdlib>

/// Ends the process, which libFuzzer reports as a finding, unless `condition` holds.
inline void require(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "does not hold: %s\n", what);
        std::abort();
    }
}
