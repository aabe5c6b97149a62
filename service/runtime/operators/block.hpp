// A network over the steps of a batch of chunks as a GPU runs it: one block a stream, from the chunk's first step to
// its last. The state stays in the block's shared memory where it fits, spikes travel between layers as index lists.
//
// Written against a block's interface, so that the same lines are compiled for a GPU (network.cu) and for a host that
// plays one (tests/support/emulation.cpp). Threads share the columns of a bank, then the neurons; in the exact form a
// warp has a neuron. Every float operation and its order are those of network.hpp, so the same bits are expected: a
// bank's sums are exact in any order, and an exact neuron's sum (summation.hpp) has one partial sum a lane.
//
//     Block    thread() threads()   lane() lanes() warp() warps()   sync() sync_warp() ballot(bool)

#pragma once

#include <cstddef>
#include <cstdint>

#include "block_call.hpp"
#include "decision.hpp"
#include "description.hpp"
#include "resonance.hpp"
#include "summation.hpp"
#include "values.hpp"

#if defined(__CUDA_ARCH__)
#define HETSYN_UNROLL _Pragma("unroll 4")
#elif !defined(__CUDACC__)
#define HETSYN_UNROLL _Pragma("GCC unroll 4")
#else  // nvcc's pass over the host's side knows neither
#define HETSYN_UNROLL
#endif

namespace hetsyn {

// A Network without its vector, to be handed to a kernel by value.
struct BlockNetwork : Parameters {
    Layer layers[kMaxLayers];
    int count = 0;
    int64_t words = 0, channels = 0, outputs = 0, widest = 0, neurons = 0;
    bool needs_sums = false;  // a layer has a current a synapse
};

inline BlockNetwork block_network(const Network& network) {
    BlockNetwork made;
    static_cast<Parameters&>(made) = network;
    made.count = static_cast<int>(network.layers.size());
    made.words = network.words();
    made.channels = network.channels();
    made.outputs = network.outputs();
    for (int l = 0; l < made.count && l < kMaxLayers; ++l) {
        const Layer& layer = made.layers[l] = network.layers[static_cast<size_t>(l)];
        made.widest = layer.neurons > made.widest ? layer.neurons : made.widest;
        made.neurons += layer.neurons;
        made.needs_sums = made.needs_sums || (!layer.bank && layer.per_synapse);
    }
    return made;
}

// A block's shared memory.
struct SharedMemory {
    double* sums;                // [warps, kPartialSums] where needed
    float* total;                // [widest] currents, then potentials, of the layer at hand
    float* powers;               // [outputs] of a softmax
    float* state;                // [words] where it fits, else null
    int32_t* fired;              // [neurons] indices of the units that spike, one layer after the other
    int32_t* fired_count;        // [kMaxLayers]
    int32_t* warp_count;         // [warps]
    unsigned char* input_flags;  // [channels] 1 where a channel has an event in the step, where needed

