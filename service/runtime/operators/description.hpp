// What a network is: layers, neurons, decision. Plain values that the CPU's loops and the GPU's blocks both read.
//
// Index letters: t step, k bank decay, n neuron, i presynaptic unit. A bank's columns are k-major: column
// k * neurons + n, so that the decay and the sum over k run over contiguous neurons.

#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__CUDACC__)
#define HETSYN_BOTH __host__ __device__ __forceinline__
#else
#define HETSYN_BOTH inline __attribute__((always_inline))
#endif

namespace hetsyn {

enum class Rule { sum_softmax, spike_count, last, trace };

// Fields without unit are the equations' own (docs/explanation/model.md); a null pointer is a part that a layer lacks.
struct Layer {
    int64_t inputs = 0, neurons = 0;
    bool spiking = false;  // a threshold and a reset; a readout that is read as a potential has neither
    const float* reset_decay = nullptr;  // [neurons]

    // bank: weights [inputs, bank * neurons] in steps of their column's scale, decays [bank], bias [bank * neurons]
    // exact: weights [inputs, neurons]; decays and biases [neurons, inputs] a synapse, [neurons] a neuron
    int64_t bank = 0;
    const int16_t *bank_in = nullptr, *bank_rec = nullptr;
    const float* scale = nullptr;  // [bank * neurons], powers of two
    bool per_synapse = false;
    const float *weight_in = nullptr, *weight_rec = nullptr;
    const float *rows_in = nullptr, *rows_rec = nullptr;  // a synapse: weights [neurons, inputs], on the CPU
    const float *decay_in = nullptr, *decay_rec = nullptr;
    const float *bias_in = nullptr, *bias_rec = nullptr;

    HETSYN_BOTH bool recurrent() const { return weight_rec != nullptr || bank_rec != nullptr; }
    HETSYN_BOTH int64_t current_words() const {
        if (bank) return bank * neurons;
        return neurons * (per_synapse ? inputs : 1) + (recurrent() ? neurons * (per_synapse ? neurons : 1) : 0);
    }
};

struct Network {
    std::vector<Layer> layers;  // hidden layers, then the readout
    float threshold = 1.0f;
    bool adaptive = false;
    float adaptation_decay = 0.0f, adaptation_strength = 0.0f;
    Rule rule = Rule::sum_softmax;
    int64_t skip_steps = 0;

    int64_t channels() const { return layers.front().inputs; }
    int64_t outputs() const { return layers.back().neurons; }
    int64_t layer_words(const Layer& layer) const {
        return layer.current_words() + (layer.spiking ? layer.neurons * (adaptive ? 3 : 2) : 0);
    }
    // float32 values of a stream's state, in the order of the manifest
    int64_t words() const {
        int64_t sum = outputs();
        for (const Layer& layer : layers) sum += layer_words(layer);
        return sum;
    }
};

// e^x for x <= 0: no libm call, so that the loop over classes runs in vectors. Relative error below 2e-7.
HETSYN_BOTH float exp_nonpositive(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the fraction rounds away
    const float n = shifted - 12582912.0f;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

}  // namespace hetsyn
