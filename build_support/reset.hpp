// What a spike does to its own neuron. Training (hetsyn_model/native) and serving (service/runtime/operators) share this;
// hetsyn_model/neurons/spike.py has the equations and is the same in torch.

#pragma once

#include <cstdint>

namespace hetsyn {

enum class Reset : int32_t { subtract, subtract_at_once, zero };  // of a membrane; MEMBRANE_RESETS has this order

// What decay and reset leave of a membrane for the next step; spike is 0 or 1.
template <typename T>
inline __attribute__((always_inline)) T membrane_left(Reset reset, T kappa, T threshold, T membrane, T spike) {
    if (reset == Reset::zero) return kappa * membrane * (T(1) - spike);
    if (reset == Reset::subtract_at_once) return kappa * (membrane - threshold * spike);
    return kappa * membrane - threshold * spike;
}

// The derivative of membrane_left by the membrane.
template <typename T>
inline __attribute__((always_inline)) T left_by_membrane(Reset reset, T kappa, T spike) {
    return reset == Reset::zero ? kappa * (T(1) - spike) : kappa;
}

// The derivative of membrane_left by the spike, without its sign, which is minus.
template <typename T>
inline __attribute__((always_inline)) T taken_by_spike(Reset reset, T kappa, T threshold, T membrane) {
    if (reset == Reset::zero) return kappa * membrane;
    return reset == Reset::subtract_at_once ? kappa * threshold : threshold;
}

// The reset current of the next step, in neurons without a membrane.
template <typename T>
inline __attribute__((always_inline)) T reset_current(T kappa, T threshold, T current, T spike) {
    return kappa * current + threshold * spike;
}

}  // namespace hetsyn
