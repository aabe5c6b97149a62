// What a block knows of the network, and how its shared memory is laid out.

#pragma once

#include <cstddef>
#include <cstdint>

#include "block_call.hpp"
#include "description.hpp"
#include "summation.hpp"

namespace hetsyn {

// A Network without its vector, to be handed to a kernel by value.
struct BlockNetwork : Parameters {
    Layer layers[kMaxLayers];
    int count = 0;
    int64_t words = 0, channels = 0, outputs = 0, widest = 0, neurons = 0;
    bool needs_sums = false;   // a layer has a current a synapse
    bool needs_flags = false;  // a layer reads the events as flags
    int64_t rows = 0, own_rows = 0;  // most of a layer that arrive with delays: of its input, and of its own spikes
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
        const int64_t rows = layer.input_delays.rows(), own = layer.own_delays.rows();
        made.rows = rows > made.rows ? rows : made.rows;
        made.own_rows = own > made.own_rows ? own : made.own_rows;
    }
    made.needs_flags = made.needs_sums || made.layers[0].input_delays.is_delayed();
    return made;
}

// The rows of a path with delays that arrive in a step.
struct Arrivals {
    int32_t *count, *rows;  // [1], [count] ascending
    unsigned char* flags;   // [all rows] 1 where one arrives, where a layer has a current a synapse
};

// A block's shared memory.
struct SharedMemory {
    double* sums;                // [warps, kPartialSums] where needed
    float* total;                // [widest] currents, then potentials, of the layer at hand
    float* powers;               // [outputs] of a softmax
    float* state;                // [words] where it fits, else null
    int32_t* fired;              // [neurons] indices of the units that spike, one layer after the other
    int32_t* fired_count;        // [kMaxLayers]
    int32_t* warp_count;         // [warps]
    Arrivals arrivals, own_arrivals;
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
        for (Arrivals* made : {&arrivals, &own_arrivals}) {
            const int64_t rows = made == &arrivals ? network.rows : network.own_rows;
            made->count = reinterpret_cast<int32_t*>(take(1, 4));
            made->rows = reinterpret_cast<int32_t*>(take(rows, 4));
        }
        input_flags = take(network.needs_flags ? network.channels : 0, 1);
        arrivals.flags = take(network.needs_sums ? network.rows : 0, 1);
        own_arrivals.flags = take(network.needs_sums ? network.own_rows : 0, 1);
        return used;
    }
};

}  // namespace hetsyn
