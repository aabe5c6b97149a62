// Resonant neurons (SE-adLIF) of one step, forward and backward; hetsyn_model/resonance.py has the equations.

#pragma once

#include <cstdint>

namespace {

// beta, A and B of each neuron: rows of [3, neurons].
template <typename T>
struct Recovery {
    const T *beta, *of_membrane, *of_spike;
    Recovery(const T* weights, int64_t neurons)
        : beta(weights), of_membrane(weights + neurons), of_spike(weights + 2 * neurons) {}
};

// v holds the currents, and then the membranes. before is the spikes of the step before, kept its membranes and then
// these, recovery likewise.
template <typename T>
inline void resonate(int64_t neurons, const T* weights, const T* kappa, const T* threshold, const T* before, T* v,
                     T* kept, T* recovery, T* z) {
    const Recovery<T> of(weights, neurons);
    for (int64_t n = 0; n < neurons; ++n) {
        v[n] = kept[n] = kappa[n] * kept[n] * (T(1) - before[n]) + (v[n] - recovery[n]);
        z[n] = v[n] > threshold[n] ? T(1) : T(0);
        recovery[n] = of.beta[n] * recovery[n] + (of.of_membrane[n] * (v[n] * (T(1) - z[n])) + of.of_spike[n] * z[n]);
    }
}

// Adjoint of the above at one step. spike_grad comes in with what the recurrence brings and goes out as that of the
// currents; membrane_grad and recovery_grad come in as those of the step after and go out as this one's.
template <typename T>
inline void resonate_backward(int64_t neurons, const T* weights, const T* kappa, const T* z, const T* surrogate,
                              const T* grad_spikes, const T* grad_potential, T* spike_grad, T* membrane_grad,
                              T* recovery_grad) {
    const Recovery<T> of(weights, neurons);
    for (int64_t n = 0; n < neurons; ++n) {
        const T recovery = of.beta[n] * recovery_grad[n] - membrane_grad[n];
        const T kept = kappa[n] * membrane_grad[n] + of.of_membrane[n] * recovery;
        const T spike = spike_grad[n] + grad_spikes[n] + of.of_spike[n] * recovery;
        membrane_grad[n] = spike * surrogate[n] + grad_potential[n] + (T(1) - z[n]) * kept;
        spike_grad[n] = membrane_grad[n];
        recovery_grad[n] = recovery;
    }
}

// What this step adds to the gradients of kappa, and of beta, A and B, from those of its membranes and recoveries.
// Those of the step before, v_before and so on, do not count at a stream's first step.
template <typename T>
inline void resonance_weights_backward(int64_t neurons, const T* v, const T* z, const T* v_before, const T* z_before,
                                       const T* r_before, bool is_first, const T* membrane_grad,
                                       const T* recovery_grad, T* grad_kappa, T* grad_weights) {
    T *beta = grad_weights, *of_membrane = grad_weights + neurons, *of_spike = grad_weights + 2 * neurons;
    for (int64_t n = 0; n < neurons; ++n) {
        of_membrane[n] += recovery_grad[n] * (v[n] * (T(1) - z[n]));
        of_spike[n] += recovery_grad[n] * z[n];
        if (is_first) continue;
        if (grad_kappa) grad_kappa[n] += membrane_grad[n] * (v_before[n] * (T(1) - z_before[n]));
        beta[n] += recovery_grad[n] * r_before[n];
    }
}

}  // namespace
