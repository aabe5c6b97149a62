// A call of a network's operator as the blocks of a GPU see it, and how its small inputs travel there.

#pragma once

#include <cstddef>
#include <cstdint>

namespace hetsyn {

constexpr int kMaxLayers = 16;

// split[b * longest + t] is where the events of stream b's step t begin in unit; values are null for a network of events.
struct BlockCall {
    int64_t streams, longest;
    const int64_t* step;                  // [streams]
    const int32_t *steps, *split, *unit;  // [streams], [streams * longest + 1], [events]
    const float* values;                  // [streams, longest, channels]
    const float* state;                   // [streams, words]
    float *next_state, *scores, *probabilities, *readout;
    int64_t* next_step;
    float* spikes[kMaxLayers];
};

// A call's small inputs in one piece of memory, so that they travel to a device in one copy: step, steps, split, unit.
struct Packing {
    int64_t streams, longest, events;

    size_t bytes() const {
        return static_cast<size_t>(streams) * 8 + 4 * static_cast<size_t>(streams + streams * longest + 1 + events);
    }
    template <class Call>
    void write(const Call& call, unsigned char* to) const {
        int64_t* step = reinterpret_cast<int64_t*>(to);
        int32_t* steps = reinterpret_cast<int32_t*>(step + streams);
        int32_t* split = steps + streams;
        int32_t* unit = split + streams * longest + 1;
        int64_t event = 0;
        for (int64_t b = 0; b < streams; ++b) {
            step[b] = call.step[b];
            steps[b] = static_cast<int32_t>(call.steps[b]);
        }
        for (int64_t row = 0; row < streams * longest; ++row) {
            split[row] = static_cast<int32_t>(event);
            while (event < events && call.row[event] == row) ++event;
        }
        split[streams * longest] = static_cast<int32_t>(event);
        for (int64_t e = 0; e < events; ++e) unit[e] = static_cast<int32_t>(call.unit[e]);
    }
    void point(BlockCall& call, const unsigned char* at) const {
        call.step = reinterpret_cast<const int64_t*>(at);
        call.steps = reinterpret_cast<const int32_t*>(call.step + streams);
        call.split = call.steps + streams;
        call.unit = call.split + streams * longest + 1;
    }
};

template <class Call>
BlockCall block_call(const Call& call) {
    BlockCall made{};
    made.streams = call.streams;
    made.longest = call.longest;
    made.values = call.values;
    made.state = call.state;
    made.next_state = call.next_state;
    made.scores = call.scores;
    made.probabilities = call.probabilities;
    made.readout = call.readout;
    made.next_step = call.next_step;
    for (size_t l = 0; l < call.spikes.size(); ++l) made.spikes[l] = call.spikes[l];
    return made;
}

}  // namespace hetsyn
