// A spiking network over the steps of one stream's chunk: the mathematics of the operators, without ONNX Runtime.
//
// The same bits as hetsyn_model and the pure graph: compiled with -ffp-contract=off, because a fused multiply-add
// would round once where those round twice, and a spike is a threshold. A bank's weights lie on a dyadic grid
// (hetsyn_model/bank.py): whole numbers of 16 bits, whose sums below 2^24 a float32 holds exactly.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "description.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define HETSYN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define HETSYN_CLONES
#endif
#define HETSYN_INLINE static inline __attribute__((always_inline))

namespace hetsyn {

// One stream's chunk. Events are those of its rows alone: row - first_row is the step.
struct Chunk {
    int64_t steps;
    const int64_t *row, *unit;
    int64_t events, first_row;
    float* readout;                // [steps, outputs]
    std::vector<float*> spikes;    // a hidden layer each: [steps, neurons]
};

// Room that a thread works in, kept between streams.
struct Scratch {
    std::vector<int32_t> arriving;
    std::vector<float> total, gain;
    std::vector<const int16_t*> rows;
    std::vector<std::vector<int32_t>> fired;
    std::vector<int32_t> heard;

    explicit Scratch(const Network& network) {
        size_t widest = 0, columns = 0;
        for (const Layer& layer : network.layers) {
            widest = std::max(widest, static_cast<size_t>(layer.neurons));
            columns = std::max(columns, static_cast<size_t>(layer.bank * layer.neurons));
            fired.emplace_back();
            fired.back().reserve(static_cast<size_t>(layer.neurons));
        }
        arriving.resize(columns);
        total.resize(widest);
        gain.resize(static_cast<size_t>(network.outputs()));
    }
};

// sum = base + the rows; R of them in one pass, to store each sum once
template <int R>
HETSYN_INLINE void add_rows(int32_t* __restrict sum, bool first, const int16_t* const* rows, int64_t columns) {
    const int16_t* r[R];
    for (int i = 0; i < R; ++i) r[i] = rows[i];
    if (first)
        for (int64_t c = 0; c < columns; ++c) {
            int32_t here = 0;
            for (int i = 0; i < R; ++i) here += r[i][c];
            sum[c] = here;
        }
    else
        for (int64_t c = 0; c < columns; ++c) {
            int32_t here = sum[c];
            for (int i = 0; i < R; ++i) here += r[i][c];
            sum[c] = here;
        }
}

HETSYN_INLINE void sum_rows(int32_t* sum, const int16_t* const* rows, size_t count, int64_t columns) {
    constexpr size_t wide = 8;
    if (!count) std::memset(sum, 0, sizeof(int32_t) * static_cast<size_t>(columns));
    size_t done = 0;
    for (; done + wide <= count; done += wide) add_rows<wide>(sum, done == 0, rows + done, columns);
    const int16_t* const* rest = rows + done;
    const bool first = done == 0;
    switch (count - done) {
        case 7: add_rows<7>(sum, first, rest, columns); break;
        case 6: add_rows<6>(sum, first, rest, columns); break;
        case 5: add_rows<5>(sum, first, rest, columns); break;
        case 4: add_rows<4>(sum, first, rest, columns); break;
        case 3: add_rows<3>(sum, first, rest, columns); break;
        case 2: add_rows<2>(sum, first, rest, columns); break;
        case 1: add_rows<1>(sum, first, rest, columns); break;
    }
}

// u = decay * u + what arrives, for each decay; total = sum of u over the decays, in their order
HETSYN_INLINE void bank_step(const Layer& layer, const int32_t* __restrict arriving, float* __restrict current,
                             float* __restrict total) {
    const int64_t N = layer.neurons;
    for (int64_t k = 0; k < layer.bank; ++k) {
        float* __restrict u = current + k * N;
        const int32_t* __restrict steps = arriving + k * N;
        const float* __restrict scale = layer.scale + k * N;
        const float decay = layer.decay_in[k];
        const float* bias = layer.bias_in ? layer.bias_in + k * N : nullptr;
        if (bias)
            for (int64_t n = 0; n < N; ++n) u[n] = decay * u[n] + (static_cast<float>(steps[n]) * scale[n] + bias[n]);
        else
            for (int64_t n = 0; n < N; ++n) u[n] = decay * u[n] + static_cast<float>(steps[n]) * scale[n];
        if (k == 0)
            for (int64_t n = 0; n < N; ++n) total[n] = u[n];
        else
            for (int64_t n = 0; n < N; ++n) total[n] += u[n];
    }
}

// Sum of a row in float64, rounded once. The partial sums hide the latency of an addition, and their order is fixed,
// whatever the machine.
HETSYN_INLINE float row_sum(const float* row, int64_t length) {
    constexpr int lanes = 8, sums = 4;
    typedef float Floats __attribute__((vector_size(4 * lanes)));
    typedef double Doubles __attribute__((vector_size(8 * lanes)));
    Doubles part[sums] = {};
    int64_t i = 0;
    for (; i + lanes * sums <= length; i += lanes * sums)
        for (int s = 0; s < sums; ++s) {
            Floats values;
            std::memcpy(&values, row + i + s * lanes, sizeof values);
            part[s] += __builtin_convertvector(values, Doubles);
        }
    const Doubles all = (part[0] + part[1]) + (part[2] + part[3]);
    double sum = 0.0;
    for (int lane = 0; lane < lanes; ++lane) sum += all[lane];
    for (; i < length; ++i) sum += static_cast<double>(row[i]);
    return static_cast<float>(sum);
}

// One path (input or recurrent) of an exact layer with a current a synapse: state [neurons, inputs]
HETSYN_INLINE void synapse_step(int64_t neurons, int64_t inputs, const float* weight, const float* decay,
                                const float* bias, const std::vector<int32_t>& events, float* current, float* total,
                                bool add) {
    for (int64_t n = 0; n < neurons; ++n) {
        float* __restrict row = current + n * inputs;
        const float* __restrict r = decay + n * inputs;
        for (int64_t i = 0; i < inputs; ++i) row[i] = r[i] * row[i];
        for (const int32_t i : events) row[i] += weight[i * neurons + n];
        if (bias) {
            const float* b = bias + n * inputs;
            for (int64_t i = 0; i < inputs; ++i) row[i] += b[i];
        }
        const float sum = row_sum(row, inputs);
        total[n] = add ? total[n] + sum : sum;
    }
}

// The same with a current a neuron: state [neurons]
HETSYN_INLINE void neuron_step(int64_t neurons, const float* weight, const float* decay,
                               const float* bias, const std::vector<int32_t>& events, float* current, float* total,
                               bool add) {
    for (int64_t n = 0; n < neurons; ++n) {
        double drive = 0.0;
        for (const int32_t i : events) drive += static_cast<double>(weight[i * neurons + n]);
        float value = decay[n] * current[n] + static_cast<float>(drive);
        if (bias) value += bias[n];
        current[n] = value;
        total[n] = add ? total[n] + value : value;
    }
}

HETSYN_INLINE void exact_step(const Layer& layer, const std::vector<int32_t>& arriving,
                              const std::vector<int32_t>& own, float* current, float* total) {
    if (layer.per_synapse) {
        synapse_step(layer.neurons, layer.inputs, layer.weight_in, layer.decay_in, layer.bias_in, arriving, current,
                     total, false);
        if (layer.recurrent())
            synapse_step(layer.neurons, layer.neurons, layer.weight_rec, layer.decay_rec, layer.bias_rec, own,
                         current + layer.neurons * layer.inputs, total, true);
    } else {
        neuron_step(layer.neurons, layer.weight_in, layer.decay_in, layer.bias_in, arriving, current,
                    total, false);
        if (layer.recurrent())
            neuron_step(layer.neurons, layer.weight_rec, layer.decay_rec, layer.bias_rec, own,
                        current + layer.neurons, total, true);
    }
}

HETSYN_INLINE void softmax(const float* x, int64_t count, float* __restrict out) {
    float largest = x[0];
    for (int64_t n = 1; n < count; ++n) largest = x[n] > largest ? x[n] : largest;
    for (int64_t n = 0; n < count; ++n) out[n] = exp_nonpositive(x[n] - largest);
    float sum = 0.0f;
    for (int64_t n = 0; n < count; ++n) sum += out[n];
    for (int64_t n = 0; n < count; ++n) out[n] /= sum;
}

HETSYN_INLINE void decide(const Network& network, const float* potential, const float* fired, int64_t step,
                          float* gain, float* score) {
    if (step < network.skip_steps) return;
    const int64_t count = network.outputs();
    if (network.rule == Rule::sum_softmax) {
        softmax(potential, count, gain);
        for (int64_t n = 0; n < count; ++n) score[n] += gain[n];
    } else if (network.rule == Rule::spike_count) {
        for (int64_t n = 0; n < count; ++n) score[n] += fired[n];
    } else {
        std::memcpy(score, potential, sizeof(float) * static_cast<size_t>(count));
    }
}

// Threshold and reset: state [reset | spikes | adaptation], each [neurons]; the spikes of the step into ``fired``
HETSYN_INLINE void spike_step(const Network& network, const Layer& layer, float* __restrict state,
                              float* __restrict potential, std::vector<int32_t>& fired) {
    const int64_t N = layer.neurons;
    float* __restrict reset = state;
    float* __restrict spikes = state + N;
    const float threshold = network.threshold;
    for (int64_t n = 0; n < N; ++n) {
        reset[n] = layer.reset_decay[n] * reset[n] + threshold * spikes[n];
        potential[n] -= reset[n];
    }
    if (network.adaptive) {
        float* __restrict adaptation = state + 2 * N;
        for (int64_t n = 0; n < N; ++n) {
            adaptation[n] = network.adaptation_decay * adaptation[n] + network.adaptation_strength * spikes[n];
            spikes[n] = potential[n] > threshold + adaptation[n] ? 1.0f : 0.0f;
        }
    } else {
        for (int64_t n = 0; n < N; ++n) spikes[n] = potential[n] > threshold ? 1.0f : 0.0f;
    }
    fired.clear();
    for (int64_t n = 0; n < N; ++n)
        if (spikes[n] != 0.0f) fired.push_back(static_cast<int32_t>(n));
}

// All steps of the chunk; ``state`` [network.words()] and ``step`` are changed in place.
HETSYN_CLONES
static void run_stream(const Network& network, const Chunk& chunk, float* state, int64_t& step, Scratch& scratch) {
    const size_t last = network.layers.size() - 1;
    float* part = state;
    for (size_t l = 0; l <= last; ++l) {  // what fired at the end of the chunk before
        const Layer& layer = network.layers[l];
        std::vector<int32_t>& fired = scratch.fired[l];
        fired.clear();
        if (layer.spiking) {
            const float* spikes = part + layer.current_words() + layer.neurons;
            for (int64_t n = 0; n < layer.neurons; ++n)
                if (spikes[n] != 0.0f) fired.push_back(static_cast<int32_t>(n));
        }
        part += network.layer_words(layer);
    }
    float* score = part;
    float* total = scratch.total.data();
    int64_t event = 0;
    for (int64_t t = 0; t < chunk.steps; ++t) {
        scratch.heard.clear();
        for (; event < chunk.events && chunk.row[event] - chunk.first_row == t; ++event)
            scratch.heard.push_back(static_cast<int32_t>(chunk.unit[event]));
        const std::vector<int32_t>* arriving = &scratch.heard;
        part = state;
        const float* readout_spikes = nullptr;
        for (size_t l = 0; l <= last; ++l) {
            const Layer& layer = network.layers[l];
            std::vector<int32_t>& own = scratch.fired[l];
            if (layer.bank) {
                const int64_t columns = layer.bank * layer.neurons;
                scratch.rows.clear();
                for (const int32_t i : *arriving) scratch.rows.push_back(layer.bank_in + i * columns);
                if (layer.recurrent())
                    for (const int32_t i : own) scratch.rows.push_back(layer.bank_rec + i * columns);
                sum_rows(scratch.arriving.data(), scratch.rows.data(), scratch.rows.size(), columns);
                bank_step(layer, scratch.arriving.data(), part, total);
            } else {
                exact_step(layer, *arriving, own, part, total);
            }
            if (layer.spiking) {
                float* neuron_state = part + layer.current_words();
                spike_step(network, layer, neuron_state, total, own);
                const float* spikes = neuron_state + layer.neurons;
                if (l < last)
                    std::memcpy(chunk.spikes[l] + t * layer.neurons, spikes, sizeof(float) * layer.neurons);
                else
                    readout_spikes = spikes;
                arriving = &own;
            }
            part += network.layer_words(layer);
        }
        std::memcpy(chunk.readout + t * network.outputs(), total, sizeof(float) * network.outputs());
        decide(network, total, readout_spikes, step, scratch.gain.data(), score);
        ++step;
    }
}

// Class probabilities [outputs] from a score; uniform before the first step that counts.
HETSYN_CLONES
static void probabilities(const Network& network, const float* score, int64_t step, float* out) {
    const int64_t count = network.outputs();
    if (network.rule != Rule::sum_softmax) {
        softmax(score, count, out);
        return;
    }
    const int64_t counted = step - network.skip_steps;
    for (int64_t n = 0; n < count; ++n)
        out[n] = counted > 0 ? score[n] / static_cast<float>(counted) : 1.0f / static_cast<float>(count);
}

}  // namespace hetsyn
