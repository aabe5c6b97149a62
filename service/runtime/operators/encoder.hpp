// The audio encoder over one stream's chunk: hetsyn_model/encoders/encoder.py in C++, without ONNX Runtime.
//
// float64 throughout, and every sum has one order for any batch and chunk, so a stream's spikes depend on neither.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "network.hpp"

namespace hetsyn {

// Real and imaginary parts of the spectrum of ``size`` real values, a power of two: half of them as a complex
// transform of radix 2, then taken apart.
class RealTransform {
   public:
    RealTransform() = default;
    explicit RealTransform(int64_t size) : half_(size / 2), order_(static_cast<size_t>(half_)) {
        const double circle = 2.0 * std::acos(-1.0);
        int bits = 0;
        while ((int64_t{1} << bits) < half_) ++bits;
        for (int64_t i = 0; i < half_; ++i) {
            int64_t reversed = 0;
            for (int bit = 0; bit < bits; ++bit) reversed |= (i >> bit & 1) << (bits - 1 - bit);
            order_[static_cast<size_t>(i)] = reversed;
        }
        for (int64_t span = 1; span < half_; span *= 2)
            for (int64_t k = 0; k < span; ++k) {
                const double angle = circle * static_cast<double>(k) / static_cast<double>(2 * span);
                cos_.push_back(std::cos(angle));
                sin_.push_back(-std::sin(angle));
            }
        for (int64_t f = 0; f <= half_; ++f) {
            const double angle = circle * static_cast<double>(f) / static_cast<double>(size);
            last_cos_.push_back(std::cos(angle));
            last_sin_.push_back(-std::sin(angle));
        }
    }

    int64_t bins() const { return half_ + 1; }

    // x: [size]; re, im: [bins]; work_re, work_im: [bins] of working memory
    inline __attribute__((always_inline)) void run(const double* __restrict x, double* __restrict re,
                                                   double* __restrict im, double* __restrict work_re,
                                                   double* __restrict work_im) const {
        for (int64_t i = 0; i < half_; ++i) {
            const int64_t from = order_[static_cast<size_t>(i)];
            work_re[i] = x[2 * from];
            work_im[i] = x[2 * from + 1];
        }
        const double* c = cos_.data();
        const double* s = sin_.data();
        for (int64_t span = 1; span < half_; span *= 2) {
            for (int64_t start = 0; start < half_; start += 2 * span) {
                double* __restrict ar = work_re + start;
                double* __restrict ai = work_im + start;
                double* __restrict br = ar + span;
                double* __restrict bi = ai + span;
                for (int64_t k = 0; k < span; ++k) {
                    const double tr = br[k] * c[k] - bi[k] * s[k], ti = br[k] * s[k] + bi[k] * c[k];
                    br[k] = ar[k] - tr;
                    bi[k] = ai[k] - ti;
                    ar[k] += tr;
                    ai[k] += ti;
                }
            }
            c += span;
            s += span;
        }
        for (int64_t f = 0; f <= half_; ++f) {
            const int64_t a = f % half_, b = (half_ - f) % half_;
            const double even_re = 0.5 * (work_re[a] + work_re[b]), even_im = 0.5 * (work_im[a] - work_im[b]);
            const double odd_re = 0.5 * (work_im[a] + work_im[b]), odd_im = 0.5 * (work_re[b] - work_re[a]);
            const double wr = last_cos_[static_cast<size_t>(f)], wi = last_sin_[static_cast<size_t>(f)];
            re[f] = even_re + odd_re * wr - odd_im * wi;
            im[f] = even_im + odd_re * wi + odd_im * wr;
        }
    }

   private:
    int64_t half_ = 0;
    std::vector<int64_t> order_;
    std::vector<double> cos_, sin_, last_cos_, last_sin_;
};

struct Encoder {
    int64_t step_samples = 0, window_samples = 0, bands = 0, levels = 0;
    RealTransform transform;
    std::vector<double> window;             // [window_samples], with the scale of the spectrum
    const double* mel = nullptr;            // [bins, bands]
    const double* emphasis_db = nullptr;    // [bands]
    const double* contrast = nullptr;       // [bands, bands]
    const double* thresholds_db = nullptr;  // [levels], from the highest down
    double floor_energy = 0.0, release_db = 0.0, quietest_db = 0.0, gain_share = 0.0;

    int64_t history_samples() const { return window_samples - step_samples; }
    int64_t size() const { return 2 * (transform.bins() - 1); }
};

// Working memory for all streams of a call.
struct EncoderScratch {
    std::vector<double> samples, frame, re, im, work_re, work_im, level, shaped;

    explicit EncoderScratch(const Encoder& encoder)
        : frame(static_cast<size_t>(encoder.size())),
          re(static_cast<size_t>(encoder.transform.bins())),
          im(re.size()),
          work_re(re.size()),
          work_im(re.size()),
          level(static_cast<size_t>(encoder.bands)),
          shaped(level.size()) {}
};

// One step from its samples [window_samples] to its spikes; ``gain_db`` and ``level_db`` [bands] are changed in place.
HETSYN_INLINE void encode_step(const Encoder& encoder, const double* __restrict samples, int64_t row, double& gain_db,
                               double* __restrict level_db, EncoderScratch& scratch, std::vector<int64_t>& rows,
                               std::vector<int64_t>& units) {
    const int64_t B = encoder.bands, L = encoder.levels, bins = encoder.transform.bins();
    double* __restrict frame = scratch.frame.data();  // zero beyond the window
    double* __restrict re = scratch.re.data();
    double* __restrict im = scratch.im.data();
    double* __restrict level = scratch.level.data();
    double* __restrict shaped = scratch.shaped.data();
    for (int64_t n = 0; n < encoder.window_samples; ++n) frame[n] = samples[n] * encoder.window[static_cast<size_t>(n)];
    encoder.transform.run(frame, re, im, scratch.work_re.data(), scratch.work_im.data());
    std::fill(level, level + B, 0.0);
    for (int64_t f = 0; f < bins; ++f) {
        const double power = re[f] * re[f] + im[f] * im[f];
        const double* __restrict filter = encoder.mel + f * B;
        for (int64_t b = 0; b < B; ++b) level[b] += power * filter[b];
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
HETSYN_INLINE void encode_stream(const Encoder& encoder, const float* audio, int64_t steps, int64_t first_row,
                                 float* history, double& gain_db, double* level_db, EncoderScratch& scratch,
                                 std::vector<int64_t>& rows, std::vector<int64_t>& units) {
    const int64_t hop = encoder.step_samples, overlap = encoder.history_samples(), length = overlap + steps * hop;
    scratch.samples.resize(static_cast<size_t>(length));
    double* samples = scratch.samples.data();
    for (int64_t i = 0; i < overlap; ++i) samples[i] = history[i];
    for (int64_t i = 0; i < steps * hop; ++i) samples[overlap + i] = audio[i];
    for (int64_t t = 0; t < steps; ++t)
        encode_step(encoder, samples + t * hop, first_row + t, gain_db, level_db, scratch, rows, units);
    for (int64_t i = 0; i < overlap; ++i) history[i] = static_cast<float>(samples[length - overlap + i]);
}

}  // namespace hetsyn
