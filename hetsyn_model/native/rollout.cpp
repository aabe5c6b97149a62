// Event-driven products and the sequential part of a bank layer, forward and backward.
//
// Index letters: b stream, t step, k bank decay, n neuron, i presynaptic unit. A layer's columns are
// k-major: column k * neurons + n, so that the sum over k and the decay run over contiguous neurons.
// Plain C interface: torch tensors come as pointers, so nothing of torch has to be compiled.
//
// Compiled with -ffp-contract=off: a fused multiply-add would round once where torch and ONNX Runtime
// round twice, and a spike is a threshold.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "coefficients.hpp"
#include "parallel.hpp"
#include "products.hpp"
#include "reset.hpp"

namespace {

// out[row, :] = sum over the row's events of value * weight[unit, :]
template <typename T>
void event_product(const int64_t* splits, const int32_t* units, const T* values, const T* weight, T* out, int64_t rows,
                   int64_t columns, int threads) {
    parallel_over(rows, threads, [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            T* target = out + row * columns;
            std::memset(target, 0, sizeof(T) * columns);
            for (int64_t event = splits[row]; event < splits[row + 1]; ++event) {
                const T* source = weight + static_cast<int64_t>(units[event]) * columns;
                const T value = values[event];
                for (int64_t column = 0; column < columns; ++column) target[column] += value * source[column];
            }
        }
    });
}

// grad[unit, :] += value * rows_grad[row, :]; each thread has columns of its own, so no two write to one address
template <typename T>
void event_product_backward(const int64_t* splits, const int32_t* units, const T* values, const T* rows_grad, T* grad,
                            int64_t rows, int64_t columns, int threads) {
    parallel_over(columns, threads, [=](int64_t begin, int64_t end) {
        for (int64_t row = 0; row < rows; ++row) {
            const T* source = rows_grad + row * columns;
            for (int64_t event = splits[row]; event < splits[row + 1]; ++event) {
                T* target = grad + static_cast<int64_t>(units[event]) * columns;
                const T value = values[event];
                for (int64_t column = begin; column < end; ++column) target[column] += value * source[column];
            }
        }
    });
}

using hetsyn::Reset;

struct Layer {
    int64_t batch, steps, bank, neurons;
    int spiking, recurrent, membrane;
    Reset reset;
    double adaptation_decay, adaptation_strength;
};

