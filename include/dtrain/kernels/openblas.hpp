#pragma once

#include <cstddef>
#include <string>

namespace dtrain::kernels {

/// OpenBLAS, loaded at the first use. A program that linked it would start its threads, one per core, in every rank,
/// before it could set their number.
class OpenBlas {
  public:
    /// Loads the library and sets its number of threads, which all objects share. Throws core::Error (bad_config) if
    /// there is no library, std::bad_alloc if there is not enough memory for its buffers.
    explicit OpenBlas(int threads);

    /// A row-major matrix, or the transposed one: rows are `stride` values apart in memory.
    template <class Real>
    struct Operand {
        const Real* data = nullptr;
        std::size_t stride = 0;
        bool transposed = false;
    };
    /// c = a · b, or c += a · b if `add` is true. a is m × k, b is k × n, c is m × n with rows next to each other.
    void multiply(Operand<float> a, Operand<float> b, float* c, std::size_t m, std::size_t n, std::size_t k,
                  bool add) const;
    void multiply(Operand<double> a, Operand<double> b, double* c, std::size_t m, std::size_t n, std::size_t k,
                  bool add) const;

    /// Its version and kernels, such as "OpenBLAS 0.3.21 SkylakeX".
    [[nodiscard]] std::string name() const;

  private:
    struct Functions;
    /// Loads the library at the first call in the process.
    static const Functions& load_once(int threads);
    static Functions load(int threads);

    const Functions& functions_;
};

} // namespace dtrain::kernels
