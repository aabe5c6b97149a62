// A layer's own spikes on their way back to it, forward and backward in time (hetsyn_model/path.py).
//
// Row r = tap * neurons + neuron has a share of each spike for each of ``slots`` delays, [slots, rows]: in training a
// triangle, else one share of 1.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

template <typename T>
struct Shares {
    int64_t neurons = 0, rows = 0, slots = 0;
    const T* share = nullptr;              // null: no delays
    std::vector<int64_t> first, last;      // [rows] delays from first up to, not with, last have a share

    Shares(const T* shares, int64_t neurons, int64_t taps, int64_t slots)
        : neurons(neurons), rows(neurons * taps), slots(slots), share(shares) {
        if (!share) return;
        first.assign(rows, slots);
        last.assign(rows, 0);
        for (int64_t d = 0; d < slots; ++d)
            for (int64_t r = 0; r < rows; ++r)
                if (share[d * rows + r] != T(0)) {
                    first[r] = std::min(first[r], d);
                    last[r] = d + 1;
                }
    }
};

// One stream's spikes that have not arrived yet: a ring of steps.
template <typename T>
class DelayLine {
   public:
    explicit DelayLine(const Shares<T>& shares) : shares_(shares), waiting_(shares.share ? shares.rows * shares.slots : 0) {}

    void empty() { std::fill(waiting_.begin(), waiting_.end(), T(0)); }

    // The units that spiked in the step before t leave.
    void send(int64_t t, const std::vector<int32_t>& fired) {
        const int64_t rows = shares_.rows, slots = shares_.slots;
        for (const int32_t unit : fired)
            for (int64_t r = unit; r < rows; r += shares_.neurons)
                for (int64_t d = shares_.first[r]; d < shares_.last[r]; ++d)
                    waiting_[(t + d) % slots * rows + r] += shares_.share[d * rows + r];
    }

    // sum [columns] = what arrives in step t, through weights [rows, columns]
    void arrive(int64_t t, const T* weights, int64_t columns, T* sum) {
        const int64_t rows = shares_.rows;
        T* const slot = waiting_.data() + t % shares_.slots * rows;
        std::fill(sum, sum + columns, T(0));
        for (int64_t r = 0; r < rows; ++r) {
            const T part = slot[r];
            if (part == T(0)) continue;
            const T* source = weights + r * columns;
            for (int64_t c = 0; c < columns; ++c) sum[c] += part * source[c];
            slot[r] = T(0);
        }
    }

   private:
    const Shares<T>& shares_;
    std::vector<T> waiting_;  // [slots, rows]
};

// spike_grad [neurons] += what reaches the spikes of step t through all that arrives later; arrival_grad [steps, rows] is
// of what arrives in each step, and complete from t + 1 on.
template <typename T>
void gather_grad(const Shares<T>& shares, int64_t t, int64_t steps, const T* arrival_grad, T* spike_grad) {
    const int64_t rows = shares.rows, N = shares.neurons, reach = std::min(shares.slots, steps - t - 1);
    for (int64_t d = 0; d < reach; ++d) {
        const T *share = shares.share + d * rows, *grad = arrival_grad + (t + 1 + d) * rows;
        for (int64_t from = 0; from < rows; from += N)
            for (int64_t n = 0; n < N; ++n) spike_grad[n] += share[from + n] * grad[from + n];
    }
}

}  // namespace
