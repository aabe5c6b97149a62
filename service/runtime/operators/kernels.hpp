// The operators' loops, compiled once for each level of the processor (kernels.cpp), and the choice among them.

#pragma once

#include <cstdint>
#include <vector>

#include "cpu_level.hpp"
#include "description.hpp"

namespace hetsyn {

struct Encoder;

// A call of the encoder. history, gain_db and level_db are changed in place; events are added to row and unit.
struct EncoderBatch {
    int64_t streams, longest;
    const float* audio;    // [streams, longest * step_samples]
    const int64_t* steps;  // [streams]
    float* history;        // [streams, history_samples]
    double* gain_db;       // [streams]
    double* level_db;      // [streams, bands]
    std::vector<int64_t>*row, *unit;
};

struct Kernels {
    void (*run_streams)(const Network& network, const Batch& batch, int64_t first, int64_t last);
    // Whether all states and probabilities after the batch are in range; false may be wrong at the bounds.
    bool (*is_sound)(const Network& network, const Batch& batch);
    void (*encode_streams)(const Encoder& encoder, const EncoderBatch& batch);
};

#if HETSYN_HAS_LEVELS
extern const Kernels kernels_v2, kernels_v3, kernels_v4;

// Those for this processor.
inline const Kernels& kernels() {
    static const Kernels& chosen = cpu_level() == CpuLevel::v4   ? kernels_v4
                                   : cpu_level() == CpuLevel::v3 ? kernels_v3
                                                                 : kernels_v2;
    return chosen;
}
#else
extern const Kernels kernels_generic;

inline const Kernels& kernels() { return kernels_generic; }
#endif

}  // namespace hetsyn
