// Batch normalisation. Sums over rows are in double. A sum is a chain of additions, each of which waits for the one
// before; so several columns are added up at once.

#include "dtrain/kernels/table.hpp"

#include "simd.hpp"

#include <cstddef>

namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET {
namespace {

/// Calls compute.operator()<width>(lane) for all lanes of a column: as many at once as fit a register with values of
/// `size` bytes, then one at a time.
template <std::size_t size, class Compute>
[[gnu::always_inline]] inline void for_each_part(std::size_t lanes, Compute&& compute) noexcept {
    constexpr std::size_t width = smaller(vector_bytes / size, group_rows);
    std::size_t lane = 0;
    for (; lane + width <= lanes; lane += width) {
        compute.template operator()<width>(lane);
    }
    for (; lane < lanes; ++lane) {
        compute.template operator()<1>(lane);
    }
}

// --- sums ---

enum class Term { value, square, gradient };

template <class Real>
struct SumJob {
    const Columns& all;
    const Real* x = nullptr;
    const Real* dz = nullptr;
    const Real* centre = nullptr;
    const Real* scale = nullptr;
    double* sums = nullptr;
    double* products = nullptr;
};

/// Adds up `width` lanes of `columns` columns from `column` on.
template <Term term, std::size_t columns, std::size_t width, class Real>
[[gnu::always_inline]] inline void add_tile(const SumJob<Real>& job, std::size_t column, std::size_t lane) noexcept {
    using Reals = Simd<Real, width * sizeof(Real)>;
    using Doubles = Simd<double, width * sizeof(double)>;
    const auto widen = [](typename Reals::Vector values) __attribute__((always_inline)) {
        return __builtin_convertvector(values, typename Doubles::Vector);
    };
    const std::size_t slot = column * group_rows + lane;
    typename Doubles::Vector sums[columns];
    typename Doubles::Vector products[columns];
#pragma GCC unroll 4
    for (std::size_t c = 0; c < columns; ++c) {
        sums[c] = Doubles::load(job.sums + slot + c * group_rows);
        products[c] =
            term == Term::gradient ? Doubles::load(job.products + slot + c * group_rows) : typename Doubles::Vector{};
    }
    std::size_t place = column * job.all.column_stride + lane;
    for (std::size_t row = 0; row < job.all.rows; ++row, place += job.all.row_stride) {
#pragma GCC unroll 4
        for (std::size_t c = 0; c < columns; ++c) {
            const auto x = Reals::load(job.x + place + c * job.all.column_stride);
            if constexpr (term == Term::value) {
                sums[c] += widen(x);
                continue;
            }
            const auto centre = Reals::load(job.centre + slot + c * group_rows);
            if constexpr (term == Term::square) {
                const auto distance = widen(x) - widen(centre);
                sums[c] += distance * distance;
            }
            if constexpr (term == Term::gradient) {
                const auto dz = widen(Reals::load(job.dz + place + c * job.all.column_stride));
                const auto normal = (x - centre) * Reals::load(job.scale + slot + c * group_rows);
                sums[c] += dz;
                products[c] += dz * widen(normal);
            }
        }
    }
#pragma GCC unroll 4
    for (std::size_t c = 0; c < columns; ++c) {
        Doubles::store(job.sums + slot + c * group_rows, sums[c]);
        if constexpr (term == Term::gradient) {
            Doubles::store(job.products + slot + c * group_rows, products[c]);
        }
    }
}

template <Term term, class Real>
[[gnu::always_inline]] inline void add_up(const SumJob<Real>& job) noexcept {
    constexpr std::size_t tile = 4;
    for_each_part<sizeof(double)>(
        job.all.lanes, [&]<std::size_t width>(std::size_t lane) __attribute__((always_inline)) {
            std::size_t column = 0;
            for (; column + tile <= job.all.columns; column += tile) {
                add_tile<term, tile, width>(job, column, lane);
            }
            for (; column < job.all.columns; ++column) {
                add_tile<term, 1, width>(job, column, lane);
            }
        });
}

template <class Real>
void add_values(const Columns& all, const Real* x, double* sums) noexcept {
    add_up<Term::value>(SumJob<Real>{all, x, nullptr, nullptr, nullptr, sums, nullptr});
}
template <class Real>
void add_squares(const Columns& all, const Real* x, const Real* centre, double* sums) noexcept {
    add_up<Term::square>(SumJob<Real>{all, x, nullptr, centre, nullptr, sums, nullptr});
}
template <class Real>
void add_gradients(const Columns& all, const Real* x, const Real* dz, const Real* centre, const Real* scale,
                   double* sums, double* products) noexcept {
    add_up<Term::gradient>(SumJob<Real>{all, x, dz, centre, scale, sums, products});
}

// --- element by element ---

/// Calls compute.operator()<Reals>(slot), which loads what belongs to a column and returns a function of the place, and
/// then this function for every row.
template <class Real, class Compute>
[[gnu::always_inline]] inline void for_each_place(const Columns& all, Compute&& compute) noexcept {
    for_each_part<sizeof(Real)>(
        all.lanes, [&]<std::size_t width>(std::size_t lane) __attribute__((always_inline)) {
            for (std::size_t column = 0; column < all.columns; ++column) {
                const auto compute_at =
                    compute.template operator()<Simd<Real, width * sizeof(Real)>>(column * group_rows + lane);
                std::size_t place = column * all.column_stride + lane;
                for (std::size_t row = 0; row < all.rows; ++row, place += all.row_stride) {
                    compute_at(place);
                }
            }
        });
}

template <class Real>
void normalise(const Columns& all, const Real* x, const Real* centre, const Real* scale, const Real* shift,
               Real* y) noexcept {
    for_each_place<Real>(
        all, [=]<class Reals>(std::size_t slot) __attribute__((always_inline)) {
            return [
                =, c = Reals::load(centre + slot), factor = Reals::load(scale + slot), b = Reals::load(shift + slot)
            ](std::size_t place) __attribute__((always_inline)) {
                Reals::store(y + place, (Reals::load(x + place) - c) * factor + b);
            };
        });
}

template <class Real>
void normalise_backward(const Columns& all, const Real* x, const Real* dz, const Real* centre, const Real* scale,
                        const Real* mean, const Real* slope, Real* dx) noexcept {
    for_each_place<Real>(
        all, [=]<class Reals>(std::size_t slot) __attribute__((always_inline)) {
            return [
                =, c = Reals::load(centre + slot), factor = Reals::load(scale + slot), m = Reals::load(mean + slot),
                s = Reals::load(slope + slot)
            ](std::size_t place) __attribute__((always_inline)) {
                const auto distance = Reals::load(x + place) - c;
                Reals::store(dx + place, factor * ((Reals::load(dz + place) - m) - distance * s));
            };
        });
}

} // namespace

template <class Real>
void fill_normalisation(NormalisationKernels<Real>& kernels) noexcept {
    kernels = {add_values<Real>, add_squares<Real>, add_gradients<Real>, normalise<Real>, normalise_backward<Real>};
}
template void fill_normalisation(NormalisationKernels<float>&) noexcept;
template void fill_normalisation(NormalisationKernels<double>&) noexcept;

} // namespace dtrain::kernels::DTRAIN_INSTRUCTION_SET
