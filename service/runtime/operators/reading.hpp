// What the operators read from ONNX Runtime: the network from a node's attributes and constants, the
// inputs of a call, and the operator's signature. Nothing that a graph or a call says is believed: what would reach
// beyond an array is refused. One library includes it once.

#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "description.hpp"
#include "ort/ort.hpp"

namespace hetsyn {

// Inputs of a network: events.row, events.unit, then these three, then the weights.
constexpr size_t kSteps = 2, kState = 3, kStep = 4, kWeights = 5;
constexpr size_t kSpikes = 5;  // outputs before the hidden layers' spikes

[[noreturn]] inline void fail(const std::string& problem) { throw std::runtime_error("hetsyn::Network: " + problem); }

inline Rule rule_of(const std::string& name) {
    if (name == "sum_softmax") return Rule::sum_softmax;
    if (name == "late_softmax") return Rule::late_softmax;
    if (name == "spike_count") return Rule::spike_count;
    if (name == "last") return Rule::last;
    if (name == "trace") return Rule::trace;
    fail("unknown decision rule " + name);
}

inline Reset reset_of(int64_t number) {
    return number == 0 ? Reset::subtract : number == 1 ? Reset::subtract_at_once : Reset::zero;
}

constexpr int64_t kMost = std::numeric_limits<int32_t>::max();  // of any attribute, and of a chunk's steps

// a * b, both at least 0
inline int64_t product(int64_t a, int64_t b) {
    int64_t result = 0;
    if (__builtin_mul_overflow(a, b, &result)) fail("its sizes are too large");
    return result;
}

// A node's attributes, within bounds.
class Attributes {
   public:
    explicit Attributes(const ort::Node& node) : node_(node) {}

    int64_t whole(const char* name, int64_t least, int64_t most = kMost) const {
        return within(name, node_.integer(name), least, most);
    }
    int64_t whole_or(const char* name, int64_t otherwise, int64_t least, int64_t most) const {
        return within(name, node_.integer_or(name, otherwise), least, most);
    }
    bool flag(const char* name) const { return whole(name, 0, 1) != 0; }
    std::vector<int64_t> all_whole(const char* name, int64_t least) const {
        const std::vector<int64_t> values = node_.integers(name);
        for (const int64_t value : values) within(name, value, least, kMost);
        return values;
    }
    float finite(const char* name) const {
        const float value = node_.real(name);
        if (!std::isfinite(value)) fail(std::string(name) + " is not finite");
        return value;
    }

   private:
    static int64_t within(const char* name, int64_t value, int64_t least, int64_t most) {
        if (value < least || value > most)
            fail(std::string(name) + " is " + std::to_string(value) + ", not from " + std::to_string(least) + " to " +
                 std::to_string(most));
        return value;
    }

    const ort::Node& node_;
};

// Reads the constant weights one after the other and checks their sizes.
class Weights {
   public:
    Weights(const ort::Node& node, size_t first) : node_(node), count_(node.input_count()), at_(first) {}

    const float* floats(int64_t size) { return next<float>(size, ort::Element::float32); }
    const int16_t* steps(int64_t size) { return next<int16_t>(size, ort::Element::int16); }
    void finish() const {
        if (at_ != count_) fail("there are more weights than the layers have");
    }

   private:
    template <typename T>
    const T* next(int64_t size, ort::Element type) {
        if (at_ >= count_) fail("a weight is missing");
        if (!node_.is_constant(at_)) fail("weight " + std::to_string(at_) + " is not constant");
        const ort::Tensor value = node_.constant(at_);
        if (value.type() != type || value.count() != size)
            fail("weight " + std::to_string(at_) + " does not have " + std::to_string(size) + " values of its type");
        ++at_;
        return value.data<T>();
    }

