// Resonant neurons (SE-adLIF) of one step; hetsyn_model/resonance.py has the equations.

#pragma once

#include <cstdint>

#include "description.hpp"

namespace hetsyn {

// Neuron n of a layer: its membrane, spike and recovery current, changed in place. The order of the operations is part
// of the result.
HETSYN_INLINE void resonate(const Layer& layer, int64_t n, float threshold, float current, float& membrane, float& spike,
                          float& recovery) {
    const float *beta = layer.resonance, *of_membrane = beta + layer.neurons, *of_spike = of_membrane + layer.neurons;
    const float potential = layer.kappa[n] * membrane * (1.0f - spike) + (current - recovery);
    const float fires = potential > threshold ? 1.0f : 0.0f;
    recovery = beta[n] * recovery + (of_membrane[n] * (potential * (1.0f - fires)) + of_spike[n] * fires);
    membrane = potential;
    spike = fires;
}

// A layer on the CPU: state [membrane | spikes | recovery], each [neurons]; currents in, potentials out. Apart from the
// hot loops of other networks, whose registers it leaves alone.
static __attribute__((noinline, unused)) void resonance_step(const Parameters& network, const Layer& layer,
                                                             float* __restrict state, float* __restrict potential) {
    const int64_t N = layer.neurons;
    for (int64_t n = 0; n < N; ++n) {
        resonate(layer, n, network.threshold_of(layer, n), potential[n], state[n], state[N + n], state[2 * N + n]);
        potential[n] = state[n];
    }
}

}  // namespace hetsyn