    HETSYN_BOTH static size_t bytes(const BlockNetwork& network, int warps, bool with_state) {
        SharedMemory shared;
        return static_cast<size_t>(shared.lay_out(nullptr, network, warps, with_state));
    }
    // Points into memory at ``base``; the bytes that it took.
    HETSYN_BOTH int64_t lay_out(unsigned char* base, const BlockNetwork& network, int warps, bool with_state) {
        int64_t used = 0;
        const auto take = [&](int64_t count, int64_t size) {
            unsigned char* at = base + used;
            used += count * size;
            return at;
        };
        sums = reinterpret_cast<double*>(take(network.needs_sums ? warps * kPartialSums : 0, 8));
        total = reinterpret_cast<float*>(take(network.widest, 4));
        powers = reinterpret_cast<float*>(take(network.outputs, 4));
        state = reinterpret_cast<float*>(take(with_state ? network.words : 0, 4));
        if (!with_state) state = nullptr;
        fired = reinterpret_cast<int32_t*>(take(network.neurons, 4));
        fired_count = reinterpret_cast<int32_t*>(take(kMaxLayers, 4));
        warp_count = reinterpret_cast<int32_t*>(take(warps, 4));
        input_flags = take(network.needs_sums ? network.channels : 0, 1);
        return used;
    }
};

HETSYN_BOTH int ones(unsigned bits) {
#if defined(__CUDA_ARCH__)
    return __popc(bits);
#else
    return __builtin_popcount(bits);
#endif
}

// The neurons whose spike is not 0, ascending. Thread n % threads must have written spikes[n]. Ends in step.
template <class Block>
HETSYN_BOTH void list_fired(const Block& block, const SharedMemory& shared, const float* spikes, int64_t neurons,
                            int32_t* fired, int32_t* count) {
    int32_t listed = 0;
    for (int64_t base = 0; base < neurons; base += block.threads()) {
        const int64_t n = base + block.thread();
        const bool fires = n < neurons && spikes[n] != 0.0f;
        const unsigned bits = block.ballot(fires);
        if (block.lane() == 0) shared.warp_count[block.warp()] = ones(bits);
        block.sync();
        int32_t before = listed, all = listed;
        for (int w = 0; w < block.warps(); ++w) {
            const int32_t warp_count = shared.warp_count[w];
            if (w < block.warp()) before += warp_count;
            all += warp_count;
        }
        if (fires) fired[before + ones(bits & ((1u << block.lane()) - 1u))] = static_cast<int32_t>(n);
        listed = all;
        if (block.thread() == 0) *count = listed;
        block.sync();
    }
}

// total = sum over the decays of u, with u = decay * u + the rows of the units that spike: input, and previous, the
// layer's own in the step before. Of values, input is their drive. Thread n % threads writes total[n].
template <class Block>
HETSYN_BOTH void bank_currents(const Block& block, const Layer& layer, const int32_t* input, int32_t input_count,
                               const float* values, const int32_t* previous, int32_t previous_count, float* current,
                               float* total) {
    const double s = values ? alignment_of(values, layer.inputs) : 0.0;
    const int neurons = static_cast<int>(layer.neurons);
    const int columns = static_cast<int>(layer.bank) * neurons;
    for (int c = block.thread(); c < columns; c += block.threads()) {
        int32_t sum = 0;
        const int16_t* column = layer.bank_in + c;
        HETSYN_UNROLL
        for (int32_t e = 0; e < input_count; ++e) sum += column[static_cast<int64_t>(input[e]) * columns];
        if (layer.recurrent()) {
            column = layer.bank_rec + c;
            HETSYN_UNROLL
            for (int32_t e = 0; e < previous_count; ++e) sum += column[static_cast<int64_t>(previous[e]) * columns];
        }
        float added = static_cast<float>(sum) * layer.scale[c];
        if (values) {
            double drive = 0.0;
            for (int64_t i = 0; i < layer.inputs; ++i)
                drive += aligned(values[i], s) * static_cast<double>(layer.bank_in[i * columns + c]);
            float arriving = static_cast<float>(drive * static_cast<double>(layer.scale[c]));
            if (layer.bias_in) arriving += layer.bias_in[c];
            added = layer.recurrent() ? arriving + added : arriving;
        } else if (layer.bias_in) {
            added += layer.bias_in[c];
        }
        current[c] = layer.decay_in[c / neurons] * current[c] + added;
    }
    block.sync();
    for (int n = block.thread(); n < neurons; n += block.threads()) {
        float sum = current[n];
        for (int c = n + neurons; c < columns; c += neurons) sum += current[c];
        total[n] = sum;
    }
}

// One path of an exact layer with a current a synapse: state [neurons, inputs], flags [inputs], 0 and 1 or values. A
// warp has a neuron.
template <class Block, class Flag>
HETSYN_BOTH void synapse_currents(const Block& block, const SharedMemory& shared, int64_t neurons, int64_t inputs,
                                  const float* weight, const float* decay, const float* bias, const Flag* flags,
                                  float* current, bool add) {
    double* sums = shared.sums + block.warp() * kPartialSums;
    for (int64_t n = block.warp(); n < neurons; n += block.warps()) {
        float* row = current + n * inputs;
        const float *r = decay + n * inputs, *b = bias ? bias + n * inputs : nullptr;
        const auto advance = [&](int64_t i) {
            float value = r[i] * row[i];
            if (flags[i] != Flag(0)) value += weight[i * neurons + n] * static_cast<float>(flags[i]);
            if (b) value += b[i];
            row[i] = value;
            return value;
        };
        for (int lane = block.lane(); lane < kPartialSums; lane += block.lanes()) {
            double sum = 0.0;
            for (int64_t i = lane; i < inputs; i += kPartialSums) sum += static_cast<double>(advance(i));
            sums[lane] = sum;
        }
        block.sync_warp();
        if (block.lane() == 0) {
            const float sum = static_cast<float>(add_partial_sums(sums));
            shared.total[n] = add ? shared.total[n] + sum : sum;
        }
        block.sync_warp();
    }
}

// The same with a current a neuron: state [neurons]. Without decays there is no state.
template <class Block>
HETSYN_BOTH void neuron_currents(const Block& block, int64_t neurons, const float* weight, const float* decay,
                                 const float* bias, const int32_t* units, int32_t count, const float* values,
                                 int64_t inputs, float* current, float* total, bool add) {
    for (int64_t n = block.thread(); n < neurons; n += block.threads()) {
        double drive = 0.0;
        for (int32_t e = 0; e < count; ++e)
            drive += static_cast<double>(weight[static_cast<int64_t>(units[e]) * neurons + n]);
        for (int64_t i = 0; values && i < inputs; ++i)
            drive += static_cast<double>(values[i]) * static_cast<double>(weight[i * neurons + n]);
        float value = static_cast<float>(drive);
        if (decay) value = decay[n] * current[n] + value;
        if (bias) value += bias[n];
        if (decay) current[n] = value;
        total[n] = add ? total[n] + value : value;
    }
}

// Threshold and reset: state [reset or membrane | spikes | adaptation or recovery], each [neurons]; of a readout [membrane]
template <class Block>
HETSYN_BOTH void spike(const Block& block, const Parameters& network, const Layer& layer, float* state,
                       float* potential) {
    const int64_t N = layer.neurons;
    for (int64_t n = block.thread(); n < N; n += block.threads()) {
        if (!layer.spiking) {
            state[n] = potential[n] = layer.kappa[n] * state[n] + potential[n];
            continue;
        }
        const float before = state[N + n], threshold = network.threshold_of(layer, n);
        if (network.resonant) {
            resonate(layer, n, threshold, potential[n], state[n], state[N + n], state[2 * N + n]);
            potential[n] = state[n];
            continue;
        }
        float value = potential[n];
        if (network.membrane) {
            value = network.left(layer, n, state[n], before) + value;
            state[n] = value;
        } else {
            const float reset = layer.kappa[n] * state[n] + threshold * before;
            state[n] = reset;
            value = value - reset;
        }
        potential[n] = value;
        float level = threshold;
        if (network.adaptive) {
            const float adaptation = network.adaptation_decay * state[2 * N + n] + network.adaptation_strength * before;
            state[2 * N + n] = adaptation;
            level = threshold + adaptation;
        }
        state[N + n] = value > level ? 1.0f : 0.0f;
    }
}

// Stream b of the call, by all threads of a block.
template <class Block>
HETSYN_BOTH void run_block(const Block& block, const BlockNetwork& network, const BlockCall& call, int64_t b,
                           const SharedMemory& shared) {
    const int last = network.count - 1;
    const int64_t words = network.words, outputs = network.outputs;
    float* const next = call.next_state + b * words;
    float* const state = shared.state ? shared.state : next;
    for (int64_t w = block.thread(); w < words; w += block.threads()) state[w] = call.state[b * words + w];
    if (network.needs_sums)
        for (int64_t i = block.thread(); i < network.channels; i += block.threads()) shared.input_flags[i] = 0;
    block.sync();

    float* part = state;
    int32_t* fired = shared.fired;
    for (int l = 0; l <= last; ++l) {  // the units that spiked in the last step of the chunk before
        const Layer& layer = network.layers[l];
        if (layer.spiking) {
            const float* spikes = part + layer.current_words() + layer.neurons;
            list_fired(block, shared, spikes, layer.neurons, fired, &shared.fired_count[l]);
        }
        part += network.layer_words(layer);
        fired += layer.neurons;
    }
    const Score score = score_of(network, outputs, state + words);

    const int64_t steps = call.steps[b];
    int64_t step = call.step[b];
    for (int64_t t = 0; t < steps; ++t, ++step) {
        const int64_t row = b * call.longest + t;
        const int32_t begin = call.split[row];
        const int32_t event_count = call.split[row + 1] - begin;
        const int32_t* const events = call.unit + begin;
        if (network.needs_sums) {
            for (int32_t e = block.thread(); e < event_count; e += block.threads()) shared.input_flags[events[e]] = 1;
            block.sync();
        }
        const int32_t* input = events;  // the units of the layer before that spike; at first the events
        int32_t input_count = event_count;
        // the same as flags, or the step's values; null for the events
        const float* input_spikes = call.values ? call.values + row * network.channels : nullptr;
        part = state;
        fired = shared.fired;
        for (int l = 0; l <= last; ++l) {
            const Layer& layer = network.layers[l];
            const int64_t N = layer.neurons, I = layer.inputs;
            float* const neuron_state = part + layer.current_words();
            float* const spikes = neuron_state + N;
            const float* const values = l == 0 ? input_spikes : nullptr;
            const int32_t previous_count = layer.spiking ? shared.fired_count[l] : 0;
            if (layer.bank) {
                bank_currents(block, layer, input, input_count, values, fired, previous_count, part, shared.total);
            } else if (layer.per_synapse) {
                if (input_spikes)
                    synapse_currents(block, shared, N, I, layer.weight_in, layer.decay_in, layer.bias_in, input_spikes,
                                     part, false);
                else
                    synapse_currents(block, shared, N, I, layer.weight_in, layer.decay_in, layer.bias_in,
                                     static_cast<const unsigned char*>(shared.input_flags), part, false);
                if (layer.recurrent())
                    synapse_currents(block, shared, N, N, layer.weight_rec, layer.decay_rec, layer.bias_rec,
                                     static_cast<const float*>(spikes), part + N * I, true);
                block.sync();  // threads go on with sums that warps wrote
            } else {
                neuron_currents(block, N, layer.weight_in, layer.decay_in, layer.bias_in, input, input_count,
                                values, I, part, shared.total, false);
                if (layer.recurrent())
                    neuron_currents(block, N, layer.weight_rec, layer.decay_rec, layer.bias_rec, fired, previous_count,
                                    nullptr, 0, part + N, shared.total, true);
            }
            if (layer.spiking) {
                spike(block, network, layer, neuron_state, shared.total);
                list_fired(block, shared, spikes, N, fired, &shared.fired_count[l]);
                if (l < last)
                    for (int64_t n = block.thread(); n < N; n += block.threads())
                        call.spikes[l][row * N + n] = spikes[n];
                input = fired;
                input_count = shared.fired_count[l];
                input_spikes = spikes;
            } else if (network.membrane) {
                spike(block, network, layer, neuron_state, shared.total);
            }
            part += network.layer_words(layer);
            fired += N;
        }
        for (int64_t n = block.thread(); n < outputs; n += block.threads())
            call.readout[row * outputs + n] = shared.total[n];
        // after the last layer input_spikes are the readout's where it spikes
        decide(block, network, outputs, step, shared.total, input_spikes, shared.powers, score);
        if (network.needs_sums)
            for (int32_t e = block.thread(); e < event_count; e += block.threads()) shared.input_flags[events[e]] = 0;
        block.sync();
    }

    if (shared.state)
        for (int64_t w = block.thread(); w < words; w += block.threads()) next[w] = state[w];
    if (block.thread() == 0) call.next_step[b] = step;
    for (int64_t n = block.thread(); n < outputs; n += block.threads()) call.scores[b * outputs + n] = score.high[n];
    decision_probabilities(block, network, outputs, step, score, shared.powers, call.probabilities + b * outputs);
}

}  // namespace hetsyn
