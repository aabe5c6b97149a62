// Delays of spikes on the CPU (hetsyn_model/path.py): a ring of steps in which rows wait until they arrive, filled at
// the start of a chunk from the shift registers of the state, which are written again at its end.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "description.hpp"
#include "neurons.hpp"
#include "spike_train.hpp"

namespace hetsyn {

// One stream's spikes on one path, for one chunk: working memory.
struct DelayLine {
    int32_t slots = 0, now = 0, rows = 0;  // of the ring; the step at hand; capacity of a slot
    int64_t left = 0;                      // steps of the chunk that are still to come, this one included
    std::vector<int32_t> waiting, counts;  // [slots, rows], [slots]
    std::vector<uint32_t> words, found;    // the registers as whole numbers, and [units]
};

// The lowest bits of a register: none of a count below 0, all of one above its size.
HETSYN_INLINE uint32_t lowest_bits(int32_t count) {
    return (1u << (count < 0 ? 0 : count > kRegisterSteps ? kRegisterSteps : count)) - 1u;
}

// A row arrives so many steps from now. One that would twice in a step is of a wrong input, and left out.
HETSYN_INLINE void wait(DelayLine& line, int32_t delay, int32_t row) {
    if (delay >= line.left) return;  // in a later chunk, of which the history knows
    int32_t slot = line.now + delay;
    slot = slot >= line.slots ? slot - line.slots : slot;
    int32_t& count = line.counts[static_cast<size_t>(slot)];
    if (count < line.rows)
        line.waiting[static_cast<size_t>(slot) * static_cast<size_t>(line.rows) + static_cast<size_t>(count++)] = row;
}

// What left before the chunk arrives in its first steps. history [registers, units] is of the state.
HETSYN_APART void begin_delays(const DelayPath& path, const float* __restrict history, int64_t steps, DelayLine& line) {
    line.slots = static_cast<int32_t>(std::clamp<int64_t>(steps, 1, path.longest + 1));
    line.now = 0;
    line.rows = path.rows();
    line.left = steps;
    line.waiting.resize(static_cast<size_t>(line.slots) * static_cast<size_t>(line.rows));
    line.counts.assign(static_cast<size_t>(line.slots), 0);
    line.words.resize(static_cast<size_t>(path.words()));
    uint32_t* __restrict const words = line.words.data();
    for (int64_t w = 0; w < path.words(); ++w) words[w] = register_of(history[w]);
    const int32_t U = path.units;
    line.found.resize(static_cast<size_t>(U));
    uint32_t* __restrict const found = line.found.data();
    for (int32_t tap = 0; tap < path.taps; ++tap)
        for (int32_t k = 0; k < path.registers(); ++k) {
            // a spike of age a arrives in step d - a
            const int32_t first = k * kRegisterSteps;
            const uint32_t* __restrict const bits = words + static_cast<int64_t>(k) * U;
            const int16_t* __restrict const delay = path.steps + static_cast<int64_t>(tap) * U;
            for (int32_t i = 0; i < U; ++i) {
                const int32_t d = path.clamped(delay[i]) - first;
                found[i] = bits[i] & lowest_bits(d) & ~lowest_bits(d - line.slots);
            }
            for (int32_t i = 0; i < U; ++i)
                for (uint32_t rest = found[i]; rest; rest &= rest - 1)
                    wait(line, path.clamped(delay[i]) - first - 1 - __builtin_ctz(rest), tap * U + i);
        }
}

// The rows that arrive in a step, after the units of this step have left; valid until the next call.
HETSYN_APART Units delay_step(const DelayPath& path, const Units& source, DelayLine& line) {
    for (const int32_t unit : source)
        for (int32_t row = unit; row < line.rows; row += path.units) wait(line, path.clamped(path.steps[row]), row);
    int32_t* const arrived = line.waiting.data() + static_cast<int64_t>(line.now) * line.rows;
    int32_t& count = line.counts[static_cast<size_t>(line.now)];
    const Units here{arrived, arrived + count};
    count = 0;
    line.now = line.now + 1 == line.slots ? 0 : line.now + 1;
    --line.left;
    return here;
}

// The history after a chunk, in whose step t the units sent_in(t) have left.
template <class SentIn>
HETSYN_APART void end_delays(const DelayPath& path, int64_t steps, const SentIn& sent_in, DelayLine& line,
                             float* __restrict history) {
    const int32_t U = path.units, registers = path.registers();
    const int32_t moved = static_cast<int32_t>(std::min<int64_t>(steps, registers * kRegisterSteps));
    const int32_t whole = moved / kRegisterSteps, part = moved % kRegisterSteps;
    uint32_t* const words = line.words.data();
    for (int32_t k = registers - 1; k >= 0; --k) {
        uint32_t* const to = words + static_cast<int64_t>(k) * U;
        const uint32_t* const low = k >= whole ? to - static_cast<int64_t>(whole) * U : nullptr;
        const uint32_t* const high = k > whole && part ? low - U : nullptr;
        for (int32_t i = 0; i < U; ++i) {
            const uint32_t stays = low ? low[i] << part : 0u;
            to[i] = (stays | (high ? high[i] >> (kRegisterSteps - part) : 0u)) & lowest_bits(kRegisterSteps);
        }
    }
    for (int64_t t = steps - moved; t < steps; ++t) {
        const int32_t age = static_cast<int32_t>(steps - t) - 1;
        uint32_t* const into = words + static_cast<int64_t>(age / kRegisterSteps) * U;
        for (const int32_t unit : sent_in(t)) into[unit] |= 1u << age % kRegisterSteps;
    }
    for (int64_t w = 0; w < path.words(); ++w) history[w] = static_cast<float>(static_cast<int32_t>(words[w]));
}

// What arrives of a whole chunk's spikes; in order within a step where a sum of floats depends on it.
HETSYN_APART void delay_train(const DelayPath& path, const SpikeTrain& sent, int64_t steps, bool in_order,
                              DelayLine& line, SpikeTrain& arrived, float* history) {
    begin_delays(path, history, steps, line);
    arrived.fit(steps, 0, 0);
    for (int64_t t = 0, count = 0; t < steps; ++t) {
        const Units rows = delay_step(path, sent.of(t), line);
        const int64_t here = rows.last - rows.first;
        if (static_cast<int64_t>(arrived.units.size()) < count + here)
            arrived.units.resize(static_cast<size_t>(2 * (count + here)));
        std::copy(rows.first, rows.last, arrived.at(t));
        if (in_order) std::sort(arrived.at(t), arrived.at(t) + here);
        arrived.close(t, here);
        count += here;
    }
    end_delays(path, steps, [&sent](int64_t t) { return sent.of(t); }, line, history);
}

}  // namespace hetsyn
