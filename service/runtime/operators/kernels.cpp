// The loops of both operators for one level of the processor: HETSYN_LEVEL is v2, v3, v4 or generic, and the compiler
// has the flags that go with it (build_support/compiling.py).

#include "kernels.hpp"

#include <algorithm>
#include <cstring>

#include "denormals.hpp"
#include "encoder.hpp"
#include "network.hpp"

#define HETSYN_JOIN_NOW(a, b) a##b
#define HETSYN_JOIN(a, b) HETSYN_JOIN_NOW(a, b)

namespace hetsyn {
namespace {

constexpr float kLargestValue = 1e30f;  // LARGEST_VALUE of service/runtime/states.py

void run_one(const Network& network, const Batch& batch, int64_t b, Scratch& scratch) {
    const int64_t first_row = b * batch.longest;
    const int64_t* begin = std::lower_bound(batch.row, batch.row + batch.events, first_row);
    const int64_t* end = std::lower_bound(begin, batch.row + batch.events, first_row + batch.longest);
    float* next_state = batch.next_state + b * batch.words;
    std::memcpy(next_state, batch.state + b * batch.words, sizeof(float) * static_cast<size_t>(batch.words));
    const int64_t outputs = network.outputs();
    Chunk chunk{batch.steps[b],
                begin,
                batch.unit + (begin - batch.row),
                end - begin,
                first_row,
                batch.scores + b * outputs,
                batch.probabilities + b * outputs,
                batch.readout ? batch.readout + first_row * outputs : nullptr,
                {}};
    for (size_t l = 0; l < batch.spikes.size(); ++l)
        chunk.spikes.push_back(batch.spikes[l] + first_row * network.layers[l].neurons);
    int64_t step = batch.step[b];
    run_stream(network, chunk, next_state, step, scratch);
    batch.next_step[b] = step;
}

void run_streams(const Network& network, const Batch& batch, int64_t first, int64_t last) {
    const DenormalsAreZero scope;
    Scratch scratch(network);
    for (int64_t b = first; b < last; ++b) run_one(network, batch, b, scratch);
}

// The sums are not in NumPy's order: what fails here is checked there (service/contract/decision.py).
bool is_sound(const Network& network, const Batch& batch) {
    uint32_t largest = 0;  // without the sign, the bits of larger numbers are larger, and largest those of NaN
    for (int64_t w = 0; w < batch.streams * batch.words; ++w) {
        uint32_t bits;
        std::memcpy(&bits, batch.next_state + w, sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    float magnitude;
    std::memcpy(&magnitude, &largest, sizeof magnitude);
    bool sound = magnitude < kLargestValue;
    const int64_t outputs = network.outputs();
    for (int64_t b = 0; b < batch.streams; ++b) {
        float sum = 0.0f;
        for (const float* p = batch.probabilities + b * outputs; p < batch.probabilities + (b + 1) * outputs; ++p) {
            sound &= *p >= 0.0f && *p <= 1.0f;
            sum += *p;
        }
        sound &= sum > 0.5f && sum < 1.5f;
    }
    return sound;
}

void encode_streams(const Encoder& encoder, const EncoderBatch& batch) {
    EncoderScratch scratch(encoder);
    for (int64_t b = 0; b < batch.streams; ++b)
        encode_stream(encoder, batch.audio + b * batch.longest * encoder.step_samples, batch.steps[b],
                      b * batch.longest, batch.history + b * encoder.history_samples(), batch.gain_db[b],
                      batch.level_db + b * encoder.bands, scratch, *batch.row, *batch.unit);
}

}  // namespace

extern const Kernels HETSYN_JOIN(kernels_, HETSYN_LEVEL) = {run_streams, is_sound, encode_streams};

}  // namespace hetsyn