// Writes spikes and potential, and the rise of each threshold where there is room for it: the surrogate needs it.
template <typename T>
void layer_forward(const Layer& layer, const T* drive, const T* recurrent_weight, const T* decay, const T* kappa,
                   const T* threshold, T* spikes, T* potential, T* risen, int threads) {
    const int64_t N = layer.neurons, K = layer.bank, KN = K * N;
    const T adaptation_decay = static_cast<T>(layer.adaptation_decay);
    const T adaptation_strength = static_cast<T>(layer.adaptation_strength);
    parallel_over(layer.batch, threads, [=](int64_t begin, int64_t end) {
        std::vector<T> current(KN), arriving(KN), kept(N), adaptation(N);  // kept: the reset current or the membrane
        const std::vector<T> silence(N);
        std::vector<int32_t> fired;
        fired.reserve(N);
        for (int64_t b = begin; b < end; ++b) {
            std::fill(current.begin(), current.end(), T(0));
            std::fill(kept.begin(), kept.end(), T(0));
            std::fill(adaptation.begin(), adaptation.end(), T(0));
            fired.clear();
            const T* before = nullptr;
            for (int64_t t = 0; t < layer.steps; ++t) {
                const int64_t row = b * layer.steps + t;
                const T* input = drive + row * KN;
                if (layer.recurrent && !fired.empty()) {
                    // first their own sum, which is exact, then the input: a drive of values rounds once, as elsewhere
                    T* sum = arriving.data();
                    std::memset(sum, 0, sizeof(T) * KN);
                    for (const int32_t unit : fired) {
                        const T* source = recurrent_weight + static_cast<int64_t>(unit) * KN;
                        for (int64_t c = 0; c < KN; ++c) sum[c] += source[c];
                    }
                    for (int64_t c = 0; c < KN; ++c) sum[c] = input[c] + sum[c];
                    input = sum;
                }
                T* v = potential + row * N;
                for (int64_t k = 0; k < K; ++k) {
                    T* u = current.data() + k * N;
                    const T* a = input + k * N;
                    const T alpha = decay[k];
                    if (k == 0)
                        for (int64_t n = 0; n < N; ++n) v[n] = u[n] = alpha * u[n] + a[n];
                    else
                        for (int64_t n = 0; n < N; ++n) v[n] += u[n] = alpha * u[n] + a[n];
                }
                if (!layer.spiking) {
                    if (layer.membrane)
                        for (int64_t n = 0; n < N; ++n) v[n] = kept[n] = kappa[n] * kept[n] + v[n];
                    continue;
                }
                T* z = spikes + row * N;
                const T* earlier = before ? before : silence.data();
                if (layer.membrane) {
                    for (int64_t n = 0; n < N; ++n)
                        v[n] = kept[n] =
                            hetsyn::membrane_left(layer.reset, kappa[n], threshold[n], kept[n], earlier[n]) + v[n];
                } else {
                    if (before)
                        for (int64_t n = 0; n < N; ++n)
                            kept[n] = hetsyn::reset_current(kappa[n], threshold[n], kept[n], before[n]);
                    for (int64_t n = 0; n < N; ++n) v[n] -= kept[n];
                }
                if (before)
                    for (int64_t n = 0; n < N; ++n)
                        adaptation[n] = adaptation_decay * adaptation[n] + adaptation_strength * before[n];
                if (risen) std::copy(adaptation.begin(), adaptation.end(), risen + row * N);
                fired.clear();
                for (int64_t n = 0; n < N; ++n) z[n] = v[n] > threshold[n] + adaptation[n] ? T(1) : T(0);
                for (int64_t n = 0; n < N; ++n)
                    if (z[n] != T(0)) fired.push_back(static_cast<int32_t>(n));
                before = z;
            }
        }
    });
}

