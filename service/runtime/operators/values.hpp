// Real numbers as input (hetsyn_model/values.py): a step's numbers on one grid, so that every sum of their products with
// a bank's weights is exact in float64, and what they bring to the layers of each form.

#pragma once

#include <cmath>
#include <cstdint>

#include "description.hpp"
#include "summation.hpp"

namespace hetsyn {

// The number s that aligns a step's values: 2^(17 + ceil(log2 channels)) times the largest magnitude.
HETSYN_INLINE double alignment_of(const float* values, int64_t channels) {
    double largest = 0.0, factor = 131072.0;
    for (int64_t many = 1; many < channels; many *= 2) factor *= 2.0;
    for (int64_t i = 0; i < channels; ++i) {
        const double magnitude = fabs(static_cast<double>(values[i]));
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest * factor;
}

HETSYN_INLINE double aligned(float value, double s) { return (s + static_cast<double>(value)) - s; }

// What a step's values and the bias bring to a bank, drive [bank * neurons]; sums has as many.
static __attribute__((noinline)) inline void values_bank_drive(const Layer& layer, const float* values,
                                                               double* __restrict sums, float* __restrict drive) {
    const int64_t columns = layer.bank * layer.neurons;
    const double s = alignment_of(values, layer.inputs);
    for (int64_t c = 0; c < columns; ++c) sums[c] = 0.0;
    for (int64_t i = 0; i < layer.inputs; ++i) {
        const double value = aligned(values[i], s);
        const int16_t* __restrict row = layer.bank_in + i * columns;
        if (value != 0.0)
            for (int64_t c = 0; c < columns; ++c) sums[c] += value * static_cast<double>(row[c]);
    }
    for (int64_t c = 0; c < columns; ++c) drive[c] = static_cast<float>(sums[c] * static_cast<double>(layer.scale[c]));
    if (layer.bias_in)
        for (int64_t c = 0; c < columns; ++c) drive[c] += layer.bias_in[c];
}

// u = decay * u + (drive + the recurrent input) for each decay; total = sum of u over the decays, in their order
static __attribute__((noinline)) inline void values_bank_step(const Layer& layer, const float* __restrict drive,
                                                              const int32_t* __restrict recurrent,
                                                              float* __restrict current, float* __restrict total) {
    const int64_t N = layer.neurons;
    for (int64_t k = 0; k < layer.bank; ++k) {
        const int64_t at = k * N;
        const float decay = layer.decay_in[k];
        for (int64_t n = 0; n < N; ++n) {
            float arriving = drive[at + n];
            if (recurrent) arriving += static_cast<float>(recurrent[at + n]) * layer.scale[at + n];
            const float u = decay * current[at + n] + arriving;
            current[at + n] = u;
            total[n] = k == 0 ? u : total[n] + u;
        }
    }
}

// The input path of an exact layer with a current a synapse, one step: state [neurons, inputs].
static __attribute__((noinline)) inline void values_synapses(const Layer& layer, const float* __restrict values,
                                                             float* __restrict current, float* __restrict total) {
    const int64_t I = layer.inputs;
    for (int64_t n = 0; n < layer.neurons; ++n) {
        const float *weight = layer.rows_in + n * I, *decay = layer.decay_in + n * I;
        const float* bias = layer.bias_in ? layer.bias_in + n * I : nullptr;
        float* row = current + n * I;
        double sums[kPartialSums] = {};
        for (int64_t first = 0; first < I; first += kPartialSums) {
            const int64_t count = I - first < kPartialSums ? I - first : kPartialSums;
            for (int64_t lane = 0; lane < count; ++lane) {
                const int64_t i = first + lane;
                float value = decay[i] * row[i] + weight[i] * values[i];
                if (bias) value += bias[i];
                row[i] = value;
                sums[lane] += static_cast<double>(value);
            }
        }
        total[n] = static_cast<float>(add_partial_sums(sums));
    }
}

// The input path of an exact layer with a current a neuron, one step: state [neurons], none without decays. drive
// [neurons] is working memory.
static __attribute__((noinline)) inline void values_neurons(const Layer& layer, const float* values,
                                                            float* __restrict current, float* __restrict total,
                                                            double* __restrict drive) {
    const int64_t N = layer.neurons;
    for (int64_t n = 0; n < N; ++n) drive[n] = 0.0;
    for (int64_t i = 0; i < layer.inputs; ++i) {
        const double value = static_cast<double>(values[i]);
        const float* __restrict row = layer.weight_in + i * N;
        for (int64_t n = 0; n < N; ++n) drive[n] += value * static_cast<double>(row[n]);
    }
    for (int64_t n = 0; n < N; ++n) {
        float value = static_cast<float>(drive[n]);
        if (layer.decay_in) value = layer.decay_in[n] * current[n] + value;
        if (layer.bias_in) value += layer.bias_in[n];
        if (layer.decay_in) current[n] = value;
        total[n] = value;
    }
}

}  // namespace hetsyn
