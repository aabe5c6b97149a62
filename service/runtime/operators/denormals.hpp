#pragma once

#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace hetsyn {

// Denormal numbers count as zero while it lives, on its thread. A synapse that stays silent decays through them for
// a hundred time constants, and each product with one costs a hundred times as much; the loss is below 1e-38.
class DenormalsAreZero {
   public:
#if defined(__SSE__)
    DenormalsAreZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040u); }
    ~DenormalsAreZero() { _mm_setcsr(before_); }

   private:
    unsigned before_;
#elif defined(__aarch64__)
    DenormalsAreZero() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" ::"r"(before_ | (1ull << 24)));
    }
    ~DenormalsAreZero() { asm volatile("msr fpcr, %0" ::"r"(before_)); }

   private:
    uint64_t before_;
#endif
};

}  // namespace hetsyn
