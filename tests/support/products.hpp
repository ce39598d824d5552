#pragma once

#include "dtrain/kernels/products.hpp"

#include <memory>

namespace dtrain::support {

/// For networks in tests: exact products on one thread.
inline kernels::Products& products() {
    static const std::unique_ptr<kernels::Products> exact = kernels::make_exact_products(1);
    return *exact;
}

} // namespace dtrain::support
