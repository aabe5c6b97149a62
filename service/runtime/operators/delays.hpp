// Delays of spikes (hetsyn_model/path.py), for a stride of up to 32 steps at once.
//
// The stride's spikes of a unit are one number, whose bit 31 - t is step t; bit b of register k is the spike of age
// 24 k + b + 1. Shifted by a row's delay, both say with bit 31 - t whether the row arrives in step t. Few rows do at
// all in a stride, so these are listed once, and a step looks at no others.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "description.hpp"
#include "neurons.hpp"
#include "spike_train.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace hetsyn {

constexpr int32_t kDelayStride = 32;
constexpr int64_t kTogether = 16;  // numbers that are written together, wanted or not
constexpr int64_t kWhole = 64;     // rows that are looked at together: places that a list needs beyond its end
constexpr int64_t kUnasked = 6;    // of them, so many are listed without asking whether there are as many
constexpr uint32_t kRegister = (1u << kRegisterSteps) - 1u;

// A register's steps of some bits, as the history has them.
HETSYN_INLINE float number_of(uint32_t bits) { return static_cast<float>(static_cast<int32_t>(bits & kRegister)); }

// One stream's spikes on one path: working memory, which only grows. The history stays in the state.
struct DelayLine {
    std::vector<uint32_t> sent;     // [units] the stride's spikes
    std::vector<uint32_t> arrives;  // [active] bit 31 - t: the row arrives in step t; 0 up to a whole 64
    std::vector<int32_t> rows;      // [active] the rows that arrive in the stride, ascending
    int64_t active = 0;
    std::vector<uint32_t> bits;     // of each spike of a stride, the bit of its step
    // [33, rows + 1], [33]: rows by the step that they arrive in, of own spikes; of a step, all rows at most
    std::vector<int32_t> waiting, counts;

    void fit(const DelayPath& path) {
        const size_t all = static_cast<size_t>(path.rows()) + kWhole;
        if (sent.size() < static_cast<size_t>(path.units)) sent.resize(static_cast<size_t>(path.units));
        if (rows.size() < all) {
            arrives.resize(all);
            rows.resize(all);
        }
        forget_sent(path);
    }
    void fit_own(const DelayPath& path) {
        fit(path);
        const size_t all = static_cast<size_t>(kDelayStride + 1) * static_cast<size_t>(path.rows() + 1);
        if (waiting.size() < all) waiting.resize(all);
        counts.resize(static_cast<size_t>(kDelayStride + 1));
    }
    void forget_sent(const DelayPath& path) { std::fill_n(sent.begin(), path.units, 0u); }
};

HETSYN_INLINE void send(DelayLine& line, int64_t t, const Units& source) {
    const uint32_t bit = 1u << (kDelayStride - 1 - t);
    uint32_t* const sent = line.sent.data();
    for (const int32_t unit : source) sent[unit] |= bit;
}

// The spikes of a stride, in one loop over all: nobody foresees how many a step has.
HETSYN_APART void send_all(DelayLine& line, const SpikeTrain& spikes, int64_t first, int64_t steps) {
    const int64_t* __restrict const ends = spikes.ends.data() + first;
    const int32_t* __restrict const units = spikes.units.data() + ends[0];
    const int64_t all = ends[steps] - ends[0];
    const size_t places = static_cast<size_t>(all + kTogether);
    if (line.bits.size() < places) line.bits.resize(places);
    uint32_t *__restrict const bits = line.bits.data(), *__restrict const sent = line.sent.data();
    for (int64_t t = 0; t < steps; ++t)
        for (int64_t e = ends[t] - ends[0]; e < ends[t + 1] - ends[0]; e += kTogether)
            for (int64_t n = 0; n < kTogether; ++n) bits[e + n] = 1u << (kDelayStride - 1 - t);
    for (int64_t e = 0; e < all; ++e) sent[units[e]] |= bits[e];
}

// Adds to ``arrives`` [units] of one tap what a register has of it; the registers before it have ``later`` steps.
HETSYN_INLINE void add_register(int32_t units, int32_t later, const float* __restrict history,
                                const int16_t* __restrict delay, uint32_t* __restrict arrives) {
    for (int32_t i = 0; i < units; ++i) {
        const int32_t d = delay[i] - later, up = d < 0 ? 0 : d < kRegisterSteps ? d : kRegisterSteps;
        const int32_t down = d > up ? d - up : 0;
        const uint32_t here = register_of(history[i]) << 1 << (31 - up) >> (down & 31);
        arrives[i] |= down < kDelayStride ? here : 0u;
    }
}

