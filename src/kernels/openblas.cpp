#include "dtrain/kernels/openblas.hpp"

#include "dtrain/core/error.hpp"
#include "dtrain/core/memory.hpp"

#include <cblas.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <new>
#include <type_traits>

namespace dtrain::kernels {
struct OpenBlas::Functions {
    decltype(&cblas_sgemm) sgemm = nullptr;
    decltype(&cblas_dgemm) dgemm = nullptr;
    decltype(&openblas_set_num_threads) set_threads = nullptr;
    decltype(&openblas_get_config) config = nullptr;
    decltype(&openblas_get_corename) core_name = nullptr;
};

OpenBlas::Functions OpenBlas::load(int threads) {
    // The library maps buffers at the start, and again in the first product. If it cannot, it retries for ever.
    constexpr std::size_t work_bytes = std::size_t{130} << 20;
    if (!core::has_addresses(work_bytes)) {
        throw std::bad_alloc();
    }
    setenv("OPENBLAS_NUM_THREADS", std::to_string(threads).c_str(), 1); // the library reads it when it is loaded
    void* library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        library = dlopen(DTRAIN_OPENBLAS, RTLD_NOW | RTLD_LOCAL); // where it was at the build
    }
    if (library == nullptr) {
        throw core::Error(core::ExitCode::bad_config, fmt::format("cannot load OpenBLAS: {}", dlerror()));
    }
    Functions functions;
    const auto find = [library](auto& function, const char* name) {
        function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
        if (function == nullptr) {
            throw core::Error(core::ExitCode::bad_config, fmt::format("cannot load OpenBLAS: {}", dlerror()));
        }
    };
    find(functions.sgemm, "cblas_sgemm");
    find(functions.dgemm, "cblas_dgemm");
    find(functions.set_threads, "openblas_set_num_threads");
    find(functions.config, "openblas_get_config");
    find(functions.core_name, "openblas_get_corename");
    return functions;
}

const OpenBlas::Functions& OpenBlas::load_once(int threads) {
    static const Functions loaded = load(threads);
    return loaded;
}

namespace {

CBLAS_TRANSPOSE transposition(bool transposed) noexcept {
    return transposed ? CblasTrans : CblasNoTrans;
}

} // namespace

OpenBlas::OpenBlas(int threads) : functions_(load_once(threads)) {
    functions_.set_threads(threads);
}

void OpenBlas::multiply(Operand<float> a, Operand<float> b, float* c, std::size_t m, std::size_t n, std::size_t k,
                        bool add) const {
    functions_.sgemm(CblasRowMajor, transposition(a.transposed), transposition(b.transposed), static_cast<blasint>(m),
                     static_cast<blasint>(n), static_cast<blasint>(k), 1, a.data, static_cast<blasint>(a.stride),
                     b.data, static_cast<blasint>(b.stride), add ? 1 : 0, c, static_cast<blasint>(n));
}

void OpenBlas::multiply(Operand<double> a, Operand<double> b, double* c, std::size_t m, std::size_t n, std::size_t k,
                        bool add) const {
    functions_.dgemm(CblasRowMajor, transposition(a.transposed), transposition(b.transposed), static_cast<blasint>(m),
                     static_cast<blasint>(n), static_cast<blasint>(k), 1, a.data, static_cast<blasint>(a.stride),
                     b.data, static_cast<blasint>(b.stride), add ? 1 : 0, c, static_cast<blasint>(n));
}

std::string OpenBlas::name() const {
    const std::string config = functions_.config(); // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ..."
    return fmt::format("{} {}", config.substr(0, config.find(' ', config.find(' ') + 1)), functions_.core_name());
}

} // namespace dtrain::kernels
