// What the operators of both devices read from ONNX Runtime: the network from a node's attributes and constants, the
// inputs of a call, and the operator's signature. One library includes it once.

#pragma once

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "description.hpp"

namespace hetsyn {

constexpr size_t kWeights = 5;  // inputs before the weights
constexpr size_t kSpikes = 5;   // outputs before the hidden layers' spikes

[[noreturn]] inline void fail(const std::string& problem) { throw std::runtime_error("hetsyn::Network: " + problem); }

inline Rule rule_of(const std::string& name) {
    if (name == "sum_softmax") return Rule::sum_softmax;
    if (name == "spike_count") return Rule::spike_count;
    if (name == "last") return Rule::last;
    if (name == "trace") return Rule::trace;
    fail("unknown decision rule " + name);
}

// The address of a constant: ONNX Runtime's memory, or a copy that the operator keeps.
using Locate = std::function<const void*(const Ort::ConstValue& value, size_t bytes)>;

// Reads the constant weights one after the other and checks their sizes.
class Weights {
   public:
    Weights(const Ort::ConstKernelInfo& info, const Locate& locate)
        : info_(info), locate_(locate), count_(info.GetInputCount()) {}

    const float* floats(int64_t size) { return next<float>(size, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT); }
    const int16_t* steps(int64_t size) { return next<int16_t>(size, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16); }
    void finish() const {
        if (at_ != count_) fail("there are more weights than the layers have");
    }

   private:
    template <typename T>
    const T* next(int64_t size, ONNXTensorElementDataType type) {
        if (at_ >= count_) fail("a weight is missing");
        int constant = 0;
        const Ort::ConstValue value = info_.GetTensorConstantInput(at_, &constant);
        if (!constant) fail("weight " + std::to_string(at_) + " is not constant");
        const auto shape = value.GetTensorTypeAndShapeInfo();
        if (shape.GetElementType() != type || shape.GetElementCount() != static_cast<size_t>(size))
            fail("weight " + std::to_string(at_) + " does not have " + std::to_string(size) + " values of its type");
        ++at_;
        return static_cast<const T*>(locate_(value, sizeof(T) * static_cast<size_t>(size)));
    }

    Ort::ConstKernelInfo info_;
    const Locate& locate_;
    size_t count_, at_ = kWeights;
};

inline Network read_network(const OrtKernelInfo* raw, const Locate& locate) {
    const Ort::ConstKernelInfo info(raw);
    const auto number = [&](const char* name) { return info.GetAttribute<int64_t>(name); };
    const auto neurons = info.GetAttributes<int64_t>("neurons");
    const auto banks = info.GetAttributes<int64_t>("banks");
    if (neurons.empty() || neurons.size() != banks.size()) fail("neurons and banks do not name the same layers");
    Network network;
    network.threshold = info.GetAttribute<float>("threshold");
    network.adaptive = number("adaptive") != 0;
    network.adaptation_decay = info.GetAttribute<float>("adaptation_decay");
    network.adaptation_strength = info.GetAttribute<float>("adaptation_strength");
    network.rule = rule_of(info.GetAttribute<std::string>("rule"));
    network.skip_steps = number("skip_steps");
    const bool recurrent = number("recurrent") != 0, biased = number("biased") != 0;
    Weights weights(info, locate);
    int64_t inputs = number("channels");
    for (size_t l = 0; l < neurons.size(); ++l) {
        const bool hidden = l + 1 < neurons.size();
        Layer layer;
        layer.inputs = inputs;
        layer.neurons = neurons[l];
        layer.bank = banks[l];
        layer.spiking = hidden || network.rule == Rule::spike_count;
        layer.per_synapse = number("per_synapse") != 0;
        const int64_t N = layer.neurons, I = layer.inputs;
        if (N < 1 || I < 1 || layer.bank < 0) fail("a layer is empty");
        if (layer.bank) {
            const int64_t columns = layer.bank * N;
            layer.bank_in = weights.steps(I * columns);
            if (recurrent && hidden) layer.bank_rec = weights.steps(N * columns);
            layer.scale = weights.floats(columns);
            if (biased) layer.bias_in = weights.floats(columns);
            layer.decay_in = weights.floats(layer.bank);
        } else {
            layer.weight_in = weights.floats(N * I);
            layer.decay_in = weights.floats(layer.per_synapse ? N * I : N);
            if (biased) layer.bias_in = weights.floats(layer.per_synapse ? N * I : N);
            if (recurrent && hidden) {
                layer.weight_rec = weights.floats(N * N);
                layer.decay_rec = weights.floats(layer.per_synapse ? N * N : N);
                if (biased) layer.bias_rec = weights.floats(layer.per_synapse ? N * N : N);
            }
        }
        if (layer.spiking) layer.reset_decay = weights.floats(N);
        network.layers.push_back(layer);
        inputs = N;
    }
    weights.finish();
    return network;
}

// One call: its inputs, checked, and its outputs, made. ``state`` and the outputs are where the operator's device has
// its memory, the other inputs on the host.
struct Call {
    int64_t streams, longest, events, words;
    const int64_t *row, *unit, *steps, *step;
    const float* state;
    float *next_state, *scores, *probabilities, *readout;
    int64_t* next_step;
    std::vector<float*> spikes;