// Adjoint of layer_forward. surrogate is dz/du of every spike; grad_spikes and grad_potential come from
// outside the layer. Writes grad_drive; adds to grad_recurrent and grad_kappa.
template <typename T>
void layer_backward(const Layer& layer, const T* spikes, const T* potential, const T* surrogate, const T* grad_spikes,
                    const T* grad_potential, const T* recurrent_weight, const T* decay, const T* kappa,
                    const T* threshold, T* grad_drive, T* grad_recurrent, T* grad_kappa, int threads) {
    const int64_t N = layer.neurons, K = layer.bank, KN = K * N, S = layer.steps;
    const T adaptation_decay = static_cast<T>(layer.adaptation_decay);
    const T adaptation_strength = static_cast<T>(layer.adaptation_strength);
    constexpr int64_t block = 4;  // streams that share one pass over the recurrent weights
    const int64_t P = padded(N);
    const bool in_lanes = layer.recurrent && layer.batch > 1;
    const auto weights = in_lanes ? by_lanes(recurrent_weight, N, KN) : std::vector<T>();
    parallel_over((layer.batch + block - 1) / block, threads, [=, &weights](int64_t begin, int64_t end) {
        std::vector<T> kept_grad(block * N), adaptation_grad(block * N), spike_grad(block * P);
        std::vector<int32_t> felt;
        felt.reserve(N);
        std::vector<T> resets(grad_kappa && !layer.membrane ? block * S * N : 0);
        for (int64_t group = begin; group < end; ++group) {
            const int64_t first = group * block, width = std::min(block, layer.batch - first);
            std::fill(kept_grad.begin(), kept_grad.end(), T(0));
            std::fill(adaptation_grad.begin(), adaptation_grad.end(), T(0));
            for (int64_t t = S - 1; t >= 0; --t) {
                std::fill(spike_grad.begin(), spike_grad.end(), T(0));
                const bool later = t + 1 < S;
                if (layer.spiking && layer.recurrent && later) {
                    // a batch of one stream, or the last of an odd batch: no work for the block's rest
                    if (width == 1) {
                        const T* alone = grad_drive + (first * S + t + 1) * KN;
                        const T* sigma = surrogate + (first * S + t) * N;
                        felt.clear();
                        for (int64_t i = 0; i < N; ++i)
                            if (sigma[i] != T(0)) felt.push_back(static_cast<int32_t>(i));  // the others take nothing
                        products_of_rows(recurrent_weight, felt, KN, alone, spike_grad.data());
                    } else {
                        const T* next[block];
                        for (int64_t s = 0; s < block; ++s)
                            next[s] = grad_drive + ((first + std::min(s, width - 1)) * S + t + 1) * KN;
                        products_of_four(weights.data(), N, KN, next, spike_grad.data(), P);
                    }
                }
                for (int64_t s = 0; s < width; ++s) {
                    const int64_t row = (first + s) * S + t;
                    T* gz = spike_grad.data() + s * P;
                    T* gj = kept_grad.data() + s * N;  // of the reset current, or of the membrane
                    T* ga = adaptation_grad.data() + s * N;
                    T* gu = grad_drive + row * KN;
                    if (layer.spiking && layer.membrane) {
                        const T *sigma = surrogate + row * N, *z = spikes + row * N, *v = potential + row * N;
                        for (int64_t n = 0; n < N; ++n) {
                            const T reaches = hetsyn::left_by_membrane(layer.reset, kappa[n], z[n]);
                            const T taken = hetsyn::taken_by_spike(layer.reset, kappa[n], threshold[n], v[n]);
                            // gj and ga still hold their values at t + 1
                            gz[n] += grad_spikes[row * N + n] - taken * gj[n] + adaptation_strength * ga[n];
                            const T through_spike = gz[n] * sigma[n];
                            gz[n] = gj[n] = through_spike + grad_potential[row * N + n] + reaches * gj[n];
                            ga[n] = adaptation_decay * ga[n] - through_spike;
                        }
                    } else if (layer.spiking) {
                        const T* sigma = surrogate + row * N;
                        for (int64_t n = 0; n < N; ++n) {
                            // gj and ga still hold their values at t + 1
                            gz[n] += grad_spikes[row * N + n] + threshold[n] * gj[n] + adaptation_strength * ga[n];
                            const T through_spike = gz[n] * sigma[n];
                            gz[n] = through_spike + grad_potential[row * N + n];
                            gj[n] = kappa[n] * gj[n] - gz[n];
                            ga[n] = adaptation_decay * ga[n] - through_spike;
                        }
                    } else if (layer.membrane) {
                        for (int64_t n = 0; n < N; ++n)
                            gz[n] = gj[n] = grad_potential[row * N + n] + kappa[n] * gj[n];
                    } else {
                        std::memcpy(gz, grad_potential + row * N, sizeof(T) * N);
                    }
                    for (int64_t k = 0; k < K; ++k) {
                        const T alpha = decay[k];
                        if (later)
                            for (int64_t n = 0; n < N; ++n) gu[k * N + n] = gz[n] + alpha * gu[KN + k * N + n];
                        else
                            for (int64_t n = 0; n < N; ++n) gu[k * N + n] = gz[n];
                    }
                    // for kappa's own gradient below
                    if (!resets.empty()) std::memcpy(resets.data() + (s * S + t) * N, gj, sizeof(T) * N);
                }
            }
            if (!resets.empty()) {
                std::vector<T> reset(N);
                for (int64_t s = 0; s < width; ++s) {
                    std::fill(reset.begin(), reset.end(), T(0));  // J(t-1), run forward once more
                    const T* z = spikes + (first + s) * S * N;
                    for (int64_t t = 0; t < S; ++t) {
                        T* into = grad_kappa + (first + s) * N;
                        for (int64_t n = 0; n < N; ++n) into[n] += resets[(s * S + t) * N + n] * reset[n];
                        if (t == 0) continue;
                        for (int64_t n = 0; n < N; ++n)
                            reset[n] = hetsyn::reset_current(kappa[n], threshold[n], reset[n], z[(t - 1) * N + n]);
                    }
                }
            }
        }
    });
    if (layer.recurrent)
        parallel_over(KN, threads, [=](int64_t begin, int64_t end) {
            for (int64_t b = 0; b < layer.batch; ++b)
                for (int64_t t = 1; t < S; ++t) {
                    const T* z = spikes + (b * S + t - 1) * N;
                    const T* source = grad_drive + (b * S + t) * KN;
                    for (int64_t n = 0; n < N; ++n)
                        if (z[n] != T(0)) {
                            T* target = grad_recurrent + n * KN;
                            for (int64_t c = begin; c < end; ++c) target[c] += source[c];
                        }
                }
        });
}

}  // namespace

