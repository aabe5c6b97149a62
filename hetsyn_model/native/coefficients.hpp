// Coefficients of kernels in a bank's basis, with their derivatives.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "parallel.hpp"

namespace {

// c_k(r) of bank.py and its derivative in r, both [bank, count], for leaky decays alone. Products of all factors but one
// come from both ends: dividing by a factor fails where r is a decay of the bank.
void coefficients(const double* r, const double* decay, const double* gamma, double* c, double* slope, int64_t count,
                  int64_t bank, int threads) {
    constexpr int64_t width = 8;
    parallel_over((count + width - 1) / width, threads, [=](int64_t begin, int64_t end) {
        std::vector<double> after((bank + 1) * width), after_slope((bank + 1) * width);
        for (int64_t group = begin; group < end; ++group) {
            const int64_t first = group * width, here = std::min(width, count - first);
            double at[width], before[width], before_slope[width];
            for (int64_t e = 0; e < width; ++e) at[e] = r[first + std::min(e, here - 1)];
            std::fill(after.end() - width, after.end(), 1.0);
            std::fill(after_slope.end() - width, after_slope.end(), 0.0);
            for (int64_t k = bank - 1; k > 0; --k)  // after[k]: the product of the factors from k on
                for (int64_t e = 0; e < width; ++e) {
                    const double under = 1.0 - at[e] * decay[k], factor = (at[e] - decay[k]) / under;
                    const double rise = (1.0 - decay[k] * decay[k]) / (under * under);
                    const int64_t to = k * width + e, from = (k + 1) * width + e;
                    after[to] = after[from] * factor;
                    after_slope[to] = after_slope[from] * factor + after[from] * rise;
                }
            std::fill(before, before + width, 1.0);
            std::fill(before_slope, before_slope + width, 0.0);
            for (int64_t k = 0; k < bank; ++k) {
                double value[width], change[width];
                for (int64_t e = 0; e < width; ++e) {
                    const double under = 1.0 - at[e] * decay[k], factor = (at[e] - decay[k]) / under;
                    const double rise = (1.0 - decay[k] * decay[k]) / (under * under);
                    const int64_t rest = (k + 1) * width + e;
                    const double product = gamma[k] * before[e] * after[rest];
                    const double product_slope =
                        gamma[k] * (before_slope[e] * after[rest] + before[e] * after_slope[rest]);
                    value[e] = product / under;
                    change[e] = (product_slope + value[e] * decay[k]) / under;
                    before_slope[e] = before_slope[e] * factor + before[e] * rise;
                    before[e] *= factor;
                }
                std::copy(value, value + here, c + k * count + first);
                std::copy(change, change + here, slope + k * count + first);
            }
        }
    });
}

}  // namespace