// Keeps the rows whose number is not 0; how many they are.
HETSYN_APART int64_t keep_active(int64_t all, uint32_t* arrives, int32_t* __restrict rows) {
    int64_t count = 0;
    for (int64_t n = all; n < (all + 15) / 16 * 16; ++n) arrives[n] = 0;
#if defined(__AVX512F__)
    __m512i row = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int64_t first = 0; first < all; first += 16) {
        const __m512i here = _mm512_loadu_si512(arrives + first);
        const __mmask16 is_active = _mm512_test_epi32_mask(here, here);
        _mm512_storeu_si512(arrives + count, _mm512_maskz_compress_epi32(is_active, here));
        _mm512_storeu_si512(rows + count, _mm512_maskz_compress_epi32(is_active, row));
        count += __builtin_popcount(is_active);
        row = _mm512_add_epi32(row, _mm512_set1_epi32(16));
    }
#else
    for (int64_t first = 0; first < all; first += 8) {
        uint32_t any = 0;
        for (int64_t n = first; n < first + 8; ++n) any |= arrives[n];
        if (!any) continue;
        for (int64_t n = first; n < first + 8; ++n) {
            const uint32_t here = arrives[n];
            arrives[count] = here;
            rows[count] = static_cast<int32_t>(n);
            count += here != 0;
        }
    }
#endif
    std::fill(arrives + count, arrives + (count + 63) / 64 * 64, 0u);
    return count;
}

// Which rows arrive in which of the stride's steps, of what has been sent so far.
HETSYN_APART void find_arrivals(const DelayPath& path, int64_t steps, const float* __restrict history,
                                DelayLine& line) {
    const int32_t U = path.units;
    const uint32_t within = steps < kDelayStride ? ~(0xffffffffu >> steps) : 0xffffffffu;
    const uint32_t* __restrict const sent = line.sent.data();
    const bool is_short = path.registers() == 1;
    for (int32_t tap = 0; tap < path.taps; ++tap) {
        const int16_t* __restrict const delay = path.steps + static_cast<int64_t>(tap) * U;
        uint32_t* __restrict const arrives = line.arrives.data() + static_cast<int64_t>(tap) * U;
        if (is_short) {
            for (int32_t i = 0; i < U; ++i)
                arrives[i] = (register_of(history[i]) << 1 << (31 - delay[i]) | sent[i] >> delay[i]) & within;
            continue;
        }
        for (int32_t i = 0; i < U; ++i) arrives[i] = delay[i] < kDelayStride ? sent[i] >> (delay[i] & 31) : 0u;
        for (int32_t k = 0; k < path.registers(); ++k)
            add_register(U, k * kRegisterSteps, history + static_cast<int64_t>(k) * U, delay, arrives);
        for (int32_t i = 0; i < U; ++i) arrives[i] &= within;
    }
    line.active = keep_active(path.rows(), line.arrives.data(), line.rows.data());
}

// The history moves on by the stride's steps, a register's at most at once.
HETSYN_APART void next_stride(const DelayPath& path, int64_t steps, DelayLine& line, float* history) {
    const int64_t U = path.units;
    const uint32_t* __restrict const sent = line.sent.data();
    const int32_t R = path.registers(), T = static_cast<int32_t>(steps);
    for (int32_t done = std::max(T - R * kRegisterSteps, 0); done < T;) {
        const int32_t here = std::min(T - done, kRegisterSteps);
        for (int64_t k = R - 1; k > 0; --k) {
            float* __restrict const at = history + k * U;
            const float* __restrict const newer = history + (k - 1) * U;
            for (int64_t i = 0; i < U; ++i)
                at[i] = number_of(register_of(at[i]) << here | register_of(newer[i]) >> (kRegisterSteps - here));
        }
        for (int64_t i = 0; i < U; ++i)
            history[i] = number_of(register_of(history[i]) << here | sent[i] << done >> (kDelayStride - here));
        done += here;
    }
    line.forget_sent(path);
}

#if !defined(__AVX512F__)
// Whether each of 32 rows arrives: bit 31 - t of its number.
HETSYN_INLINE uint32_t arrival_mask(const uint32_t* __restrict arrives, int32_t t) {
    uint32_t mask = 0;
#if defined(__AVX2__)
    for (int part = 0; part < 4; ++part) {
        const __m256i rows = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(arrives + 8 * part));
        const __m256 sign = _mm256_castsi256_ps(_mm256_sll_epi32(rows, _mm_cvtsi32_si128(t)));
        mask |= static_cast<uint32_t>(_mm256_movemask_ps(sign)) << 8 * part;
    }
#else
    for (int n = 0; n < 32; ++n) mask |= (arrives[n] >> (kDelayStride - 1 - t) & 1u) << n;
#endif
    return mask;
}
#endif