    const ort::Node& node_;
    size_t count_, at_;
};

// A network that plain ONNX runs: service/runtime/onnx.py knows the first words.
[[noreturn]] inline void leave(const std::string& part) { fail("in plain ONNX alone: " + part); }

inline Network read_network(const ort::Node& node) {
    const Attributes attributes(node);
    const auto neurons = attributes.all_whole("neurons", 1);
    const auto banks = attributes.all_whole("banks", 0);
    if (neurons.empty() || neurons.size() != banks.size()) fail("neurons and banks do not name the same layers");
    Network network;
    network.threshold = attributes.finite("threshold");
    // artifacts from before there were membranes do not say these four
    network.membrane = attributes.whole_or("membrane", 0, 0, 1) != 0;
    network.reset = reset_of(attributes.whole_or("reset", 0, 0, 2));
    const bool filtered = attributes.whole_or("filtered", 1, 0, 1) != 0;
    const bool own_thresholds = attributes.whole_or("own_thresholds", 0, 0, 1) != 0;
    network.adaptive = attributes.flag("adaptive");
    if (attributes.whole_or("resonant", 0, 0, 1)) leave("resonant neurons");
    network.adaptation_decay = attributes.finite("adaptation_decay");
    network.adaptation_strength = attributes.finite("adaptation_strength");
    network.rule = rule_of(node.text("rule"));
    network.skip_steps = attributes.whole("skip_steps", 0);
    network.score_words = attributes.whole_or("score_words", 1, 1, 2);  // artifacts of format 2 do not say it
    if (network.score_words == 2 && !network.adds_up()) fail("score_words is 2, but the rule adds nothing up");
    const bool recurrent = attributes.flag("recurrent"), biased = attributes.flag("biased");
    if (attributes.whole_or("per_synapse", 0, 0, 1)) leave("a current a synapse");
    for (const char* name : {"input_delay", "recurrent_delay"})
        if (attributes.whole_or(name, 0, 0, kMost)) leave("delays");
    Weights weights(node, kWeights);
    int64_t inputs = attributes.whole("channels", 1);
    for (size_t l = 0; l < neurons.size(); ++l) {
        const bool hidden = l + 1 < neurons.size();
        Layer layer;
        layer.inputs = inputs;
        layer.neurons = neurons[l];
        layer.bank = banks[l];
        layer.spiking = hidden || network.rule == Rule::spike_count;
        layer.filtered = filtered;
        const int64_t N = layer.neurons, I = layer.inputs;
        if (layer.bank) {
            const int64_t columns = product(layer.bank, N);
            layer.bank_in = weights.steps(product(I, columns));
            if (recurrent && hidden) layer.bank_rec = weights.steps(product(N, columns));
            layer.scale = weights.floats(columns);
            if (biased) layer.bias_in = weights.floats(columns);
            layer.decay_in = weights.floats(layer.bank);
        } else {
            layer.weight_in = weights.floats(product(N, I));
            if (filtered) layer.decay_in = weights.floats(N);
            if (biased) layer.bias_in = weights.floats(N);
            if (recurrent && hidden) {
                layer.weight_rec = weights.floats(product(N, N));
                if (filtered) layer.decay_rec = weights.floats(N);
                if (biased) layer.bias_rec = weights.floats(N);
            }
        }
        if (layer.spiking || network.membrane) layer.kappa = weights.floats(N);
        if (layer.spiking && own_thresholds) layer.threshold = weights.floats(N);
        network.layers.push_back(layer);
        inputs = N;
    }
    weights.finish();
    return network;
}

// Checks a batch that comes from outside: a wrong one would write past an array. Returns its longest chunk.
inline int64_t check(const Batch& batch, const Network& network) {
    if (batch.streams == 0) fail("the batch is empty");
    const int64_t longest = *std::max_element(batch.steps, batch.steps + batch.streams);
    if (*std::min_element(batch.steps, batch.steps + batch.streams) < 0) fail("steps are negative");
    if (longest > kMost) fail("a chunk has more than " + std::to_string(kMost) + " steps");
    // Any number below 0 has its highest bit, and so has a sum of such bits. Compilers make vectors of this.
    const uint64_t last_row = static_cast<uint64_t>(product(batch.streams, longest)) - 1,
                   last_unit = static_cast<uint64_t>(network.channels()) - 1;
    uint64_t before = 0, signs = 0;
    for (int64_t e = 0; e < batch.events; ++e) {
        const uint64_t row = static_cast<uint64_t>(batch.row[e]), unit = static_cast<uint64_t>(batch.unit[e]);
        signs |= row | unit | (row - before) | (last_row - row) | (last_unit - unit);
        before = row;
    }
    if (signs >> 63) fail("events are not in ascending rows, or outside the chunk or the channels");
    return longest;
}

// One call of ONNX Runtime: its inputs, checked, and its outputs, made.
struct Call : Batch {
    Call(const ort::Context& context, const Network& network) : Batch{} {
        const ort::Tensor rows = context.input(0), units = context.input(1), chunk_steps = context.input(kSteps),
                          states = context.input(kState), steps_so_far = context.input(kStep);
        streams = chunk_steps.count();
        words = network.words();
        events = rows.count();
        row = rows.data<int64_t>();
        unit = units.data<int64_t>();
        steps = chunk_steps.data<int64_t>();
        state = states.data<float>();
        step = steps_so_far.data<int64_t>();
        if (states.count() != product(streams, words) || steps_so_far.count() != streams)
            fail("state or step does not have a row a stream");
        if (units.count() != events) fail("events.row and events.unit differ in length");
        longest = check(*this, network);

        const int64_t B = streams, O = network.outputs(), T = longest;
        next_state = context.output<float>(0, {B, words});
        next_step = context.output<int64_t>(1, {B});
        scores = context.output<float>(2, {B, O});
        probabilities = context.output<float>(3, {B, O});
        readout = context.output<float>(4, {B, T, O});
        for (size_t l = 0; l + 1 < network.layers.size(); ++l)
            spikes.push_back(context.output<float>(kSpikes + l, {B, T, network.layers[l].neurons}));
    }
};

// Whether a node is its whole graph: it reads the graph's inputs, and writes the graph's outputs.
inline bool is_whole_graph(const ort::Node& node) {
    constexpr const char* inputs[kWeights] = {"events.row", "events.unit", "steps", "state", "step"};
    constexpr const char* outputs[] = {"next.state", "next.step", "scores", "probabilities"};
    bool is_whole = true;
    for (size_t index = 0; index < kWeights; ++index) is_whole &= node.input_name(index) == inputs[index];
    for (size_t index = 0; index < 4; ++index) is_whole &= node.output_name(index) == outputs[index];
    return is_whole;
}

// The operator's signature.
template <class Self, class Kernel>
struct Signature : ort::Operator<Self, Kernel> {
    const char* operator_name() const { return "Network"; }

    size_t inputs() const { return kWeights + 1; }
    ort::Element type_of_input(size_t index) const {
        if (index == kWeights) return ort::Element::undefined;  // the weights are of two types
        return index == kState ? ort::Element::float32 : ort::Element::int64;
    }
    ort::Kind kind_of_input(size_t index) const {
        return index < kWeights ? ort::Kind::required : ort::Kind::variadic;
    }
    size_t outputs() const { return kSpikes + 1; }
    ort::Element type_of_output(size_t index) const { return index == 1 ? ort::Element::int64 : ort::Element::float32; }
    ort::Kind kind_of_output(size_t index) const { return index < kSpikes ? ort::Kind::required : ort::Kind::variadic; }
    int fewest_variadic_outputs() const { return 0; }
};

}  // namespace hetsyn
