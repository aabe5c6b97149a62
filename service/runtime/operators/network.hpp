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
#include <memory>
#include <vector>

#include "decision.hpp"
#include "delays.hpp"
#include "description.hpp"
#include "neurons.hpp"
#include "spike_train.hpp"
#include "summation.hpp"
#include "values.hpp"

namespace hetsyn {

// One stream's chunk and where its outputs go. Events are those of its rows alone: row - first_row is the step.
struct Chunk {
    int64_t steps;
    const int64_t *row, *unit;
    int64_t events, first_row;
    const float* values;            // [steps, channels] in place of the events, or null
    float *scores, *probabilities;  // [outputs]
    float* readout;                 // [steps, outputs]
    std::vector<float*> spikes;     // a hidden layer each: [steps, neurons]
};

// Working memory of delays.
struct Late {
    SpikeTrain spikes;  // what arrives of the input
    DelayLine input_line, own_line;
};

// Working memory of a thread, for all streams of its share of a call.
struct Scratch {
    std::vector<int32_t> arriving;     // [bank * neurons] of the largest bank: a step's input, in steps of its scale
    std::vector<float> total;          // [steps, neurons] of the widest layer: currents, then potentials
    std::vector<double> drive;         // [neurons] of the widest layer: what arrives in a step
    std::vector<double> value_sums;    // [bank * neurons] of a first layer that takes values
    std::vector<float> value_drive;    // the same in float32, with the bias
    std::vector<float> powers;         // [outputs], of a softmax
    std::vector<const int16_t*> rows;  // of a bank's weights: those of the units that spike
    std::vector<int32_t> fired;        // [neurons] of the widest layer: the units that spiked in the step before
    std::vector<int32_t> spike_masks;  // of an exact layer: [steps of a stride, inputs]
    SpikeTrain input_spikes, output_spikes;
    std::unique_ptr<Late> late;  // of a network with delays

    explicit Scratch(const Network& network) {
        size_t columns = 0;
        for (const Layer& layer : network.layers) {
            widest_ = std::max(widest_, static_cast<size_t>(layer.neurons));
            columns = std::max(columns, static_cast<size_t>(layer.bank * layer.neurons));
        }
        arriving.resize(columns);
        fired.resize(widest_);
        drive.resize(widest_);
        powers.resize(static_cast<size_t>(network.outputs()));
        if (network.has_delays()) late = std::make_unique<Late>();
    }
    void fit_values(const Layer& first) {
        value_sums.resize(static_cast<size_t>(first.bank * first.neurons));
        value_drive.resize(value_sums.size());
    }
    void fit(int64_t steps) { total.resize(std::max(total.size(), widest_ * static_cast<size_t>(steps))); }

