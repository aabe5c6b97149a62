// The decision: from potentials or spikes of the readout to scores, and from scores to class probabilities.

#pragma once

#include <cstdint>
#include <cstring>

#include "description.hpp"

namespace hetsyn {

// e^x for x <= 0, NaN for NaN: no libm call, so that the loop over classes runs in vectors. Relative error below 2e-7.
HETSYN_INLINE float exp_nonpositive(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the fraction rounds away
    const float n = shifted - 12582912.0f;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n > -126.0f ? n : -126.0f) + 127) << 23;  // n of NaN is no number
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

// The numerators of softmax(x) into powers [count]; returns their sum.
HETSYN_INLINE float softmax_powers(const float* __restrict x, int64_t count, float* __restrict powers) {
    float largest = x[0];
    for (int64_t n = 1; n < count; ++n) largest = x[n] > largest ? x[n] : largest;
    for (int64_t n = 0; n < count; ++n) powers[n] = exp_nonpositive(x[n] - largest);
    float sum = 0.0f;
    for (int64_t n = 0; n < count; ++n) sum += powers[n];
    return sum;
}

// The scores. A sum in one float32 drifts, and stands still from 2^24 steps on; low has what its additions have lost.
struct Score {
    float* high;  // [outputs]
    float* low;   // [outputs], or null

    HETSYN_INLINE double total(int64_t n) const { return static_cast<double>(high[n]) + static_cast<double>(low[n]); }
};

// score += values / divisor, with Kahan's compensation where there are low words: no compiler may reorder it
HETSYN_INLINE void add_up(int64_t outputs, const float* __restrict values, float divisor, const Score& score) {
    float* __restrict high = score.high;
    float* __restrict low = score.low;
    if (!low) {
        for (int64_t n = 0; n < outputs; ++n) high[n] += values[n] / divisor;
        return;
    }
    for (int64_t n = 0; n < outputs; ++n) {
        const float value = values[n] / divisor + low[n];
        const float sum = high[n] + value;
        low[n] = value - (sum - high[n]);
        high[n] = sum;
    }
}

// The numerators of a softmax into their changes of a mean, in which the ``number``-th counts number^3 times
HETSYN_INLINE void mean_changes(int64_t outputs, int64_t number, float sum, const float* __restrict mean,
                                float* __restrict powers) {
    const float count = static_cast<float>(number), following = count + 1.0f;
    const float share = 4.0f * count / (following * following);
    for (int64_t n = 0; n < outputs; ++n) powers[n] = (powers[n] / sum - mean[n]) * share;
}

// The score at the end of a stream's state, which ends at ``end``; its low words come before the high ones.
HETSYN_INLINE Score score_of(const Parameters& network, int64_t outputs, float* end) {
    return {end - outputs, network.score_words == 2 ? end - 2 * outputs : nullptr};
}

// One step's contribution to the score; step counts from the stream's beginning. potential, spikes: of the readout,
// [outputs]. powers [outputs] is working memory.
HETSYN_INLINE void decide(const Parameters& network, int64_t outputs, int64_t step, const float* potential,
                          const float* spikes, float* powers, const Score& score) {
    if (step < network.skip_steps) return;
    if (network.averages_softmax()) {
        float sum = softmax_powers(potential, outputs, powers);
        if (network.rule == Rule::late_softmax) {
            mean_changes(outputs, step - network.skip_steps + 1, sum, score.high, powers);
            sum = 1.0f;
        }
        add_up(outputs, powers, sum, score);
    } else if (network.rule == Rule::spike_count) {
        add_up(outputs, spikes, 1.0f, score);
    } else {
        for (int64_t n = 0; n < outputs; ++n) score.high[n] = potential[n];
    }
}

// The numerators of the softmax of whole scores, and their sum: a float32 of a score above 2^24 would miss a spike.
HETSYN_INLINE float softmax_powers(const Score& score, int64_t count, float* __restrict powers) {
    double largest = score.total(0);
    for (int64_t n = 1; n < count; ++n) largest = score.total(n) > largest ? score.total(n) : largest;
    for (int64_t n = 0; n < count; ++n) powers[n] = exp_nonpositive(static_cast<float>(score.total(n) - largest));
    float sum = 0.0f;
    for (int64_t n = 0; n < count; ++n) sum += powers[n];
    return sum;
}

// Class probabilities [outputs] from the score after ``step`` steps; uniform before the first step that counts.
// powers [outputs] is working memory.
HETSYN_INLINE void decision_probabilities(const Parameters& network, int64_t outputs, int64_t step, const Score& score,
                                          float* powers, float* probabilities) {
    if (network.averages_softmax()) {
        const int64_t counted = step - network.skip_steps;
        const float divisor = network.rule == Rule::sum_softmax ? static_cast<float>(counted) : 1.0f;
        for (int64_t n = 0; n < outputs; ++n)
            probabilities[n] = counted > 0 ? score.high[n] / divisor : 1.0f / static_cast<float>(outputs);
    } else {
        const float sum =
            score.low ? softmax_powers(score, outputs, powers) : softmax_powers(score.high, outputs, powers);
        for (int64_t n = 0; n < outputs; ++n) probabilities[n] = powers[n] / sum;
    }
}

}  // namespace hetsyn
