// Which of the versions of a loop this processor runs: x86-64-v2 (SSE4.2), v3 (AVX2) or v4 (AVX-512). Other processors
// have one version, "generic".
//
// HETSYN_KERNEL=v2 or v3 in the environment asks for a lower one, for tests and measurements. This reads cpuid itself:
// zig's runtime answers every __builtin_cpu_supports with no.

#pragma once

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#define HETSYN_HAS_LEVELS 1
#else
#define HETSYN_HAS_LEVELS 0
#endif

namespace hetsyn {

enum class CpuLevel { none, v2, v3, v4 };

#if HETSYN_HAS_LEVELS
inline CpuLevel highest_cpu_level() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    const auto all = [](unsigned have, unsigned needed) { return (have & needed) == needed; };
    if (!__get_cpuid(1, &a, &b, &c, &d)) return CpuLevel::none;
    if (!all(c, bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT | bit_CMPXCHG16B)) return CpuLevel::none;
    if (!all(c, bit_OSXSAVE | bit_AVX | bit_F16C | bit_FMA | bit_MOVBE)) return CpuLevel::v2;
    unsigned enabled = 0, high = 0;  // registers that the operating system saves: xmm, ymm; for v4 also k and zmm
    asm volatile("xgetbv" : "=a"(enabled), "=d"(high) : "c"(0));
    if (!all(enabled, 0x6)) return CpuLevel::v2;
    unsigned b7 = 0, unused = 0;
    if (!__get_cpuid_count(7, 0, &a, &b7, &unused, &d) || !all(b7, bit_AVX2 | bit_BMI | bit_BMI2)) return CpuLevel::v2;
    if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !all(c, bit_LZCNT)) return CpuLevel::v2;
    constexpr unsigned avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
    return all(b7, avx512) && all(enabled, 0xe6) ? CpuLevel::v4 : CpuLevel::v3;
}

inline CpuLevel cpu_level() {
    static const CpuLevel level = [] {
        const CpuLevel highest = highest_cpu_level();
        const char* requested = std::getenv("HETSYN_KERNEL");
        if (!requested) return highest;
        if (!std::strcmp(requested, "v2") && highest > CpuLevel::v2) return CpuLevel::v2;
        if (!std::strcmp(requested, "v3") && highest > CpuLevel::v3) return CpuLevel::v3;
        return highest;
    }();
    return level;
}
#endif

// v2, v3, v4 or generic; null where the processor runs none.
inline const char* cpu_level_name() {
#if HETSYN_HAS_LEVELS
    switch (cpu_level()) {
        case CpuLevel::none: return nullptr;
        case CpuLevel::v2: return "v2";
        case CpuLevel::v3: return "v3";
        case CpuLevel::v4: return "v4";
    }
    return nullptr;
#else
    return "generic";
#endif
}

}  // namespace hetsyn