    Call(const Ort::KernelContext& context, const Network& network) {
        const auto rows = context.GetInput(0), units = context.GetInput(1), chunk_steps = context.GetInput(2),
                   states = context.GetInput(3), steps_so_far = context.GetInput(4);
        const auto count = [](const Ort::ConstValue& value) {
            return static_cast<int64_t>(value.GetTensorTypeAndShapeInfo().GetElementCount());
        };
        streams = count(chunk_steps);
        events = count(rows);
        words = network.words();
        row = rows.GetTensorData<int64_t>();
        unit = units.GetTensorData<int64_t>();
        steps = chunk_steps.GetTensorData<int64_t>();
        state = states.GetTensorData<float>();
        step = steps_so_far.GetTensorData<int64_t>();
        if (count(units) != events) fail("events.row and events.unit differ in length");
        if (count(states) != streams * words || count(steps_so_far) != streams)
            fail("state or step does not have a row a stream");
        if (streams == 0) fail("the batch is empty");
        longest = *std::max_element(steps, steps + streams);
        if (*std::min_element(steps, steps + streams) < 0) fail("steps are negative");
        check_events(network);

        const int64_t B = streams, O = network.outputs(), T = longest;
        const auto floats = [&](size_t index, std::initializer_list<int64_t> shape) {
            return context.GetOutput(index, shape.begin(), shape.size()).GetTensorMutableData<float>();
        };
        next_state = floats(0, {B, words});
        const int64_t next_shape[] = {B};
        next_step = context.GetOutput(1, next_shape, 1).GetTensorMutableData<int64_t>();
        scores = floats(2, {B, O});
        probabilities = floats(3, {B, O});
        readout = floats(4, {B, T, O});
        for (size_t l = 0; l + 1 < network.layers.size(); ++l)
            spikes.push_back(floats(kSpikes + l, {B, T, network.layers[l].neurons}));
    }

   private:
    // they come from outside: a wrong one would write past an array
    void check_events(const Network& network) const {
        const int64_t rows = streams * longest, channels = network.channels();
        bool wrong = false;
        int64_t before = 0;
        for (int64_t e = 0; e < events; ++e) {
            wrong |= row[e] < before || row[e] >= rows || unit[e] < 0 || unit[e] >= channels;
            before = row[e];
        }
        if (wrong) fail("events are not in ascending rows, or outside the chunk or the channels");
    }
};

// The operator's signature. Devices differ in the kernel and in the execution provider.
template <class Self, class Kernel>
struct Signature : Ort::CustomOpBase<Self, Kernel, true> {
    OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const try {
        *kernel = std::make_unique<Kernel>(info).release();
        return nullptr;
    } catch (const std::exception& error) {
        return Ort::Status(error.what(), ORT_INVALID_GRAPH).release();
    }
    const char* GetName() const { return "Network"; }

    size_t GetInputTypeCount() const { return kWeights + 1; }
    ONNXTensorElementDataType GetInputType(size_t index) const {
        if (index == kWeights) return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        return index < 3 || index == 4 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    }
    bool GetVariadicInputHomogeneity() const { return false; }  // the weights are of two types
    OrtCustomOpInputOutputCharacteristic GetInputCharacteristic(size_t index) const {
        return index < kWeights ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_VARIADIC;
    }
    size_t GetOutputTypeCount() const { return kSpikes + 1; }
    ONNXTensorElementDataType GetOutputType(size_t index) const {
        return index == 1 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    }
    OrtCustomOpInputOutputCharacteristic GetOutputCharacteristic(size_t index) const {
        return index < kSpikes ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_VARIADIC;
    }
    int GetVariadicOutputMinArity() const { return 0; }
};

// What a library's RegisterCustomOps does.
template <class... Operators>
OrtStatus* register_operators(OrtSessionOptions* options, const OrtApiBase* base) {
    const OrtApi* api = base->GetApi(ORT_API_VERSION);
    if (!api) return base->GetApi(1)->CreateStatus(ORT_NOT_IMPLEMENTED, "hetsyn's operators want a newer ONNX Runtime");
    Ort::InitApi(api);
    try {
        static const std::tuple<Operators...> operators;
        static const Ort::CustomOpDomain domain = [] {
            Ort::CustomOpDomain made("hetsyn");
            std::apply([&](const auto&... each) { (made.Add(&each), ...); }, operators);
            return made;
        }();
        return api->AddCustomOpDomain(options, domain);
    } catch (const std::exception& error) {
        return api->CreateStatus(ORT_FAIL, error.what());
    }
}

}  // namespace hetsyn