   private:
    size_t widest_ = 0;
};

// sum = base + the rows; R of them in one pass, to store each sum once
template <size_t R>
HETSYN_INLINE void add_rows(int32_t* __restrict sum, bool first, const int16_t* const* rows, int64_t columns) {
    const int16_t* r[R];
    for (size_t i = 0; i < R; ++i) r[i] = rows[i];
    if (first)
        for (int64_t c = 0; c < columns; ++c) {
            int32_t added = 0;
            for (size_t i = 0; i < R; ++i) added += r[i][c];
            sum[c] = added;
        }
    else
        for (int64_t c = 0; c < columns; ++c) {
            int32_t added = sum[c];
            for (size_t i = 0; i < R; ++i) added += r[i][c];
            sum[c] = added;
        }
}

HETSYN_INLINE void sum_rows(int32_t* sum, const int16_t* const* rows, size_t count, int64_t columns) {
    constexpr size_t wide = 8;
    if (!count) std::memset(sum, 0, sizeof(int32_t) * static_cast<size_t>(columns));
    size_t summed = 0;
    for (; summed + wide <= count; summed += wide) add_rows<wide>(sum, summed == 0, rows + summed, columns);
    const int16_t* const* rest = rows + summed;
    const bool first = summed == 0;
    switch (count - summed) {
        case 7: add_rows<7>(sum, first, rest, columns); break;
        case 6: add_rows<6>(sum, first, rest, columns); break;
        case 5: add_rows<5>(sum, first, rest, columns); break;
        case 4: add_rows<4>(sum, first, rest, columns); break;
        case 3: add_rows<3>(sum, first, rest, columns); break;
        case 2: add_rows<2>(sum, first, rest, columns); break;
        case 1: add_rows<1>(sum, first, rest, columns); break;
    }
}

// u = decay * u + input for each decay; total = sum of u over the decays, in their order
HETSYN_INLINE void bank_step(const Layer& layer, const int32_t* __restrict arriving, float* __restrict current,
                             float* __restrict total) {
    const int64_t N = layer.neurons;
    for (int64_t k = 0; k < layer.bank; ++k) {
        float* __restrict u = current + k * N;
        const int32_t* __restrict input = arriving + k * N;
        const float* __restrict scale = layer.scale + k * N;
        const float decay = layer.decay_in[k];
        const float* bias = layer.bias_in ? layer.bias_in + k * N : nullptr;
        if (bias)
            for (int64_t n = 0; n < N; ++n) u[n] = decay * u[n] + (static_cast<float>(input[n]) * scale[n] + bias[n]);
        else
            for (int64_t n = 0; n < N; ++n) u[n] = decay * u[n] + static_cast<float>(input[n]) * scale[n];
        if (k == 0)
            for (int64_t n = 0; n < N; ++n) total[n] = u[n];
        else
            for (int64_t n = 0; n < N; ++n) total[n] += u[n];
    }
}

// kPartialSums synapses, one step; each current is added to a sum of its own. The same twice: GCC makes vectors of the
// plain loop, better ones than of vector types; clang takes it apart into single values, at twenty times the cost.
HETSYN_INLINE void synapses_step(const float* __restrict weight, const float* __restrict decay,
                                 const float* __restrict bias, const int32_t* __restrict spikes,
                                 float* __restrict current, double* __restrict sums) {
#if defined(__clang__)
    constexpr int lanes = 8;
    typedef float Floats __attribute__((vector_size(4 * lanes)));
    typedef int32_t Masks __attribute__((vector_size(4 * lanes)));
    typedef double Doubles __attribute__((vector_size(8 * lanes)));
    for (int s = 0; s < kPartialSums; s += lanes) {
        Masks arriving, fired;
        Floats r, value, added;
        Doubles sum;
        std::memcpy(&arriving, weight + s, sizeof arriving);
        std::memcpy(&fired, spikes + s, sizeof fired);
        std::memcpy(&r, decay + s, sizeof r);
        std::memcpy(&value, current + s, sizeof value);
        std::memcpy(&sum, sums + s, sizeof sum);
        arriving &= fired;
        std::memcpy(&added, &arriving, sizeof added);
        value = r * value + added;
        if (bias) {
            Floats drive;
            std::memcpy(&drive, bias + s, sizeof drive);
            value += drive;
        }
        sum += __builtin_convertvector(value, Doubles);
        std::memcpy(current + s, &value, sizeof value);
        std::memcpy(sums + s, &sum, sizeof sum);
    }
#else
    for (int s = 0; s < kPartialSums; ++s) {
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
#endif
}

// The currents of one neuron's synapses, one step, and their sum (summation.hpp), rounded once to float32. spikes
// [inputs] are all ones (-1) where a unit spikes. One pass, because values that are stored one by one cannot be read
// again many at a time until they have left the processor's store buffer.
HETSYN_INLINE float synapse_row(int64_t inputs, const float* weight, const float* decay, const float* bias,
                                const int32_t* spikes, float* row) {
    double sums[kPartialSums] = {};
    int64_t i = 0;
    for (; i + kPartialSums <= inputs; i += kPartialSums)
        synapses_step(weight + i, decay + i, bias ? bias + i : nullptr, spikes + i, row + i, sums);
    double all[kPartialSums];  // a copy: the loop's sums stay in registers if nothing else has their address
    std::memcpy(all, sums, sizeof all);
    if (i < inputs) {
        float w[kPartialSums] = {}, r[kPartialSums] = {}, drive[kPartialSums] = {}, u[kPartialSums] = {};
        int32_t z[kPartialSums] = {};
        const size_t rest = 4 * static_cast<size_t>(inputs - i);
        std::memcpy(w, weight + i, rest);
        std::memcpy(r, decay + i, rest);
        std::memcpy(u, row + i, rest);
        std::memcpy(z, spikes + i, rest);
        if (bias) std::memcpy(drive, bias + i, rest);
        synapses_step(w, r, bias ? drive : nullptr, z, u, all);
        std::memcpy(row + i, u, rest);
    }
    return static_cast<float>(add_partial_sums(all));
}

HETSYN_INLINE void mark(const Units& units, int32_t* masks) {
    for (const int32_t i : units) masks[i] = -1;
}

// Steps that a neuron takes before the next one: their spikes have to stay in the second cache.
constexpr int64_t kStride = 32;

// The input path of an exact layer with a current a synapse, over all steps of the chunk: state [neurons, inputs]. A
// neuron's currents, weights and decays stay in the first cache for a stride; only recurrence has to go step by step.
HETSYN_APART void synapses_input(const Layer& layer, const SpikeTrain& input_spikes, int64_t steps,
                                 std::vector<int32_t>& masks, float* current, float* total) {
    const int64_t I = layer.inputs, N = layer.neurons;
    for (int64_t first = 0; first < steps; first += kStride) {
        const int64_t count = std::min(kStride, steps - first);
        masks.assign(static_cast<size_t>(count * I), 0);
        for (int64_t t = 0; t < count; ++t) mark(input_spikes.of(first + t), masks.data() + t * I);
        for (int64_t n = 0; n < N; ++n)
            for (int64_t t = 0; t < count; ++t)
                total[(first + t) * N + n] =
                    synapse_row(I, layer.rows_in + n * I, layer.decay_in + n * I,
                                layer.bias_in ? layer.bias_in + n * I : nullptr, masks.data() + t * I, current + n * I);
    }
}

// Its recurrent path, one step: state [neurons, own_inputs]
HETSYN_APART void synapses_recurrent(const Layer& layer, const Units& previous, std::vector<int32_t>& masks,
                                     float* current, float* total) {
    const int64_t N = layer.neurons, I = layer.own_inputs();
    masks.assign(static_cast<size_t>(I), 0);
    mark(previous, masks.data());
    for (int64_t n = 0; n < N; ++n)
        total[n] += synapse_row(I, layer.rows_rec + n * I, layer.decay_rec + n * I,
                                layer.bias_rec ? layer.bias_rec + n * I : nullptr, masks.data(), current + n * I);
}

// The same with a current a neuron: state [neurons], none without decays. drive [neurons] is working memory.
HETSYN_INLINE void neuron_step(int64_t neurons, const float* weight, const float* decay, const float* bias,
                               const Units& events, float* __restrict current, float* __restrict total, bool add,
                               double* __restrict drive) {
    std::memset(drive, 0, sizeof(double) * static_cast<size_t>(neurons));
    for (const int32_t i : events) {
        const float* const row = weight + i * neurons;
        for (int64_t n = 0; n < neurons; ++n) drive[n] += static_cast<double>(row[n]);
    }
    for (int64_t n = 0; n < neurons; ++n) {
        float value = static_cast<float>(drive[n]);
        if (decay) value = decay[n] * current[n] + value;
        if (bias) value += bias[n];
        if (decay) current[n] = value;
        total[n] = add ? total[n] + value : value;
    }
}

HETSYN_INLINE void neurons_step(const Layer& layer, const Units& input, const float* values, const Units& previous,
                                float* current, float* total, double* drive) {
    if (values)
        values_neurons(layer, values, current, total, drive);
    else
        neuron_step(layer.neurons, layer.weight_in, layer.decay_in, layer.bias_in, input, current, total, false, drive);
    if (layer.recurrent())
        neuron_step(layer.neurons, layer.weight_rec, layer.decay_rec, layer.bias_rec, previous,
                    layer.filtered ? current + layer.neurons : nullptr, total, true, drive);
}

// The neurons that spike, into ``fired``; their number. 64 neurons become the bits of a mask, so a branch is foreseen
// wrongly about once in 64 neurons, and not at each spike.
HETSYN_INLINE int64_t list_spikes(const float* __restrict spikes, int64_t neurons, int32_t* __restrict fired) {
    int64_t count = 0;
    for (int64_t first = 0; first < neurons; first += 64) {
        const int64_t size = std::min<int64_t>(64, neurons - first);
        uint8_t flags[64] = {};
        for (int64_t n = 0; n < size; ++n) flags[n] = spikes[first + n] != 0.0f;
        for (uint64_t mask = mask_of(flags); mask; mask &= mask - 1)
            fired[count++] = static_cast<int32_t>(first + __builtin_ctzll(mask));
    }
    return count;
}

// All steps of the chunk, layer by layer; ``state`` [network.words()] and ``step`` are changed in place. Networks
// without delays have a loop of their own, which knows nothing of them.
template <bool has_delays>
HETSYN_INLINE void run_stream(const Network& network, const Chunk& chunk, float* state, int64_t& step,
                              Scratch& scratch) {
    scratch.fit(chunk.steps);
    SpikeTrain &input_spikes = scratch.input_spikes, &output_spikes = scratch.output_spikes;
    input_spikes.fit(chunk.steps, chunk.events, 0);
    for (int64_t t = 0, event = 0; t < chunk.steps; ++t) {
        const int64_t first = event;
        for (; event < chunk.events && chunk.row[event] - chunk.first_row == t; ++event)
            input_spikes.units[static_cast<size_t>(event)] = static_cast<int32_t>(chunk.unit[event]);
        input_spikes.close(t, event - first);
    }
    const size_t last = network.layers.size() - 1;
    const int64_t outputs = network.outputs();
    float* part = state;
    const Score score = score_of(network, outputs, state + network.words());
    for (size_t l = 0; l <= last; ++l) {
        const Layer& layer = network.layers[l];
        const int64_t N = layer.neurons;
        float* neuron_state = part + layer.current_words();
        const float* spikes = neuron_state + N;
        // the units that spiked in the step before; at first, in the last step of the chunk before
        int32_t* const fired = scratch.fired.data();
        Units previous{fired, fired + (layer.spiking ? list_spikes(spikes, N, fired) : 0)};
        const bool synapses = !layer.bank && layer.per_synapse;
        const float* const values = l == 0 ? chunk.values : nullptr;
        const DelayPath &input_delays = layer.input_delays, &own_delays = layer.own_delays;
        const bool input_late = has_delays && input_delays.is_delayed();
        const bool own_late = has_delays && own_delays.is_delayed();
        float* const history = part + network.layer_words(layer) - layer.history_words();
        if (input_late)
            delay_train(input_delays, input_spikes, chunk.steps, scratch.late->input_line, scratch.late->spikes,
                        history);
        const bool ascending = !layer.bank && !synapses;  // where the order of a sum shows
        float* const own_history = history + input_delays.words();
        if (own_late) scratch.late->own_line.fit_own(own_delays);
        const SpikeTrain& arriving = input_late ? scratch.late->spikes : input_spikes;
        if (values) scratch.fit_values(layer);
        if (synapses && !values)
            synapses_input(layer, arriving, chunk.steps, scratch.spike_masks, part, scratch.total.data());
        output_spikes.fit(chunk.steps, layer.spiking ? chunk.steps * N : 0, N);
        for (int64_t t = 0; t < chunk.steps; ++t) {
            float* total = scratch.total.data() + (synapses ? t * N : 0);
            const Units own = own_late ? own_step(own_delays, t, chunk.steps, previous, ascending,
                                                  scratch.late->own_line, own_history)
                                       : previous;
            if (layer.bank) {
                const int64_t columns = layer.bank * N;
                scratch.rows.clear();
                for (const int32_t i : arriving.of(t)) scratch.rows.push_back(layer.bank_in + i * columns);
                if (layer.recurrent())
                    for (const int32_t i : own) scratch.rows.push_back(layer.bank_rec + i * columns);
                sum_rows(scratch.arriving.data(), scratch.rows.data(), scratch.rows.size(), columns);
                if (values) {
                    values_bank_drive(layer, values + t * layer.inputs, scratch.value_sums.data(),
                                      scratch.value_drive.data());
                    values_bank_step(layer, scratch.value_drive.data(),
                                     layer.recurrent() ? scratch.arriving.data() : nullptr, part, total);
                } else {
                    bank_step(layer, scratch.arriving.data(), part, total);
                }
            } else if (!synapses) {
                neurons_step(layer, arriving.of(t), values ? values + t * layer.inputs : nullptr, own, part, total,
                              scratch.drive.data());
            } else {
                if (values) values_synapses(layer, values + t * layer.inputs, part, total);
                if (layer.recurrent())
                    synapses_recurrent(layer, own, scratch.spike_masks, part + N * layer.inputs, total);
            }
            if (layer.spiking) {
                spike_step(network, layer, neuron_state, total);
                output_spikes.close(t, list_spikes(spikes, N, output_spikes.at(t)));
                previous = output_spikes.of(t);
            } else if (network.membrane) {
                membrane_step(layer, neuron_state, total);
            }
            if (l < last) {
                std::memcpy(chunk.spikes[l] + t * N, spikes, sizeof(float) * static_cast<size_t>(N));
            } else {
                std::memcpy(chunk.readout + t * N, total, sizeof(float) * static_cast<size_t>(N));
                decide(network, outputs, step + t, total, layer.spiking ? spikes : nullptr, scratch.powers.data(),
                       score);
            }
        }
        if (own_late) end_own(own_delays, chunk.steps, scratch.late->own_line, own_history);
        std::swap(input_spikes, output_spikes);
        part += network.layer_words(layer);
    }
    step += chunk.steps;
    std::memcpy(chunk.scores, score.high, sizeof(float) * static_cast<size_t>(outputs));
    decision_probabilities(network, outputs, step, score, scratch.powers.data(), chunk.probabilities);
}

}  // namespace hetsyn