// The rows that arrive in step t of the stride, ascending, into ``rows``, which has kWhole places more; their number.
HETSYN_APART int64_t list_arrivals(const DelayLine& line, int32_t t, int32_t* __restrict rows) {
    const uint32_t* __restrict const arrives = line.arrives.data();
    const int32_t* __restrict const active = line.rows.data();
    int64_t count = 0;
#if defined(__AVX512F__)
    const __m512i bit = _mm512_set1_epi32(static_cast<int32_t>(1u << (kDelayStride - 1 - t)));
    for (int64_t first = 0; first < line.active; first += 16) {
        const __mmask16 mask = _mm512_test_epi32_mask(_mm512_loadu_si512(arrives + first), bit);
        _mm512_storeu_si512(rows + count, _mm512_maskz_compress_epi32(mask, _mm512_loadu_si512(active + first)));
        count += __builtin_popcount(mask);
    }
#else
    for (int64_t first = 0; first < line.active; first += 64) {
        const uint64_t high = arrival_mask(arrives + first + 32, t);
        uint64_t mask = high << 32 | arrival_mask(arrives + first, t);
        const int64_t end = count + __builtin_popcountll(mask);
        // which no processor foresees; then the few that have more
        for (int64_t n = 0; n < kUnasked; ++n, mask &= mask - 1)
            rows[count + n] = active[first + __builtin_ctzll(mask | 1ull << 63)];
        for (int64_t n = count + kUnasked; n < end; ++n, mask &= mask - 1)
            rows[n] = active[first + __builtin_ctzll(mask)];
        count = end;
    }
#endif
    return count;
}

// What arrives of a whole chunk's spikes; the history moves on by the chunk.
HETSYN_APART void delay_train(const DelayPath& path, const SpikeTrain& sent, int64_t steps, DelayLine& line,
                              SpikeTrain& arrived, float* history) {
    line.fit(path);
    arrived.fit(steps, 0, 0);
    for (int64_t first = 0; first < steps; first += kDelayStride) {
        const int64_t here = std::min<int64_t>(kDelayStride, steps - first);
        send_all(line, sent, first, here);
        find_arrivals(path, here, history, line);
        const int64_t need = arrived.ends[static_cast<size_t>(first)] + here * line.active + kWhole;
        const size_t most = static_cast<size_t>(need);
        if (arrived.units.size() < most) arrived.units.resize(most + most / 2);
        for (int64_t t = 0; t < here; ++t)
            arrived.close(first + t, list_arrivals(line, static_cast<int32_t>(t), arrived.at(first + t)));
        next_stride(path, here, line, history);
    }
}

// The rows that a stride of own spikes begins with wait for their steps.
HETSYN_APART void begin_stride(const DelayPath& path, int64_t steps, const float* history, DelayLine& line) {
    find_arrivals(path, steps, history, line);
    uint32_t* __restrict const arrives = line.arrives.data();
    int32_t *__restrict const rows = line.rows.data(), *__restrict const counts = line.counts.data();
    int32_t* __restrict const waiting = line.waiting.data();
    const int64_t places = path.rows() + 1;
    std::fill_n(counts, kDelayStride + 1, 0);
    // one step of each row in a round, because no processor foresees how many a row has
    for (int64_t count = line.active, left = 0; count; count = left, left = 0)
        for (int64_t n = 0; n < count; ++n) {
            const uint32_t steps_left = arrives[n];
            const int32_t row = rows[n], t = __builtin_clz(steps_left);
            waiting[t * places + counts[t]++] = row;
            arrives[left] = steps_left ^ 0x80000000u >> t;
            rows[left] = row;
            left += arrives[left] != 0;
        }
}

// Of a layer's own spikes, whose step t is known only when it comes: the rows that arrive in step t of the chunk, into
// which the units of the step before go. Valid until the next call.
HETSYN_APART Units own_step(const DelayPath& path, int64_t t, int64_t steps, const Units& source, bool ascending,
                            DelayLine& line, float* history) {
    const int32_t rows = path.rows(), units = path.units, now = static_cast<int32_t>(t % kDelayStride);
    if (now == 0) {
        if (t) next_stride(path, kDelayStride, line, history);
        begin_stride(path, std::min<int64_t>(kDelayStride, steps - t), history, line);
    }
    send(line, now, source);
    const int16_t* __restrict const delay = path.steps;
    int32_t* __restrict const counts = line.counts.data();
    int32_t* __restrict const waiting = line.waiting.data();
    const int64_t places = rows + 1;
    for (const int32_t unit : source)
        for (int32_t row = unit; row < rows; row += units) {
            // what arrives after the stride waits in the last place, where nobody looks: the history knows of it
            const int32_t at = std::min(now + delay[row], kDelayStride), count = counts[at];
            waiting[at * places + count] = row;
            counts[at] = count < rows ? count + 1 : 0;  // only the last place gets more than all rows
        }
    int32_t *const first = waiting + now * places, *const last = first + counts[now];
    if (ascending) std::sort(first, last);
    return {first, last};
}

HETSYN_APART void end_own(const DelayPath& path, int64_t steps, DelayLine& line, float* history) {
    if (steps) next_stride(path, (steps - 1) % kDelayStride + 1, line, history);
}

}  // namespace hetsyn
