// One step of a layer's neurons: membrane or reset, threshold, adaptation. The same bits as network.hpp says.

#pragma once

#include <cstdint>

#include "description.hpp"

namespace hetsyn {

// Threshold and reset: state [reset or membrane | spikes | adaptation], each [neurons]; threshold_of(n) is neuron n's
template <class Threshold>
HETSYN_INLINE void spikes_of(const Parameters& network, const Layer& layer, const Threshold& threshold_of,
                             float* __restrict state, float* __restrict potential) {
    const int64_t N = layer.neurons;
    float* __restrict kept = state;
    float* __restrict spikes = state + N;
    if (network.membrane)
        for (int64_t n = 0; n < N; ++n)
            kept[n] = potential[n] =
                membrane_left(network.reset, layer.kappa[n], threshold_of(n), kept[n], spikes[n]) + potential[n];
    else
        for (int64_t n = 0; n < N; ++n) {
            kept[n] = reset_current(layer.kappa[n], threshold_of(n), kept[n], spikes[n]);
            potential[n] -= kept[n];
        }
    if (network.adaptive) {
        float* __restrict adaptation = state + 2 * N;
        for (int64_t n = 0; n < N; ++n) {
            adaptation[n] = network.adaptation_decay * adaptation[n] + network.adaptation_strength * spikes[n];
            spikes[n] = potential[n] > threshold_of(n) + adaptation[n] ? 1.0f : 0.0f;
        }
    } else {
        for (int64_t n = 0; n < N; ++n) spikes[n] = potential[n] > threshold_of(n) ? 1.0f : 0.0f;
    }
}

HETSYN_INLINE void spike_step(const Parameters& network, const Layer& layer, float* state, float* potential) {
    if (const float* const own = layer.threshold)
        spikes_of(network, layer, [own](int64_t n) { return own[n]; }, state, potential);
    else
        spikes_of(network, layer, [all = network.threshold](int64_t) { return all; }, state, potential);
}

// A readout's membrane: state [membrane]
HETSYN_INLINE void membrane_step(const Layer& layer, float* __restrict state, float* __restrict potential) {
    for (int64_t n = 0; n < layer.neurons; ++n) state[n] = potential[n] = layer.kappa[n] * state[n] + potential[n];
}

}  // namespace hetsyn
