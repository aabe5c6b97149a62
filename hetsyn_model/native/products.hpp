// Products of recurrent weights with gradients, many neurons or streams side by side.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

// a * b + c, rounded once where the processor can: gradients alone may differ in their last bits
template <typename T>
inline T fused(T a, T b, T c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return std::fma(a, b, c);
#else
    return a * b + c;
#endif
}

constexpr int64_t lanes = 16;  // neurons that are summed up side by side, in registers

int64_t padded(int64_t neurons) { return (neurons + lanes - 1) / lanes * lanes; }

// Recurrent weights [neurons, columns] as [neurons / lanes, columns, lanes], the last lanes filled with zeros.
template <typename T>
std::vector<T> by_lanes(const T* weights, int64_t neurons, int64_t columns) {
    std::vector<T> out(padded(neurons) * columns);
    for (int64_t i = 0; i < neurons; ++i)
        for (int64_t c = 0; c < columns; ++c)
            out[(i / lanes * columns + c) * lanes + i % lanes] = weights[i * columns + c];
    return out;
}

// sums[s, i] = weights[i, :] . streams[s] for four streams; weights by lanes, sums [4, stride]
template <typename T>
void products_of_four(const T* weights, int64_t neurons, int64_t columns, const T* const* streams, T* sums,
                      int64_t stride) {
    const T *x0 = streams[0], *x1 = streams[1], *x2 = streams[2], *x3 = streams[3];
    for (int64_t i = 0; i < neurons; i += lanes) {
        T a0[lanes] = {}, a1[lanes] = {}, a2[lanes] = {}, a3[lanes] = {};
        const T* w = weights + i * columns;
        for (int64_t c = 0; c < columns; ++c, w += lanes) {
            const T y0 = x0[c], y1 = x1[c], y2 = x2[c], y3 = x3[c];
            for (int64_t v = 0; v < lanes; ++v) {
                a0[v] = fused(w[v], y0, a0[v]);
                a1[v] = fused(w[v], y1, a1[v]);
                a2[v] = fused(w[v], y2, a2[v]);
                a3[v] = fused(w[v], y3, a3[v]);
            }
        }
        for (int64_t v = 0; v < lanes; ++v) {
            sums[i + v] = a0[v];
            sums[stride + i + v] = a1[v];
            sums[2 * stride + i + v] = a2[v];
            sums[3 * stride + i + v] = a3[v];
        }
    }
}

// sums[i] = weights[i, :] . stream for the given rows alone, four side by side: one sum would wait for itself
template <typename T>
void products_of_rows(const T* weights, const std::vector<int32_t>& rows, int64_t columns, const T* stream, T* sums) {
    for (size_t first = 0; first < rows.size(); first += 4) {
        const T* w[4];
        for (size_t r = 0; r < 4; ++r) w[r] = weights + rows[std::min(first + r, rows.size() - 1)] * columns;
        T a0 = 0, a1 = 0, a2 = 0, a3 = 0;
#pragma omp simd reduction(+ : a0, a1, a2, a3)
        for (int64_t c = 0; c < columns; ++c) {
            a0 = fused(w[0][c], stream[c], a0);
            a1 = fused(w[1][c], stream[c], a1);
            a2 = fused(w[2][c], stream[c], a2);
            a3 = fused(w[3][c], stream[c], a3);
        }
        const T found[4] = {a0, a1, a2, a3};
        for (size_t r = 0; r < 4 && first + r < rows.size(); ++r) sums[rows[first + r]] = found[r];
    }
}

}  // namespace
