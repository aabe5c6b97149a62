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

// Some units, one after the other.
struct Units {
    const int32_t *first, *last;

    const int32_t* begin() const { return first; }
    const int32_t* end() const { return last; }
};

// The units that spike in each step of a chunk: those of step t are ends[t] to ends[t + 1].
struct Train {
    std::vector<int32_t> units;
    std::vector<int64_t> ends;

    // Room for so many steps and spikes in all, and one step's more: a step is written before it is counted.
    void fit(int64_t steps, int64_t spikes, int64_t neurons) {
        ends.resize(static_cast<size_t>(steps) + 1);
        ends[0] = 0;
        if (static_cast<int64_t>(units.size()) < spikes + neurons) units.resize(static_cast<size_t>(spikes + neurons));
    }
    int32_t* at(int64_t t) { return units.data() + ends[static_cast<size_t>(t)]; }
    void close(int64_t t, int64_t count) { ends[static_cast<size_t>(t) + 1] = ends[static_cast<size_t>(t)] + count; }
    Units of(int64_t t) const {
        const size_t step = static_cast<size_t>(t);
        return {units.data() + ends[step], units.data() + ends[step + 1]};
    }
};

// Room that a thread works in, kept between streams.
struct Scratch {
    std::vector<int32_t> arriving;
    std::vector<float> total, gain;  // total: [steps, neurons] of the widest layer
    std::vector<const int16_t*> rows;
    std::vector<int32_t> fired;
    std::vector<int32_t> spikes;  // of an exact layer: [steps of a stride, inputs]
    Train heard, said;

    explicit Scratch(const Network& network) {
        size_t columns = 0;
        for (const Layer& layer : network.layers) {
            widest_ = std::max(widest_, static_cast<size_t>(layer.neurons));
            columns = std::max(columns, static_cast<size_t>(layer.bank * layer.neurons));
        }
        arriving.resize(columns);
        fired.resize(widest_);
        gain.resize(static_cast<size_t>(network.outputs()));
    }
    void fit(int64_t steps) { total.resize(std::max(total.size(), widest_ * static_cast<size_t>(steps))); }

