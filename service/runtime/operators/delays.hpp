// Delays of spikes on the CPU (hetsyn_model/path.py), for a stride of up to 32 steps at once.
//
// A unit's past and present are one number: the spike of the stride's step t is bit 31 - t, that of age a before the
// stride is bit 31 + a. Shifted down by a row's delay, bit 31 - t says whether the row arrives in step t; shifted down
// by 32 less the stride's steps, it is the next history. A register more adds 24 bits at the top.

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
constexpr int64_t kUnasked = 6;  // places that a list of arrivals needs beyond its end
constexpr uint32_t kRegister = (1u << kRegisterSteps) - 1u;

// One stream's spikes on one path: working memory.
struct DelayLine {
    std::vector<uint32_t> registers;       // [registers, units] of the history before the stride
    std::vector<uint32_t> sent;            // [units] the stride's spikes
    std::vector<uint64_t> known;           // [registers, units] 64 bits from bit 24 k on
    std::vector<uint32_t> arrives;         // [rows], to whole 64; bit 31 - t: the row arrives in step t
    // [33, rows + 1], [33]: own spikes of the stride by the step that they arrive in; of a step, all rows at most
    std::vector<int32_t> waiting, counts;
    std::vector<int32_t> arrived;          // [rows] of a step, and places to spare
};

HETSYN_APART void load_history(const DelayPath& path, const float* __restrict history, DelayLine& line) {
    line.registers.resize(static_cast<size_t>(path.words()));
    line.known.resize(line.registers.size());
    line.sent.assign(static_cast<size_t>(path.units), 0u);
    line.arrives.assign((static_cast<size_t>(path.rows()) + 63) / 64 * 64, 0u);
    line.arrived.resize(static_cast<size_t>(path.rows() + kUnasked));
    uint32_t* __restrict const registers = line.registers.data();
    for (int64_t w = 0; w < path.words(); ++w) registers[w] = register_of(history[w]);
}

HETSYN_APART void store_history(const DelayPath& path, const DelayLine& line, float* __restrict history) {
    const uint32_t* __restrict const registers = line.registers.data();
    for (int64_t w = 0; w < path.words(); ++w) history[w] = static_cast<float>(static_cast<int32_t>(registers[w]));
}

HETSYN_INLINE void send(DelayLine& line, int64_t t, const Units& source) {
    const uint32_t bit = 1u << (kDelayStride - 1 - t);
    for (const int32_t unit : source) line.sent[static_cast<size_t>(unit)] |= bit;
}

HETSYN_APART void gather_known(const DelayPath& path, DelayLine& line) {
    const int64_t U = path.units;
    const uint32_t* __restrict const sent = line.sent.data();
    for (int32_t k = 0; k < path.registers(); ++k) {
        const uint32_t* __restrict const at = line.registers.data() + k * U;
        uint64_t* __restrict const known = line.known.data() + k * U;
        const bool is_last = k + 1 == path.registers();
        for (int64_t i = 0; i < U; ++i) known[i] = static_cast<uint64_t>(at[i]) << 32;
        if (k == 0)
            for (int64_t i = 0; i < U; ++i) known[i] |= sent[i];
        else
            for (int64_t i = 0; i < U; ++i)
                known[i] |= static_cast<uint64_t>(at[i - U]) << 8 | (k == 1 ? sent[i] >> 24 : at[i - 2 * U] >> 16);
        if (!is_last)
            for (int64_t i = 0; i < U; ++i) known[i] |= static_cast<uint64_t>(at[i + U]) << 56;
    }
}

// Which rows arrive in each step of the stride, of what has been sent so far.
HETSYN_APART void find_arrivals(const DelayPath& path, DelayLine& line) {
    gather_known(path, line);
    const int32_t U = path.units;
    const uint64_t* __restrict const known = line.known.data();
    for (int32_t tap = 0; tap < path.taps; ++tap) {
        const int16_t* __restrict const delay = path.steps + static_cast<int64_t>(tap) * U;
        uint32_t* __restrict const arrives = line.arrives.data() + static_cast<int64_t>(tap) * U;
        if (path.registers() == 1) {
            for (int32_t i = 0; i < U; ++i)
                arrives[i] = static_cast<uint32_t>(known[i] >> static_cast<uint64_t>(path.clamped(delay[i])));
            continue;
        }
        for (int32_t i = 0; i < U; ++i) {
            const int32_t d = path.clamped(delay[i]), k = d ? (d - 1) / kRegisterSteps : 0;
            arrives[i] = static_cast<uint32_t>(known[static_cast<int64_t>(k) * U + i] >> (d - k * kRegisterSteps));
        }
    }
}

// The history moves on by the stride's steps, after everything that has been sent is known.
HETSYN_APART void next_stride(const DelayPath& path, int64_t steps, DelayLine& line) {
    const uint64_t* __restrict const known = line.known.data();
    uint32_t* __restrict const registers = line.registers.data();
    for (int64_t w = 0; w < path.words(); ++w)
        registers[w] = static_cast<uint32_t>(known[w] >> (kDelayStride - steps)) & kRegister;
    std::fill(line.sent.begin(), line.sent.end(), 0u);
}