// Compiled once for each level of the processor (build_support/compiling.py): HETSYN_LEVEL is v2, v3, v4 or generic,
// and the name of every function ends with it.
#define HETSYN_NAME_NOW(NAME, TYPE, LEVEL) hetsyn_##NAME##_##TYPE##_##LEVEL
#define HETSYN_NAME(NAME, TYPE, LEVEL) HETSYN_NAME_NOW(NAME, TYPE, LEVEL)
#define HETSYN_FUNCTION(NAME, TYPE) \
    extern "C" __attribute__((visibility("default"))) void HETSYN_NAME(NAME, TYPE, HETSYN_LEVEL)

#define HETSYN_FUNCTIONS(T)                                                                                           \
    HETSYN_FUNCTION(event_product, T)                                                                                 \
    (const int64_t* splits, const int32_t* units, const T* values, const T* weight, T* out, int64_t rows,             \
     int64_t columns, int threads) {                                                                                  \
        event_product<T>(splits, units, values, weight, out, rows, columns, threads);                                 \
    }                                                                                                                 \
    HETSYN_FUNCTION(event_product_backward, T)                                                                        \
    (const int64_t* splits, const int32_t* units, const T* values, const T* rows_grad, T* grad, int64_t rows,         \
     int64_t columns, int threads) {                                                                                  \
        event_product_backward<T>(splits, units, values, rows_grad, grad, rows, columns, threads);                    \
    }                                                                                                                 \
    HETSYN_FUNCTION(layer_forward, T)                                                                                 \
    (const Layer* layer, const T* drive, const T* recurrent, const T* decay, const T* kappa, const T* threshold,      \
     T* spikes, T* potential, T* risen, int threads) {                                                                \
        layer_forward<T>(*layer, drive, recurrent, decay, kappa, threshold, spikes, potential, risen, threads);       \
    }                                                                                                                 \
    HETSYN_FUNCTION(layer_backward, T)                                                                                \
    (const Layer* layer, const T* spikes, const T* potential, const T* surrogate, const T* grad_spikes,               \
     const T* grad_potential, const T* recurrent, const T* decay, const T* kappa, const T* threshold, T* grad_drive,  \
     T* grad_recurrent, T* grad_kappa, int threads) {                                                                 \
        layer_backward<T>(*layer, spikes, potential, surrogate, grad_spikes, grad_potential, recurrent, decay, kappa, \
                          threshold, grad_drive, grad_recurrent, grad_kappa, threads);                                \
    }

HETSYN_FUNCTIONS(float)
HETSYN_FUNCTIONS(double)

HETSYN_FUNCTION(coefficients, double)
(const double* r, const double* decay, const double* gamma, double* c, double* slope, int64_t count, int64_t bank,
 int threads) {
    coefficients(r, decay, gamma, c, slope, count, bank, threads);
}
