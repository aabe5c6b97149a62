// The audio encoder over one stream's chunk: hetsyn_model/encoder.py in C++, without ONNX Runtime.
//
// float64 throughout, and every sum in one order whatever the batch and the chunk, so that a stream's spikes depend on
// neither.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "network.hpp"

namespace hetsyn {

struct Encoder {
    int64_t step_samples = 0, window_samples = 0, bands = 0, levels = 0, columns = 0;  // columns: of the spectrum
    const double* spectrum = nullptr;    // [window_samples, columns]
    const double* mel = nullptr;         // [columns, bands]
    const double* emphasis_db = nullptr; // [bands]
    const double* contrast = nullptr;    // [bands, bands]
    const double* thresholds_db = nullptr;  // [levels], from the highest down
    double floor_energy = 0.0, release_db = 0.0, quietest_db = 0.0, gain_share = 0.0;

    int64_t history_samples() const { return window_samples - step_samples; }
};

// Room that a thread works in, kept between streams.
struct EncoderScratch {
    std::vector<double> samples, spectrum, power, level, shaped;

    explicit EncoderScratch(const Encoder& encoder)
        : spectrum(static_cast<size_t>(4 * encoder.columns)),
          power(static_cast<size_t>(encoder.columns)),
          level(static_cast<size_t>(encoder.bands)),
          shaped(static_cast<size_t>(encoder.bands)) {}
};

// out[f, :] = frame f @ matrix for F frames that begin ``hop`` samples apart: the matrix is read once for all of them
template <int F>
HETSYN_INLINE void spectra(const double* __restrict frames, int64_t hop, const double* __restrict matrix, int64_t rows,
                           int64_t columns, double* __restrict out) {
    constexpr int64_t tile = 32;
    for (int64_t begin = 0; begin < columns; begin += tile) {
        const int64_t width = std::min(tile, columns - begin);
        double sum[F][tile] = {};
        if (width == tile) {
            for (int64_t n = 0; n < rows; ++n) {
                const double* m = matrix + n * columns + begin;
                for (int f = 0; f < F; ++f) {
                    const double x = frames[f * hop + n];
                    for (int64_t c = 0; c < tile; ++c) sum[f][c] += x * m[c];
                }
            }
        } else {
            for (int64_t n = 0; n < rows; ++n) {
                const double* m = matrix + n * columns + begin;
                for (int f = 0; f < F; ++f)
                    for (int64_t c = 0; c < width; ++c) sum[f][c] += frames[f * hop + n] * m[c];
            }
        }
        for (int f = 0; f < F; ++f)
            for (int64_t c = 0; c < width; ++c) out[f * columns + begin + c] = sum[f][c];
    }
}

// One step from its spectrum to its spikes; ``gain_db`` and ``level_db`` [bands] are changed in place.
HETSYN_INLINE void encode_step(const Encoder& encoder, const double* __restrict spectrum, int64_t row, double& gain_db,
                               double* __restrict level_db, EncoderScratch& scratch, std::vector<int64_t>& rows,
                               std::vector<int64_t>& units) {
    const int64_t B = encoder.bands, L = encoder.levels, C = encoder.columns;
    double* __restrict power = scratch.power.data();
    double* __restrict level = scratch.level.data();
    double* __restrict shaped = scratch.shaped.data();
    for (int64_t c = 0; c < C; ++c) power[c] = spectrum[c] * spectrum[c];
    std::fill(level, level + B, 0.0);
    for (int64_t c = 0; c < C; ++c) {
        const double* __restrict filter = encoder.mel + c * B;
        for (int64_t b = 0; b < B; ++b) level[b] += power[c] * filter[b];
    }
    constexpr double decibels = 4.342944819032518;  // of a factor e
    for (int64_t b = 0; b < B; ++b)
        level[b] = decibels * std::log(level[b] + encoder.floor_energy) + encoder.emphasis_db[b];
    std::fill(shaped, shaped + B, 0.0);
    double loudest = level[0];
    for (int64_t i = 0; i < B; ++i) {
        const double* __restrict near = encoder.contrast + i * B;
        for (int64_t b = 0; b < B; ++b) shaped[b] += level[i] * near[b];
        loudest = std::max(loudest, level[i]);
    }
    gain_db = std::max(gain_db - encoder.release_db, std::max(loudest, encoder.quietest_db));
    for (int64_t b = 0; b < B; ++b) shaped[b] -= encoder.gain_share * gain_db;
    // upward crossings of all bands, then downward ones
    for (int direction = 0; direction < 2; ++direction)
        for (int64_t b = 0; b < B; ++b) {
            const double now = shaped[b], before = level_db[b];
            if (direction == 0 ? !(now > before) : !(before > now)) continue;
            for (int64_t l = 0; l < L; ++l) {
                const double threshold = encoder.thresholds_db[l];
                const bool above = now > threshold, was_above = before > threshold;
                if (direction == 0 ? above && !was_above : !above && was_above) {
                    rows.push_back(row);
                    units.push_back((direction * B + b) * L + l);
                }
            }
        }
    std::memcpy(level_db, shaped, sizeof(double) * static_cast<size_t>(B));
}

// All steps of one stream's chunk. audio: [steps * step_samples]; history, level_db and gain_db are changed in place.
HETSYN_CLONES
static void encode_stream(const Encoder& encoder, const float* audio, int64_t steps, int64_t first_row, float* history,
                          double& gain_db, double* level_db, EncoderScratch& scratch, std::vector<int64_t>& rows,
                          std::vector<int64_t>& units) {
    const int64_t hop = encoder.step_samples, held = encoder.history_samples(), length = held + steps * hop;
    scratch.samples.resize(static_cast<size_t>(length));
    double* samples = scratch.samples.data();
    for (int64_t i = 0; i < held; ++i) samples[i] = history[i];
    for (int64_t i = 0; i < steps * hop; ++i) samples[held + i] = audio[i];
    double* spectrum = scratch.spectrum.data();
    const int64_t columns = encoder.columns;
    int64_t t = 0;
    const auto finish = [&](int64_t count) __attribute__((always_inline)) {
        for (int64_t f = 0; f < count; ++f)
            encode_step(encoder, spectrum + f * columns, first_row + t + f, gain_db, level_db, scratch, rows, units);
        t += count;
    };
    while (t + 4 <= steps) {
        spectra<4>(samples + t * hop, hop, encoder.spectrum, encoder.window_samples, columns, spectrum);
        finish(4);
    }
    while (t < steps) {
        spectra<1>(samples + t * hop, hop, encoder.spectrum, encoder.window_samples, columns, spectrum);
        finish(1);
    }
    for (int64_t i = 0; i < held; ++i) history[i] = static_cast<float>(samples[length - held + i]);
}

}  // namespace hetsyn
