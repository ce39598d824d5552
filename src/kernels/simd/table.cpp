#include "dtrain/kernels/table.hpp"

#include "simd.hpp"

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {

Table make_table() noexcept {
    Table table;
    table.vector_bytes = vector_bytes;
    fill_products(table.in_float.products);
    fill_products(table.in_double.products);
    fill_maps(table.in_float.maps);
    fill_maps(table.in_double.maps);
    fill_elements(table.in_float.elements);
    fill_elements(table.in_double.elements);
    fill_normalisation(table.in_float.normalisation);
    fill_normalisation(table.in_double.normalisation);
    fill_bfloat16(table.bfloat16);
    fill_updates(table.updates);
    fill_data(table.data);
    fill_compression(table.compression);
    return table;
}

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
