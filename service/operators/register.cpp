// ONNX Runtime's operator ``hetsyn::Network``: a network over a batch of chunks, each stream in a loop of its own.
//
// Its definition is the function of the same name in the graph that holds it (export/network_graph.py), which ONNX
// Runtime runs where this library is not registered. A stream's result depends neither on its batch mates nor on
// how its steps are cut into chunks, because its loop does not.
//
//     inputs   events.row, events.unit, steps, state, step (service/artifact.py), then the weights of each layer:
//              bank    weight_in int16, weight_rec? int16, scale, bias?, decays, reset_decay?
//              exact   weight_in, decay_in, bias_in?, weight_rec?, decay_rec?, bias_rec?, reset_decay?
//     outputs  next.state, next.step, scores, probabilities, readout, spikes of each hidden layer

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "encoder_operator.hpp"
#include "network.hpp"

namespace {

// Denormal numbers count as zero while it lives, on its thread. A synapse that stays silent decays through them for
// a hundred time constants, and each product with one costs a hundred times as much; what is lost is below 1e-38.
class DenormalsAreZero {
   public:
#if defined(__SSE__)
    DenormalsAreZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040u); }
    ~DenormalsAreZero() { _mm_setcsr(before_); }

   private:
    unsigned before_;
#elif defined(__aarch64__)
    DenormalsAreZero() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" ::"r"(before_ | (1ull << 24)));
    }
    ~DenormalsAreZero() { asm volatile("msr fpcr, %0" ::"r"(before_)); }

   private:
    uint64_t before_;
#endif
};

using hetsyn::Layer;
using hetsyn::Network;
using hetsyn::Rule;

constexpr size_t kWeights = 5;  // inputs before the weights
constexpr size_t kSpikes = 5;   // outputs before the hidden layers' spikes

[[noreturn]] void fail(const std::string& problem) { throw std::runtime_error("hetsyn::Network: " + problem); }

Rule rule_of(const std::string& name) {
    if (name == "sum_softmax") return Rule::sum_softmax;
    if (name == "spike_count") return Rule::spike_count;
    if (name == "last") return Rule::last;
    if (name == "trace") return Rule::trace;
    fail("unknown decision rule " + name);
}

// Reads the constant weights one after the other and checks their sizes.
class Weights {
   public:
    explicit Weights(const Ort::ConstKernelInfo& info) : info_(info), count_(info.GetInputCount()) {}

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
        return value.GetTensorData<T>();
    }

    Ort::ConstKernelInfo info_;
    size_t count_, at_ = kWeights;
};

