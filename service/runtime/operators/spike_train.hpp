// Which units spike in each step of a chunk.

#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace hetsyn {

// Some units, one after the other.
struct Units {
    int32_t *first, *last;

    const int32_t* begin() const { return first; }
    const int32_t* end() const { return last; }
};

// The units that spike in each step of a chunk: those of step t are units[ends[t]] to units[ends[t + 1]].
struct SpikeTrain {
    std::vector<int32_t> units;
    std::vector<int64_t> ends;

    // Space for ``steps`` steps and ``spikes`` spikes, and for one more step: a step is written before it is counted.
    void fit(int64_t steps, int64_t spikes, int64_t neurons) {
        ends.resize(static_cast<size_t>(steps) + 1);
        ends[0] = 0;
        if (static_cast<int64_t>(units.size()) < spikes + neurons) units.resize(static_cast<size_t>(spikes + neurons));
    }
    int32_t* at(int64_t t) { return units.data() + ends[static_cast<size_t>(t)]; }
    void close(int64_t t, int64_t count) { ends[static_cast<size_t>(t) + 1] = ends[static_cast<size_t>(t)] + count; }
    Units of(int64_t t) const {
        const size_t step = static_cast<size_t>(t);
        int32_t* const all = const_cast<int32_t*>(units.data());
        return {all + ends[step], all + ends[step + 1]};
    }
};

// The bits of 64 flags, each 0 or 1.
static inline __attribute__((always_inline)) uint64_t mask_of(const uint8_t* flags) {
    uint64_t mask = 0;
    for (int byte = 0; byte < 8; ++byte) {
        uint64_t eight;
        std::memcpy(&eight, flags + 8 * byte, sizeof eight);
        mask |= (eight * 0x0102040810204080 >> 56) << 8 * byte;  // the product's highest byte has the eight flags
    }
    return mask;
}

}  // namespace hetsyn
