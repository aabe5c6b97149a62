// ONNX Runtime's operator ``hetsyn::Encoder``: audio of a batch of streams to spike events, each stream by itself.
//
// Its definition is the function of the same name in the graph that holds it (export/graphs/encoder_graph.py).
//
//     inputs   audio, steps, history, gain_db, level_db (service/contract/graph_io.py), then constants in float64:
//              spectrum, mel, emphasis_db, contrast, thresholds_db, scalars [floor energy, release_db, quietest_db,
//              share of the gain]
//     outputs  events.row, events.unit, next history, next gain_db, next level_db

#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "encoder.hpp"
#include "kernels.hpp"
#include "ort/ort.hpp"

namespace hetsyn {

class EncoderKernel {
   public:
    explicit EncoderKernel(const ort::Node& node) {
        const auto constant = [&](size_t index, int64_t* count) {
            if (!node.is_constant(index)) refuse("its matrices are not constant");
            const ort::Tensor value = node.constant(index);
            if (value.type() != ort::Element::float64) refuse("its matrices are not float64");
            *count = value.count();
            const double* values = value.data<double>();
            for (int64_t i = 0; i < *count; ++i)
                if (!std::isfinite(values[i])) refuse("its matrices are not finite");
            return values;
        };
        const auto samples = [&](const char* name) {
            const int64_t value = node.integer(name);
            if (value < 1 || value > kMostSamples)
                refuse(std::string(name) + " is " + std::to_string(value) + ", not from 1 to " +
                       std::to_string(kMostSamples));
            return value;
        };
        int64_t spectrum = 0, mel = 0, bands = 0, contrast = 0, levels = 0, scalars = 0;
        const double* matrix = constant(5, &spectrum);
        encoder_.mel = constant(6, &mel);
        encoder_.emphasis_db = constant(7, &bands);
        encoder_.contrast = constant(8, &contrast);
        encoder_.thresholds_db = constant(9, &levels);
        const double* scalar = constant(10, &scalars);
        encoder_.step_samples = samples("step_samples");
        encoder_.window_samples = samples("window_samples");
        encoder_.bands = bands;
        encoder_.levels = levels;
        const int64_t window = encoder_.window_samples, columns = spectrum / window, bins = columns / 2;
        if (bands < 1 || levels < 1 || scalars != 4 || product(bands, bands) != contrast ||
            product(columns, bands) != mel || window < encoder_.step_samples || window * columns != spectrum ||
            columns % 2 || bins < 2 || ((bins - 1) & (bins - 2)) || window > 2 * (bins - 1))
            refuse("its matrices do not fit each other");
        encoder_.transform = RealTransform(2 * (bins - 1));
        for (int64_t n = 0; n < window; ++n) encoder_.window.push_back(matrix[n * columns]);
        check_spectrum(matrix, columns);
        for (int64_t i = 0; i < bins * bands; ++i)
            if (encoder_.mel[i] != encoder_.mel[bins * bands + i])
                refuse("its Mel filters differ between real and imaginary parts");
        encoder_.floor_energy = scalar[0];
        encoder_.release_db = scalar[1];
        encoder_.quietest_db = scalar[2];
        encoder_.gain_share = scalar[3];
    }

    void compute(const ort::Context& context) const {
        const ort::Tensor audio = context.input(0), steps = context.input(1), history = context.input(2),
                          gain = context.input(3), level = context.input(4);
        EncoderBatch batch{};
        const int64_t streams = batch.streams = steps.count();
        const int64_t overlap = encoder_.history_samples(), bands = encoder_.bands;
        batch.steps = steps.data<int64_t>();
        if (!streams) refuse("the batch is empty");
        batch.longest = *std::max_element(batch.steps, batch.steps + streams);
        if (*std::min_element(batch.steps, batch.steps + streams) < 0) refuse("steps are negative");
        if (audio.count() != product(streams, product(batch.longest, encoder_.step_samples)) ||
            history.count() != product(streams, overlap) || gain.count() != streams ||
            level.count() != product(streams, bands))
            refuse("audio or state does not have a row a stream");
        batch.audio = audio.data<float>();
        batch.history = context.output<float>(2, {streams, overlap});
        batch.gain_db = context.output<double>(3, {streams});
        batch.level_db = context.output<double>(4, {streams, bands});
        std::copy_n(history.data<float>(), streams * overlap, batch.history);
        std::copy_n(gain.data<double>(), streams, batch.gain_db);
        std::copy_n(level.data<double>(), streams * bands, batch.level_db);
        std::vector<int64_t> row, unit;
        batch.row = &row;
        batch.unit = &unit;
        kernels().encode_streams(encoder_, batch);
        const int64_t events = static_cast<int64_t>(row.size());
        std::copy(row.begin(), row.end(), context.output<int64_t>(0, {events}));
        std::copy(unit.begin(), unit.end(), context.output<int64_t>(1, {events}));
    }

   private:
    static constexpr int64_t kMostSamples = std::numeric_limits<int32_t>::max();

    [[noreturn]] static void refuse(const std::string& problem) {
        throw std::runtime_error("hetsyn::Encoder: " + problem);
    }
    // a * b, both at least 0; -1, which no size is, where that is too large
    static int64_t product(int64_t a, int64_t b) {
        int64_t result = 0;
        return a < 0 || b < 0 || __builtin_mul_overflow(a, b, &result) ? -1 : result;
    }
    // the matrix has to be a windowed discrete Fourier transform: RealTransform computes nothing else
    void check_spectrum(const double* matrix, int64_t columns) const {
        const int64_t bins = columns / 2, size = encoder_.size();
        const double circle = 2.0 * std::acos(-1.0);
        for (int64_t n = 0; n < encoder_.window_samples; ++n)
            for (int64_t f = 0; f < bins; ++f) {
                const double angle = circle * static_cast<double>(n * f % size) / static_cast<double>(size);
                const double window = encoder_.window[static_cast<size_t>(n)], *row = matrix + n * columns;
                if (std::abs(row[f] - window * std::cos(angle)) > 1e-12 ||
                    std::abs(row[bins + f] + window * std::sin(angle)) > 1e-12)
                    refuse("its spectrum is not a windowed Fourier transform");
            }
    }

    Encoder encoder_;
};

struct EncoderOperator : ort::Operator<EncoderOperator, EncoderKernel> {
    const char* operator_name() const { return "Encoder"; }

    size_t inputs() const { return 11; }
    ort::Element type_of_input(size_t index) const {
        if (index == 0 || index == 2) return ort::Element::float32;
        return index == 1 ? ort::Element::int64 : ort::Element::float64;
    }
    size_t outputs() const { return 5; }
    ort::Element type_of_output(size_t index) const {
        if (index == 2) return ort::Element::float32;
        return index < 2 ? ort::Element::int64 : ort::Element::float64;
    }
};

}  // namespace hetsyn
