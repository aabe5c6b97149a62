// A spiking network over the steps of one stream's chunk: the mathematics of the operators, without ONNX Runtime.
//
// The same bits as hetsyn_model and the pure graph: compiled with -ffp-contract=off, because a fused multiply-add
// would round once where those round twice, and a spike is a threshold. A bank's weights lie on a dyadic grid
// (hetsyn_model/synapses/bank.py): whole numbers of 16 bits, whose sums below 2^24 a float32 holds exactly.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "decision.hpp"
#include "description.hpp"
#include "neurons.hpp"
#include "spike_train.hpp"

namespace hetsyn {

// One stream's chunk and where its outputs go. Events are those of its rows alone: row - first_row is the step.
struct Chunk {
    int64_t steps;
    const int64_t *row, *unit;
    int64_t events, first_row;
    float *scores, *probabilities;  // [outputs]
    float* readout;                 // [steps, outputs]; null if nobody wants it
    std::vector<float*> spikes;     // a hidden layer each: [steps, neurons]; likewise none
};

// Working memory of a thread, for all streams of its share of a call.
struct Scratch {
    std::vector<int32_t> arriving;     // [bank * neurons] of the largest bank: a step's input, in steps of its scale
    std::vector<float> total;          // [neurons] of the widest layer: currents, then potentials
    std::vector<double> drive;         // [neurons] of the widest layer: what arrives in a step
    std::vector<float> powers;         // [outputs], of a softmax
    std::vector<const int16_t*> rows;  // of a bank's weights: those of the units that spike
    std::vector<int32_t> fired;        // [neurons] of the widest layer: the units that spiked in the step before
    SpikeTrain input_spikes, output_spikes;

    explicit Scratch(const Network& network) {
        size_t columns = 0, widest = 0;
        for (const Layer& layer : network.layers) {
            widest = std::max(widest, static_cast<size_t>(layer.neurons));
            columns = std::max(columns, static_cast<size_t>(layer.bank * layer.neurons));
        }
        arriving.resize(columns);
        total.resize(widest);
        fired.resize(widest);
        drive.resize(widest);
        powers.resize(static_cast<size_t>(network.outputs()));
    }
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

// u = decay * u + input of one decay; total adds up u over the decays, in their order
template <bool is_first, bool biased>
HETSYN_INLINE void decay_step(int64_t neurons, float decay, const int32_t* __restrict input,
                              const float* __restrict scale, const float* __restrict bias, float* __restrict u,
                              float* __restrict total) {
    for (int64_t n = 0; n < neurons; ++n) {
        float arrived = static_cast<float>(input[n]) * scale[n];
        if (biased) arrived += bias[n];
        const float value = decay * u[n] + arrived;
        u[n] = value;
        total[n] = is_first ? value : total[n] + value;
    }
}

HETSYN_INLINE void bank_step(const Layer& layer, const int32_t* arriving, float* current, float* total) {
    const int64_t N = layer.neurons;
    for (int64_t k = 0; k < layer.bank; ++k) {
        const int64_t at = k * N;
        const float decay = layer.decay_in[k], *const scale = layer.scale + at;
        if (layer.bias_in) {
            const float* const bias = layer.bias_in + at;
            if (k)
                decay_step<false, true>(N, decay, arriving + at, scale, bias, current + at, total);
            else
                decay_step<true, true>(N, decay, arriving + at, scale, bias, current + at, total);
        } else if (k) {
            decay_step<false, false>(N, decay, arriving + at, scale, nullptr, current + at, total);
        } else {
            decay_step<true, false>(N, decay, arriving + at, scale, nullptr, current + at, total);
        }
    }
}

// One step of a path's currents, one a neuron: state [neurons], none without decays. drive [neurons] is working memory.
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

HETSYN_INLINE void neurons_step(const Layer& layer, const Units& input, const Units& previous, float* current,
                                float* total, double* drive) {
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

// All steps of the chunk, layer by layer; ``state`` [network.words()] and ``step`` are changed in place.
HETSYN_INLINE void run_stream(const Network& network, const Chunk& chunk, float* state, int64_t& step,
                              Scratch& scratch) {
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
        output_spikes.fit(chunk.steps, layer.spiking ? chunk.steps * N : 0, N);
        float* const total = scratch.total.data();
        for (int64_t t = 0; t < chunk.steps; ++t) {
            if (layer.bank) {
                const int64_t columns = layer.bank * N;
                scratch.rows.clear();
                for (const int32_t i : input_spikes.of(t)) scratch.rows.push_back(layer.bank_in + i * columns);
                if (layer.recurrent())
                    for (const int32_t i : previous) scratch.rows.push_back(layer.bank_rec + i * columns);
                sum_rows(scratch.arriving.data(), scratch.rows.data(), scratch.rows.size(), columns);
                bank_step(layer, scratch.arriving.data(), part, total);
            } else {
                neurons_step(layer, input_spikes.of(t), previous, part, total, scratch.drive.data());
            }
            if (layer.spiking) {
                spike_step(network, layer, neuron_state, total);
                output_spikes.close(t, list_spikes(spikes, N, output_spikes.at(t)));
                previous = output_spikes.of(t);
            } else if (network.membrane) {
                membrane_step(layer, neuron_state, total);
            }
            const size_t row_bytes = sizeof(float) * static_cast<size_t>(N);
            if (l < last) {
                if (!chunk.spikes.empty()) std::memcpy(chunk.spikes[l] + t * N, spikes, row_bytes);
            } else {
                if (chunk.readout) std::memcpy(chunk.readout + t * N, total, row_bytes);
                decide(network, outputs, step + t, total, layer.spiking ? spikes : nullptr, scratch.powers.data(),
                       score);
            }
        }
        std::swap(input_spikes, output_spikes);
        part += network.layer_words(layer);
    }
    step += chunk.steps;
    std::memcpy(chunk.scores, score.high, sizeof(float) * static_cast<size_t>(outputs));
    decision_probabilities(network, outputs, step, score, scratch.powers.data(), chunk.probabilities);
}

}  // namespace hetsyn
