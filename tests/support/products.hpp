#pragma once

#include "dtrain/kernels/products.hpp"

#include <memory>

namespace dtrain::support {

/// For networks in tests: exact products on one thread.
inline kernels::Products& products() {
    static const std::unique_ptr<kernels::Products> exact = kernels::make_exact_products(1);
    return *exact;
}

/// Products of factors that are rounded to bfloat16.
inline kernels::Products& bfloat16_products() {
    static const std::unique_ptr<kernels::Products> rounding = kernels::make_bfloat16_products(1);
    return *rounding;
}

} // namespace dtrain::support
