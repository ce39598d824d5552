#include "hdf5_library.hpp"

#include <fmt/format.h>

namespace dtrain::io {

void silence_hdf5() {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Hdf5Failure last_hdf5_failure() {
    Hdf5Failure failure;
    const auto keep = [](unsigned, const H5E_error2_t* error, void* kept) -> herr_t {
        auto& innermost = *static_cast<Hdf5Failure*>(kept);
        innermost.kind = error->min_num;
        *fmt::format_to_n(innermost.reason.data(), innermost.reason.size() - 1, "{}", error->desc).out = '\0';
        return 1; // stop
    };
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep, &failure); // starts at the innermost function
    return failure;
}

} // namespace dtrain::io
