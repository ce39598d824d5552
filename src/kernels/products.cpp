#include "dtrain/kernels/products.hpp"

#include "dtrain/core/registry.hpp"

namespace dtrain::kernels {
namespace {

using core::Named;
constexpr core::Registry engines("product engine",
                                 {Named{"exact", make_exact_products}, Named{"openblas", make_openblas_products}});

} // namespace

std::vector<std::string> product_names() {
    return engines.names();
}

std::unique_ptr<Products> make_products(std::string_view name, int threads) {
    return engines.at(name)(threads);
}

} // namespace dtrain::kernels
