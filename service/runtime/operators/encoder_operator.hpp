// ONNX Runtime's operator ``hetsyn::Encoder``: audio of a batch of streams to spike events, each stream by itself.
//
// Its definition is the function of the same name in the graph that holds it (export/encoder_graph.py).
//
//     inputs   audio, steps, history, gain_db, level_db (service/contract/graph_io.py), then constants in float64:
//              spectrum, mel, emphasis_db, contrast, thresholds_db, scalars [floor energy, release_db, quietest_db,
//              share of the gain]
//     outputs  events.row, events.unit, next history, next gain_db, next level_db

#pragma once

#include <onnxruntime_cxx_api.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

#include "encoder.hpp"

namespace hetsyn {

class EncoderKernel {
   public:
    explicit EncoderKernel(const OrtKernelInfo* raw) {
        const Ort::ConstKernelInfo info(raw);
        const auto constant = [&](size_t index, int64_t* count) {
            int is_constant = 0;
            const Ort::ConstValue value = info.GetTensorConstantInput(index, &is_constant);
            if (!is_constant) throw std::runtime_error("hetsyn::Encoder: its matrices are not constant");
            const auto shape = value.GetTensorTypeAndShapeInfo();
            if (shape.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE)
                throw std::runtime_error("hetsyn::Encoder: its matrices are not float64");
            *count = static_cast<int64_t>(shape.GetElementCount());
            return value.GetTensorData<double>();
        };
        int64_t spectrum = 0, mel = 0, bands = 0, contrast = 0, levels = 0, scalars = 0;
        const double* matrix = constant(5, &spectrum);
        encoder_.mel = constant(6, &mel);
        encoder_.emphasis_db = constant(7, &bands);
        encoder_.contrast = constant(8, &contrast);
        encoder_.thresholds_db = constant(9, &levels);
        const double* scalar = constant(10, &scalars);
        encoder_.step_samples = info.GetAttribute<int64_t>("step_samples");
        encoder_.window_samples = info.GetAttribute<int64_t>("window_samples");
        encoder_.bands = bands;
        encoder_.levels = levels;
        const int64_t window = encoder_.window_samples, columns = window > 0 ? spectrum / window : 0,
                      bins = columns / 2;
        if (bands < 1 || levels < 1 || scalars != 4 || contrast != bands * bands || columns * bands != mel ||
            encoder_.step_samples < 1 || window < encoder_.step_samples || window * columns != spectrum ||
            columns % 2 || bins < 2 || ((bins - 1) & (bins - 2)) || window > 2 * (bins - 1))
            throw std::runtime_error("hetsyn::Encoder: its matrices do not fit each other");
        encoder_.transform = RealTransform(2 * (bins - 1));
        for (int64_t n = 0; n < window; ++n) encoder_.window.push_back(matrix[n * columns]);
        check_spectrum(matrix, columns);
        for (int64_t i = 0; i < bins * bands; ++i)
            if (encoder_.mel[i] != encoder_.mel[bins * bands + i])
                throw std::runtime_error("hetsyn::Encoder: its Mel filters differ between real and imaginary parts");
        encoder_.floor_energy = scalar[0];
        encoder_.release_db = scalar[1];
        encoder_.quietest_db = scalar[2];
        encoder_.gain_share = scalar[3];
    }

    OrtStatusPtr ComputeV2(OrtKernelContext* raw) try {
        Ort::KernelContext context(raw);
        const auto audio = context.GetInput(0), steps = context.GetInput(1), history = context.GetInput(2),
                   gain = context.GetInput(3), level = context.GetInput(4);
        const auto count = [](const Ort::ConstValue& value) {
            return static_cast<int64_t>(value.GetTensorTypeAndShapeInfo().GetElementCount());
        };
        const int64_t streams = count(steps), overlap = encoder_.history_samples(), bands = encoder_.bands;
        const int64_t* lengths = steps.GetTensorData<int64_t>();
        if (!streams) throw std::runtime_error("hetsyn::Encoder: the batch is empty");
        const int64_t longest = *std::max_element(lengths, lengths + streams);
        if (*std::min_element(lengths, lengths + streams) < 0)
            throw std::runtime_error("hetsyn::Encoder: steps are negative");
        const int64_t row_samples = longest * encoder_.step_samples;
        if (count(audio) != streams * row_samples || count(history) != streams * overlap || count(gain) != streams ||
            count(level) != streams * bands)
            throw std::runtime_error("hetsyn::Encoder: audio or state does not have a row a stream");
        const auto output = [&](size_t index, std::initializer_list<int64_t> shape) {
            return context.GetOutput(index, shape.begin(), shape.size());
        };
        float* next_history = output(2, {streams, overlap}).GetTensorMutableData<float>();
        double* next_gain = output(3, {streams}).GetTensorMutableData<double>();
        double* next_level = output(4, {streams, bands}).GetTensorMutableData<double>();
        std::copy_n(history.GetTensorData<float>(), streams * overlap, next_history);
        std::copy_n(gain.GetTensorData<double>(), streams, next_gain);
        std::copy_n(level.GetTensorData<double>(), streams * bands, next_level);
        std::vector<int64_t> rows, units;
        EncoderScratch scratch(encoder_);
        for (int64_t b = 0; b < streams; ++b)
            encode_stream(encoder_, audio.GetTensorData<float>() + b * row_samples, lengths[b], b * longest,
                          next_history + b * overlap, next_gain[b], next_level + b * bands, scratch, rows, units);
        const int64_t events = static_cast<int64_t>(rows.size());
        std::copy(rows.begin(), rows.end(), output(0, {events}).GetTensorMutableData<int64_t>());
        std::copy(units.begin(), units.end(), output(1, {events}).GetTensorMutableData<int64_t>());
        return nullptr;
    } catch (const std::exception& error) {
        return Ort::Status(error.what(), ORT_INVALID_ARGUMENT).release();
    }

   private:
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
                    throw std::runtime_error("hetsyn::Encoder: its spectrum is not a windowed Fourier transform");
            }
    }

    Encoder encoder_;
};

struct EncoderOperator : Ort::CustomOpBase<EncoderOperator, EncoderKernel, true> {
    OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const try {
        *kernel = std::make_unique<EncoderKernel>(info).release();
        return nullptr;
    } catch (const std::exception& error) {
        return Ort::Status(error.what(), ORT_INVALID_GRAPH).release();
    }
    const char* GetName() const { return "Encoder"; }

    size_t GetInputTypeCount() const { return 11; }
    ONNXTensorElementDataType GetInputType(size_t index) const {
        if (index == 0 || index == 2) return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
        return index == 1 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 : ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
    }
    size_t GetOutputTypeCount() const { return 5; }
    ONNXTensorElementDataType GetOutputType(size_t index) const {
        if (index == 2) return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
        return index < 2 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 : ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
    }
};

}  // namespace hetsyn