Network read_network(const OrtKernelInfo* raw) {
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
    Weights weights(info);
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

// The inputs and outputs of one call, and its streams one by one.
struct Batch {
    explicit Batch(const Network& of) : network(of) {}

    const Network& network;
    int64_t streams, longest, events, words;
    const int64_t *row, *unit, *steps, *step;
    const float* state;
    float *next_state, *scores, *probabilities, *readout;
    int64_t* next_step;
    std::vector<float*> spikes;

    void run(int64_t b, hetsyn::Scratch& scratch) const {
        const int64_t first_row = b * longest;
        const int64_t* begin = std::lower_bound(row, row + events, first_row);
        const int64_t* end = std::lower_bound(begin, row + events, first_row + longest);
        float* mine = next_state + b * words;
        std::memcpy(mine, state + b * words, sizeof(float) * static_cast<size_t>(words));
        hetsyn::Chunk chunk{steps[b], begin, unit + (begin - row), end - begin, first_row,
                            readout + first_row * network.outputs(), {}};
        for (size_t l = 0; l < spikes.size(); ++l)
            chunk.spikes.push_back(spikes[l] + first_row * network.layers[l].neurons);
        int64_t done = step[b];
        hetsyn::run_stream(network, chunk, mine, done, scratch);
        next_step[b] = done;
        const int64_t outputs = network.outputs();
        const float* score = mine + words - outputs;
        std::memcpy(scores + b * outputs, score, sizeof(float) * static_cast<size_t>(outputs));
        hetsyn::probabilities(network, score, done, probabilities + b * outputs);
    }
};

class Kernel {
   public:
    explicit Kernel(Network network) : network_(std::move(network)) {}

    OrtStatusPtr ComputeV2(OrtKernelContext* raw) try {
        Ort::KernelContext context(raw);
        Batch batch(network_);
        const auto events = context.GetInput(0), units = context.GetInput(1), steps = context.GetInput(2),
                   state = context.GetInput(3), step = context.GetInput(4);
        const auto count = [](const Ort::ConstValue& value) {
            return static_cast<int64_t>(value.GetTensorTypeAndShapeInfo().GetElementCount());
        };
        batch.streams = count(steps);
        batch.events = count(events);
        batch.words = network_.words();
        batch.row = events.GetTensorData<int64_t>();
        batch.unit = units.GetTensorData<int64_t>();
        batch.steps = steps.GetTensorData<int64_t>();
        batch.state = state.GetTensorData<float>();
        batch.step = step.GetTensorData<int64_t>();
        if (count(units) != batch.events) fail("events.row and events.unit differ in length");
        if (count(state) != batch.streams * batch.words || count(step) != batch.streams)
            fail("state or step does not have a row a stream");
        if (batch.streams == 0) fail("the batch is empty");
        batch.longest = *std::max_element(batch.steps, batch.steps + batch.streams);
        if (batch.longest < 0) fail("steps are negative");
        check_events(batch);

        const int64_t B = batch.streams, O = network_.outputs(), T = batch.longest;
        const auto floats = [&](size_t index, std::initializer_list<int64_t> shape) {
            return context.GetOutput(index, shape.begin(), shape.size()).GetTensorMutableData<float>();
        };
        batch.next_state = floats(0, {B, batch.words});
        const int64_t next_shape[] = {B};
        batch.next_step = context.GetOutput(1, next_shape, 1).GetTensorMutableData<int64_t>();
        batch.scores = floats(2, {B, O});
        batch.probabilities = floats(3, {B, O});
        batch.readout = floats(4, {B, T, O});
        for (size_t l = 0; l + 1 < network_.layers.size(); ++l)
            batch.spikes.push_back(floats(kSpikes + l, {B, T, network_.layers[l].neurons}));

        // a step of one stream is a few microseconds: threads for less cost more than they give
        constexpr int64_t worth_a_thread = 32;
        const int64_t shares = std::min(B, B * T / worth_a_thread);
        if (shares < 2) {
            const DenormalsAreZero scope;
            hetsyn::Scratch scratch(network_);
            for (int64_t b = 0; b < B; ++b) batch.run(b, scratch);
        } else {
            struct Shared {
                const Batch& batch;
                const Network& network;
                int64_t shares;
            } shared{batch, network_, shares};
            context.ParallelFor(
                [](void* data, size_t share) {
                    const Shared& all = *static_cast<Shared*>(data);
                    const DenormalsAreZero scope;
                    hetsyn::Scratch scratch(all.network);
                    const int64_t index = static_cast<int64_t>(share), streams = all.batch.streams;
                    for (int64_t b = streams * index / all.shares; b < streams * (index + 1) / all.shares; ++b)
                        all.batch.run(b, scratch);
                },
                static_cast<size_t>(shares), 0, &shared);
        }
        return nullptr;
    } catch (const std::exception& error) {
        return Ort::Status(error.what(), ORT_INVALID_ARGUMENT).release();
    }

   private:
    // they come from outside: a wrong one would write past an array
    void check_events(const Batch& batch) const {
        const int64_t rows = batch.streams * batch.longest, channels = network_.channels();
        bool wrong = false;
        int64_t before = 0;
        for (int64_t e = 0; e < batch.events; ++e) {
            wrong |= batch.row[e] < before || batch.row[e] >= rows || batch.unit[e] < 0 || batch.unit[e] >= channels;
            before = batch.row[e];
        }
        if (wrong) fail("events are not in ascending rows, or outside the chunk or the channels");
        for (int64_t b = 0; b < batch.streams; ++b)
            if (batch.steps[b] < 0) fail("steps are negative");
    }

    Network network_;
};

struct NetworkOperator : Ort::CustomOpBase<NetworkOperator, Kernel, true> {
    OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const try {
        *kernel = std::make_unique<Kernel>(read_network(info)).release();
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

}  // namespace

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
    const OrtApi* api = base->GetApi(ORT_API_VERSION);
    if (!api) return base->GetApi(1)->CreateStatus(ORT_NOT_IMPLEMENTED, "hetsyn's operators want a newer ONNX Runtime");
    Ort::InitApi(api);
    try {
        static const NetworkOperator network;
        static const hetsyn::EncoderOperator encoder;
        static const Ort::CustomOpDomain domain = [] {
            Ort::CustomOpDomain made("hetsyn");
            made.Add(&network);
            made.Add(&encoder);
            return made;
        }();
        return api->AddCustomOpDomain(options, domain);
    } catch (const std::exception& error) {
        return api->CreateStatus(ORT_FAIL, error.what());
    }
}
