#pragma once

#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace hetsyn {

// Let denormal numbers count as zero on this thread. A synapse that stays silent decays through them for a hundred time
// constants, and each product with one costs a hundred times as much; the loss is below 1e-38. Returns what the
// processor's control register was.
inline uint64_t flush_denormals() {
#if defined(__SSE__)
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040u);
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    asm volatile("mrs %0, fpcr" : "=r"(before));
    asm volatile("msr fpcr, %0" ::"r"(before | (1ull << 24)));
    return before;
#else
    return 0;
#endif
}

inline void restore_denormals([[maybe_unused]] uint64_t before) {
#if defined(__SSE__)
    _mm_setcsr(static_cast<unsigned>(before));
#elif defined(__aarch64__)
    asm volatile("msr fpcr, %0" ::"r"(before));
#endif
}

class DenormalsAreZero {
   public:
    DenormalsAreZero() : before_(flush_denormals()) {}
    ~DenormalsAreZero() { restore_denormals(before_); }

   private:
    uint64_t before_;
};

}  // namespace hetsyn