// Whether each of 32 rows arrives: bit 31 - t of its number.
HETSYN_INLINE uint32_t arrival_mask(const uint32_t* __restrict arrives, int32_t t) {
#if defined(__AVX512F__)
    const __m512i bit = _mm512_set1_epi32(static_cast<int32_t>(1u << (kDelayStride - 1 - t)));
    const uint32_t low = _mm512_test_epi32_mask(_mm512_loadu_si512(arrives), bit);
    return low | static_cast<uint32_t>(_mm512_test_epi32_mask(_mm512_loadu_si512(arrives + 16), bit)) << 16;
#elif defined(__AVX2__)
    uint32_t mask = 0;
    for (int part = 0; part < 4; ++part) {
        const __m256i rows = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(arrives + 8 * part));
        const __m256 sign = _mm256_castsi256_ps(_mm256_sll_epi32(rows, _mm_cvtsi32_si128(t)));
        mask |= static_cast<uint32_t>(_mm256_movemask_ps(sign)) << 8 * part;
    }
    return mask;
#else
    uint32_t mask = 0;
    for (int n = 0; n < 32; ++n) mask |= (arrives[n] >> (kDelayStride - 1 - t) & 1u) << n;
    return mask;
#endif
}

HETSYN_INLINE int32_t lowest_of(uint64_t mask) { return __builtin_ctzll(mask | 1ull << 63); }

// The rows that arrive in step t of the stride, ascending, into ``rows``; their number.
HETSYN_APART int64_t list_arrivals(const DelayLine& line, int64_t t, int32_t* __restrict rows) {
    const int32_t all = static_cast<int32_t>(line.arrives.size());  // of whole 64
    int64_t count = 0;
    for (int32_t first = 0; first < all; first += 64) {
        const uint32_t* const here = line.arrives.data() + first;
        const uint64_t high = arrival_mask(here + 32, static_cast<int32_t>(t));
        uint64_t mask = high << 32 | arrival_mask(here, static_cast<int32_t>(t));
        const int64_t end = count + __builtin_popcountll(mask);
        // so many without asking whether there are as many, which no processor foresees; then the few that have more
        for (int64_t n = 0; n < kUnasked; ++n, mask &= mask - 1) rows[count + n] = first + lowest_of(mask);
        for (int64_t n = count + kUnasked; n < end; ++n, mask &= mask - 1) rows[n] = first + lowest_of(mask);
        count = end;
    }
    return count;
}

// What arrives of a whole chunk's spikes.
HETSYN_APART void delay_train(const DelayPath& path, const SpikeTrain& sent, int64_t steps, DelayLine& line,
                              SpikeTrain& arrived, float* history) {
    load_history(path, history, line);
    arrived.fit(steps, 0, 0);
    for (int64_t first = 0; first < steps; first += kDelayStride) {
        const int64_t here = std::min<int64_t>(kDelayStride, steps - first);
        for (int64_t t = 0; t < here; ++t) send(line, t, sent.of(first + t));
        find_arrivals(path, line);
        for (int64_t t = first; t < first + here; ++t) {
            const int64_t used = arrived.ends[static_cast<size_t>(t)] + path.rows() + kUnasked;
            if (static_cast<int64_t>(arrived.units.size()) < used) arrived.units.resize(static_cast<size_t>(2 * used));
            arrived.close(t, list_arrivals(line, t - first, arrived.at(t)));
        }
        next_stride(path, here, line);
    }
    store_history(path, line, history);
}

// Of a layer's own spikes, whose step t is known only when it comes.
HETSYN_APART void begin_own(const DelayPath& path, const float* history, DelayLine& line) {
    load_history(path, history, line);
    line.waiting.resize(static_cast<size_t>(kDelayStride + 1) * static_cast<size_t>(path.rows() + 1));
    line.counts.assign(static_cast<size_t>(kDelayStride + 1), 0);
}

// The rows that arrive in step t of the chunk, into which the units of the step before go: from the histories, ascending,
// then of the stride itself. Valid until the next call.
HETSYN_APART Units own_step(const DelayPath& path, int64_t t, const Units& source, bool ascending, DelayLine& line) {
    const int64_t rows = path.rows(), places = rows + 1, now = t % kDelayStride;
    if (now == 0) {
        if (t) {
            gather_known(path, line);
            next_stride(path, kDelayStride, line);
        }
        std::fill(line.counts.begin(), line.counts.end(), 0);
        find_arrivals(path, line);
    }
    send(line, now, source);
    for (const int32_t unit : source)
        for (int64_t row = unit; row < rows; row += path.units) {
            // what arrives after the stride waits in the last place, where nobody looks: the history knows of it
            const int64_t at = std::min<int64_t>(now + path.clamped(path.steps[row]), kDelayStride);
            int32_t& count = line.counts[static_cast<size_t>(at)];
            line.waiting[static_cast<size_t>(at * places + count)] = static_cast<int32_t>(row);
            count = count < rows ? count + 1 : 0;  // only the last place gets more than all rows
        }
    int64_t count = list_arrivals(line, now, line.arrived.data());
    const int32_t* const waited = line.waiting.data() + now * places;
    const int64_t more = std::min<int64_t>(line.counts[static_cast<size_t>(now)], rows - count);
    std::copy(waited, waited + more, line.arrived.data() + count);
    count += more;
    if (ascending) std::sort(line.arrived.data(), line.arrived.data() + count);
    return {line.arrived.data(), line.arrived.data() + count};
}

HETSYN_APART void end_own(const DelayPath& path, int64_t steps, DelayLine& line, float* history) {
    if (steps) {
        gather_known(path, line);
        next_stride(path, (steps - 1) % kDelayStride + 1, line);
    }
    store_history(path, line, history);
}

}  // namespace hetsyn
