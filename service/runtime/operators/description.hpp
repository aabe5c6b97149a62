// What a network is: layers, neurons, decision. Plain values that the loops read.
//
// Index letters: t step, k bank decay, n neuron, i presynaptic unit. A bank's columns are k-major: column
// k * neurons + n, so that the decay and the sum over k run over contiguous neurons.

#pragma once

#include <cstdint>
#include <vector>

#include "reset.hpp"

#define HETSYN_INLINE inline __attribute__((always_inline))

namespace hetsyn {

// The newest version of the graphs that these sources run, GRAPH_VERSION of __init__.py. A library of another one is not
// used: it may take a graph and fail in the first chunk.
constexpr int kFormat = 5;

enum class Rule { sum_softmax, late_softmax, spike_count, last, trace };

// The equations' letters are in docs/explanation/model.md. A null pointer is a part that the layer lacks.
struct Layer {
    int64_t inputs = 0, neurons = 0;
    bool spiking = false;              // a threshold and a reset; a readout that is read as a potential has neither
    const float* kappa = nullptr;      // [neurons] decay of the reset current or of the membrane
    const float* threshold = nullptr;  // [neurons]; null where all layers have the network's

    // bank: weights [inputs, bank * neurons] in steps of their column's scale, decays [bank], bias [bank * neurons]
    // a current a neuron: weights [inputs, neurons]; decays and biases [neurons]
    int64_t bank = 0;
    const int16_t *bank_in = nullptr, *bank_rec = nullptr;
    const float* scale = nullptr;  // [bank * neurons], powers of two
    bool filtered = true;          // if not, a layer has no decays, and its currents are gone after a step
    const float *weight_in = nullptr, *weight_rec = nullptr;
    const float *decay_in = nullptr, *decay_rec = nullptr;
    const float *bias_in = nullptr, *bias_rec = nullptr;

    HETSYN_INLINE bool recurrent() const { return weight_rec != nullptr || bank_rec != nullptr; }
    HETSYN_INLINE int64_t current_words() const {
        if (bank) return bank * neurons;
        return filtered ? neurons * (recurrent() ? 2 : 1) : 0;
    }
};

// What a network has beside its layers.
struct Parameters {
    float threshold = 1.0f;
    bool membrane = false;  // the potential adds up by itself, and there is no reset current
    Reset reset = Reset::subtract;
    bool adaptive = false;
    float adaptation_decay = 0.0f, adaptation_strength = 0.0f;
    Rule rule = Rule::sum_softmax;
    int64_t skip_steps = 0;   // the first steps of a stream, which the decision leaves out
    int64_t score_words = 1;  // float32 values that a class's score is kept in: two for a sum of any length

    HETSYN_INLINE bool averages_softmax() const { return rule == Rule::sum_softmax || rule == Rule::late_softmax; }
    HETSYN_INLINE bool adds_up() const { return averages_softmax() || rule == Rule::spike_count; }
    // float32 values of a stream's state in one layer
    HETSYN_INLINE int64_t layer_words(const Layer& layer) const {
        const int64_t a_neuron = layer.spiking ? (adaptive ? 3 : 2) : membrane ? 1 : 0;
        return layer.current_words() + layer.neurons * a_neuron;
    }
};

struct Network : Parameters {
    std::vector<Layer> layers;  // hidden layers, then the readout

    int64_t channels() const { return layers.front().inputs; }
    int64_t outputs() const { return layers.back().neurons; }
    // float32 values of a stream's state, in the order of the manifest
    int64_t words() const {
        int64_t sum = score_words * outputs();
        for (const Layer& layer : layers) sum += layer_words(layer);
        return sum;
    }
};

// A call of the operator: chunks of several streams, and where the outputs go. longest is the most steps of a stream;
// row is stream * longest + step, ascending.
struct Batch {
    int64_t streams, longest, events, words;
    const int64_t *row, *unit;      // [events]
    const int64_t *steps, *step;    // [streams]
    const float* state;             // [streams, words]
    float* next_state;              // [streams, words]
    int64_t* next_step;             // [streams]
    float *scores, *probabilities;  // [streams, outputs]
    float* readout;                 // [streams, longest, outputs]; null if nobody wants it
    std::vector<float*> spikes;     // a hidden layer each: [streams, longest, neurons]; likewise none
};

}  // namespace hetsyn
