// The sum over the synapses of an exact neuron: float64, in one order on every machine.
//
// Current i goes into partial sum i % 32. They hide the latency of an addition.

#pragma once

#include "description.hpp"

namespace hetsyn {

constexpr int kPartialSums = 32;

// The sum of sums [kPartialSums].
HETSYN_INLINE double add_partial_sums(const double* sums) {
    double all[8];
    for (int lane = 0; lane < 8; ++lane)
        all[lane] = (sums[lane] + sums[8 + lane]) + (sums[16 + lane] + sums[24 + lane]);
    return ((all[0] + all[4]) + (all[2] + all[6])) + ((all[1] + all[5]) + (all[3] + all[7]));
}

}  // namespace hetsyn
