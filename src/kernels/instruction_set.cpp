#include "dtrain/kernels/instruction_set.hpp"

#include "dtrain/core/error.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <string_view>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace dtrain::kernels {

// Defined by reference.cpp and, once for each instruction set, by the files of the folder simd.
namespace reference {
Table make_table() noexcept;
}
namespace x86_64_v3 {
Table make_table() noexcept;
}
namespace x86_64_v4 {
Table make_table() noexcept;
}
namespace x86_64_v4_bf16 {
void fill_bfloat16(Bfloat16Kernels& kernels) noexcept;
}
namespace x86_64_v4_amx {
void fill_bfloat16(Bfloat16Kernels& kernels) noexcept;
}
namespace native {
Table make_table() noexcept;
}

namespace {

constexpr const char* variable = "DTRAIN_ISA";

struct InstructionSet {
    const char* name;
    bool is_supported;
    Table (*make_table)() noexcept; ///< compiled for the instruction set too
};

#if defined(__x86_64__)
/// Whether the CPU multiplies tiles of bfloat16 numbers (AMX), and this process may use them. Only for a CPU with
/// AVX-512, since older ones may lack XGETBV.
bool may_use_amx() noexcept {
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    constexpr unsigned instructions = 1U << 22 | 1U << 24; // AMX-BF16, AMX-TILE
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & instructions) != instructions) {
        return false;
    }
    constexpr unsigned registers = 1U << 17 | 1U << 18; // what the operating system saves: TILECFG, TILEDATA
    asm("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    if ((eax & registers) != registers) {
        return false;
    }
    // Linux grants the tiles, which take 8 KB per thread, to processes that ask for them. This is for all threads.
    constexpr long arch_req_xcomp_perm = 0x1023;
    constexpr long xfeature_xtiledata = 18;
    return syscall(SYS_arch_prctl, arch_req_xcomp_perm, xfeature_xtiledata) == 0;
}
#endif

/// From the slowest to the fastest.
std::span<const InstructionSet> instruction_sets() {
#if defined(__x86_64__)
    static constexpr auto make_v4_bf16 = []() noexcept {
        Table table = x86_64_v4::make_table();
        x86_64_v4_bf16::fill_bfloat16(table.bfloat16);
        return table;
    };
    constexpr auto make_v4_amx = []() noexcept {
        Table table = make_v4_bf16();
        x86_64_v4_amx::fill_bfloat16(table.bfloat16);
        return table;
    };
    // The features that CMakeLists.txt compiles for. The function also asks whether the operating system saves the
    // registers.
    static const bool has_v3 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
    static const bool has_v4 = has_v3 && __builtin_cpu_supports("avx512f") != 0 &&
                               __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
                               __builtin_cpu_supports("avx512vl") != 0;
    static const bool has_v4_bf16 = has_v4 && __builtin_cpu_supports("avx512bf16") != 0;
    static const bool has_v4_amx = has_v4_bf16 && may_use_amx();
    static const std::array sets{InstructionSet{"reference", true, reference::make_table},
                                 InstructionSet{"x86-64-v3", has_v3, x86_64_v3::make_table},
                                 InstructionSet{"x86-64-v4", has_v4, x86_64_v4::make_table},
                                 InstructionSet{"x86-64-v4+bf16", has_v4_bf16, make_v4_bf16},
                                 InstructionSet{"x86-64-v4+amx", has_v4_amx, make_v4_amx}};
#else
    static const std::array sets{InstructionSet{"reference", true, reference::make_table},
                                 InstructionSet{DTRAIN_NATIVE_NAME, true, native::make_table}};
#endif
    return sets;
}

std::vector<Table> make_tables() {
    std::vector<Table> tables;
    for (const InstructionSet& set : instruction_sets()) {
        tables.push_back(set.is_supported ? set.make_table() : Table{});
        tables.back().name = set.name;
    }
    return tables;
}

std::atomic<const Table*> in_use = nullptr;

} // namespace

std::span<const Table> tables() {
    static const std::vector<Table> all = make_tables();
    return all;
}

bool is_supported(std::size_t index) noexcept {
    return instruction_sets()[index].is_supported;
}

std::size_t choose_table() {
    const std::span<const Table> known = tables();
    std::vector<std::string_view> supported;
    for (std::size_t i = 0; i < known.size(); ++i) {
        if (is_supported(i)) {
            supported.emplace_back(known[i].name);
        }
    }
    const char* const asked = std::getenv(variable);
    for (std::size_t i = known.size(); i-- > (asked == nullptr ? 1 : 0);) {
        if (is_supported(i) && (asked == nullptr || std::string_view(asked) == known[i].name)) {
            return i;
        }
    }
    if (asked == nullptr) {
        throw core::Error(
            core::ExitCode::bad_config,
            fmt::format("this CPU lacks AVX2 or fused multiply-add, and dtrain needs both. {}={} works here, but "
                        "it is about a hundred times slower",
                        variable, known[0].name));
    }
    throw core::Error(core::ExitCode::bad_config, fmt::format("{}={}: expected one of {}, which this CPU supports",
                                                              variable, asked, fmt::join(supported, ", ")));
}

void use_table(std::size_t index) noexcept {
    in_use = &tables()[index];
}

const Table& table() {
    const Table* current = in_use.load(std::memory_order_relaxed);
    if (current == nullptr) {
        use_table(choose_table());
        current = in_use;
    }
    return *current;
}

} // namespace dtrain::kernels
