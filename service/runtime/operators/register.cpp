// ONNX Runtime's operator ``hetsyn::Network``: a network over a batch of chunks, each stream in a loop of its own.
//
// Its definition is the function of the same name in the graph that holds it (export/network_graph.py), which ONNX
// Runtime runs where this library is not registered. A stream's result depends neither on its batch mates nor on
// how its steps are cut into chunks, because its loop does not.
//
//     inputs   events.row, events.unit, steps, state, step (service/contract/graph_io.py), then the weights of each layer:
//              bank    weight_in int16, weight_rec? int16, scale, bias?, decays, reset_decay?
//              exact   weight_in, decay_in, bias_in?, weight_rec?, decay_rec?, bias_rec?, reset_decay?
//     outputs  next.state, next.step, scores, probabilities, readout, spikes of each hidden layer

#include "reading.hpp"

#include "denormals.hpp"
#include "encoder_operator.hpp"
#include "network.hpp"

namespace {

using hetsyn::Call;
using hetsyn::Network;

void run_stream(const Network& network, const Call& call, int64_t b, hetsyn::Scratch& scratch) {
    const int64_t first_row = b * call.longest;
    const int64_t* begin = std::lower_bound(call.row, call.row + call.events, first_row);
    const int64_t* end = std::lower_bound(begin, call.row + call.events, first_row + call.longest);
    float* next_state = call.next_state + b * call.words;
    std::memcpy(next_state, call.state + b * call.words, sizeof(float) * static_cast<size_t>(call.words));
    const int64_t outputs = network.outputs();
    hetsyn::Chunk chunk{call.steps[b],
                        begin,
                        call.unit + (begin - call.row),
                        end - begin,
                        first_row,
                        call.scores + b * outputs,
                        call.probabilities + b * outputs,
                        call.readout + first_row * outputs,
                        {}};
    for (size_t l = 0; l < call.spikes.size(); ++l)
        chunk.spikes.push_back(call.spikes[l] + first_row * network.layers[l].neurons);
    int64_t step = call.step[b];
    hetsyn::run_stream(network, chunk, next_state, step, scratch);
    call.next_step[b] = step;
}

class Kernel {
   public:
    explicit Kernel(const OrtKernelInfo* info)
        : network_(hetsyn::read_network(
              info, [](const Ort::ConstValue& value, size_t) { return value.GetTensorRawData(); })) {
        for (hetsyn::Layer& layer : network_.layers) {
            if (layer.bank || !layer.per_synapse) continue;
            layer.rows_in = by_neuron(layer.weight_in, layer.inputs, layer.neurons);
            if (layer.recurrent()) layer.rows_rec = by_neuron(layer.weight_rec, layer.neurons, layer.neurons);
        }
    }

    OrtStatusPtr ComputeV2(OrtKernelContext* raw) try {
        const Ort::KernelContext context(raw);
        const Call call(context, network_);
        // a step of one stream is a few microseconds: threads for less cost more than they give
        constexpr int64_t worth_a_thread = 32;
        const int64_t B = call.streams, shares = std::min(B, B * call.longest / worth_a_thread);
        if (shares < 2) {
            const hetsyn::DenormalsAreZero scope;
            hetsyn::Scratch scratch(network_);
            for (int64_t b = 0; b < B; ++b) run_stream(network_, call, b, scratch);
        } else {
            struct Shared {
                const Call& call;
                const Network& network;
                int64_t shares;
            } shared{call, network_, shares};
            context.ParallelFor(
                [](void* data, size_t share) {
                    const Shared& all = *static_cast<Shared*>(data);
                    const hetsyn::DenormalsAreZero scope;
                    hetsyn::Scratch scratch(all.network);
                    const int64_t index = static_cast<int64_t>(share), streams = all.call.streams;
                    for (int64_t b = streams * index / all.shares; b < streams * (index + 1) / all.shares; ++b)
                        run_stream(all.network, all.call, b, scratch);
                },
                static_cast<size_t>(shares), 0, &shared);
        }
        return nullptr;
    } catch (const std::exception& error) {
        return Ort::Status(error.what(), ORT_INVALID_ARGUMENT).release();
    }

   private:
    // weights [inputs, neurons] as [neurons, inputs], kept as long as the kernel
    const float* by_neuron(const float* weight, int64_t inputs, int64_t neurons) {
        std::vector<float>& rows = rows_.emplace_back(static_cast<size_t>(neurons * inputs));
        for (int64_t n = 0; n < neurons; ++n)
            for (int64_t i = 0; i < inputs; ++i) rows[static_cast<size_t>(n * inputs + i)] = weight[i * neurons + n];
        return rows.data();
    }

    Network network_;
    std::vector<std::vector<float>> rows_;  // a vector that moves keeps its values in place
};

struct NetworkOperator : hetsyn::Signature<NetworkOperator, Kernel> {};

}  // namespace

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
    return hetsyn::register_operators<NetworkOperator, hetsyn::EncoderOperator>(options, base);
}