   private:
    size_t widest_ = 0;
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

constexpr int kSums = 32;  // partial sums of a neuron's currents

// kSums synapses a step on; each current is added to a sum of its own.
HETSYN_INLINE void synapses_step(const float* __restrict weight, const float* __restrict decay,
                                 const float* __restrict bias, const int32_t* __restrict spikes,
                                 float* __restrict current, double* __restrict sums) {
    for (int s = 0; s < kSums; ++s) {
        int32_t arriving;
        std::memcpy(&arriving, weight + s, sizeof arriving);
        arriving &= spikes[s];
        float added;
        std::memcpy(&added, &arriving, sizeof added);
        float value = decay[s] * current[s] + added;
        if (bias) value += bias[s];
        current[s] = value;
        sums[s] += static_cast<double>(value);
    }
}

// The currents of one neuron's synapses, a step on, and their sum; spikes [inputs] are all ones (-1) where a unit
// spikes. The sum is in float64, rounded once: 32 partial sums hide the latency of an addition, value i goes into that
// of i % 32, and they are added up in a fixed order, whatever the machine. One pass, because values that are stored one
// by one cannot be read again many at a time until they have left the processor's store buffer.
HETSYN_INLINE float synapse_row(int64_t inputs, const float* weight, const float* decay, const float* bias,
                                const int32_t* spikes, float* row) {
    double sums[kSums] = {};
    int64_t i = 0;
    for (; i + kSums <= inputs; i += kSums)
        synapses_step(weight + i, decay + i, bias ? bias + i : nullptr, spikes + i, row + i, sums);
    if (i < inputs) {
        float w[kSums] = {}, r[kSums] = {}, drive[kSums] = {}, u[kSums] = {};
        int32_t z[kSums] = {};
        const size_t rest = 4 * static_cast<size_t>(inputs - i);
        std::memcpy(w, weight + i, rest);
        std::memcpy(r, decay + i, rest);
        std::memcpy(u, row + i, rest);
        std::memcpy(z, spikes + i, rest);
        if (bias) std::memcpy(drive, bias + i, rest);
        synapses_step(w, r, bias ? drive : nullptr, z, u, sums);
        std::memcpy(row + i, u, rest);
    }
    double all[8];
    for (int lane = 0; lane < 8; ++lane) all[lane] = (sums[lane] + sums[8 + lane]) + (sums[16 + lane] + sums[24 + lane]);
    return static_cast<float>(((all[0] + all[4]) + (all[2] + all[6])) + ((all[1] + all[5]) + (all[3] + all[7])));
}

HETSYN_INLINE void mark(const Units& units, int32_t* spikes) {
    for (const int32_t i : units) spikes[i] = -1;
}

// Steps that a neuron takes before the next one: their spikes have to stay in the second cache.
constexpr int64_t kStride = 32;

// The input path of an exact layer with a current a synapse, over all steps of the chunk: state [neurons, inputs]. A
// neuron's currents, weights and decays stay in the first cache for a stride; only recurrence has to go step by step.
HETSYN_INLINE void synapses_heard(const Layer& layer, const Train& heard, int64_t steps, std::vector<int32_t>& spikes,
                                  float* current, float* total) {
    const int64_t I = layer.inputs, N = layer.neurons;
    for (int64_t first = 0; first < steps; first += kStride) {
        const int64_t count = std::min(kStride, steps - first);
        spikes.assign(static_cast<size_t>(count * I), 0);
        for (int64_t t = 0; t < count; ++t) mark(heard.of(first + t), spikes.data() + t * I);
        for (int64_t n = 0; n < N; ++n)
            for (int64_t t = 0; t < count; ++t)
                total[(first + t) * N + n] =
                    synapse_row(I, layer.rows_in + n * I, layer.decay_in + n * I,
                                layer.bias_in ? layer.bias_in + n * I : nullptr, spikes.data() + t * I, current + n * I);
    }
}

// Its recurrent path, one step: state [neurons, neurons]
HETSYN_INLINE void synapses_recurrent(const Layer& layer, const Units& own, std::vector<int32_t>& spikes,
                                      float* current, float* total) {
    const int64_t N = layer.neurons;
    spikes.assign(static_cast<size_t>(N), 0);
    mark(own, spikes.data());
    for (int64_t n = 0; n < N; ++n)
        total[n] += synapse_row(N, layer.rows_rec + n * N, layer.decay_rec + n * N,
                                layer.bias_rec ? layer.bias_rec + n * N : nullptr, spikes.data(), current + n * N);
}

// The same with a current a neuron: state [neurons]
HETSYN_INLINE void neuron_step(int64_t neurons, const float* weight, const float* decay,
                               const float* bias, const Units& events, float* current, float* total, bool add) {
    for (int64_t n = 0; n < neurons; ++n) {
        double drive = 0.0;
        for (const int32_t i : events) drive += static_cast<double>(weight[i * neurons + n]);
        float value = decay[n] * current[n] + static_cast<float>(drive);
        if (bias) value += bias[n];
        current[n] = value;
        total[n] = add ? total[n] + value : value;
    }
}

HETSYN_INLINE void neurons_step(const Layer& layer, const Units& heard, const Units& own, float* current,
                                float* total) {
    neuron_step(layer.neurons, layer.weight_in, layer.decay_in, layer.bias_in, heard, current, total, false);
    if (layer.recurrent())
        neuron_step(layer.neurons, layer.weight_rec, layer.decay_rec, layer.bias_rec, own, current + layer.neurons,
                    total, true);
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

// The neurons that spike, into ``fired``; their number. No branch: a spike is hard to foresee.
HETSYN_INLINE int64_t list_spikes(const float* __restrict spikes, int64_t neurons, int32_t* __restrict fired) {
    int64_t count = 0;
    for (int64_t n = 0; n < neurons; ++n) {
        fired[count] = static_cast<int32_t>(n);
        count += spikes[n] != 0.0f;
    }
    return count;
}

// Threshold and reset: state [reset | spikes | adaptation], each [neurons]
HETSYN_INLINE void spike_step(const Network& network, const Layer& layer, float* __restrict state,
                              float* __restrict potential) {
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
}

// All steps of the chunk, layer by layer; ``state`` [network.words()] and ``step`` are changed in place.
HETSYN_CLONES
static void run_stream(const Network& network, const Chunk& chunk, float* state, int64_t& step, Scratch& scratch) {
    scratch.fit(chunk.steps);
    Train &heard = scratch.heard, &said = scratch.said;
    heard.fit(chunk.steps, chunk.events, 0);
    for (int64_t t = 0, event = 0; t < chunk.steps; ++t) {
        const int64_t first = event;
        for (; event < chunk.events && chunk.row[event] - chunk.first_row == t; ++event)
            heard.units[static_cast<size_t>(event)] = static_cast<int32_t>(chunk.unit[event]);
        heard.close(t, event - first);
    }
    const size_t last = network.layers.size() - 1;
    float* part = state;
    float* score = state + network.words() - network.outputs();
    for (size_t l = 0; l <= last; ++l) {
        const Layer& layer = network.layers[l];
        const int64_t N = layer.neurons;
        float* neuron_state = part + layer.current_words();
        const float* spikes = neuron_state + N;
        // what fired in the step before: first, at the end of the chunk before
        int32_t* const fired = scratch.fired.data();
        Units own{fired, fired + (layer.spiking ? list_spikes(spikes, N, fired) : 0)};
        const bool synapses = !layer.bank && layer.per_synapse;
        if (synapses) synapses_heard(layer, heard, chunk.steps, scratch.spikes, part, scratch.total.data());
        said.fit(chunk.steps, layer.spiking ? chunk.steps * N : 0, N);
        for (int64_t t = 0; t < chunk.steps; ++t) {
            float* total = scratch.total.data() + (synapses ? t * N : 0);
            if (layer.bank) {
                const int64_t columns = layer.bank * N;
                scratch.rows.clear();
                for (const int32_t i : heard.of(t)) scratch.rows.push_back(layer.bank_in + i * columns);
                if (layer.recurrent())
                    for (const int32_t i : own) scratch.rows.push_back(layer.bank_rec + i * columns);
                sum_rows(scratch.arriving.data(), scratch.rows.data(), scratch.rows.size(), columns);
                bank_step(layer, scratch.arriving.data(), part, total);
            } else if (!synapses) {
                neurons_step(layer, heard.of(t), own, part, total);
            } else if (layer.recurrent()) {
                synapses_recurrent(layer, own, scratch.spikes, part + N * layer.inputs, total);
            }
            if (layer.spiking) {
                spike_step(network, layer, neuron_state, total);
                said.close(t, list_spikes(spikes, N, said.at(t)));
                own = said.of(t);
            }
            if (l < last) {
                std::memcpy(chunk.spikes[l] + t * N, spikes, sizeof(float) * static_cast<size_t>(N));
            } else {
                std::memcpy(chunk.readout + t * N, total, sizeof(float) * static_cast<size_t>(N));
                decide(network, total, layer.spiking ? spikes : nullptr, step + t, scratch.gain.data(), score);
            }
        }
        std::swap(heard, said);
        part += network.layer_words(layer);
    }
    step += chunk.steps;
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
