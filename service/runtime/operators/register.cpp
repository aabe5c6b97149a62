// ONNX Runtime's operator ``hetsyn::Network``: HetSyn and LIF, over a batch of chunks, each stream in a loop of its own.
//
// The definition is the function of the same name in the graph that holds it (export/graphs/network_graph.py), which ONNX
// Runtime runs where this library is not registered. A stream's result depends neither on its batch mates nor on
// how its steps are cut into chunks, because its loop does not.
//
//     inputs   events.row, events.unit, steps, state, step (service/contract/graph_io.py), then the weights of each layer:
//              bank      weight_in int16, weight_rec? int16, scale, bias?, decays, kappa?, threshold?
//              a neuron  weight_in, decay_in?, bias_in?, weight_rec?, decay_rec?, bias_rec?, kappa?, threshold?
//     outputs  next.state, next.step, scores, probabilities, readout, spikes of each hidden layer

#include <atomic>
#include <utility>

#include "array.hpp"
#include "denormals.hpp"
#include "encoder_operator.hpp"
#include "kernels.hpp"
#include "reading.hpp"

namespace {

using hetsyn::Array;
using hetsyn::Call;
using hetsyn::Network;
namespace ort = hetsyn::ort;

class Kernel {
   public:
    explicit Kernel(const ort::Node& node) : network_(hetsyn::read_network(node)) {
        if (hetsyn::is_whole_graph(node)) read = &network_;
    }
    Kernel(const Kernel&) = delete;
    Kernel& operator=(const Kernel&) = delete;
    ~Kernel() {
        if (read == &network_) read = nullptr;
    }

    void compute(const ort::Context& context) const {
        const Call call(context, network_);
        // a step of one stream is a few microseconds: threads for less cost more than they give
        constexpr int64_t worth_a_thread = 32;
        const int64_t B = call.streams, shares = std::min(B, B * call.longest / worth_a_thread);
        if (shares < 2) {
            hetsyn::kernels().run_streams(network_, call, 0, B);
            return;
        }
        struct Shared {
            const Call& call;
            const Network& network;
            int64_t shares;
            std::atomic<bool> failed{false};
        } shared{call, network_, shares};
        context.parallel_for(
            [](void* data, size_t share) {
                Shared& all = *static_cast<Shared*>(data);
                const int64_t index = static_cast<int64_t>(share), streams = all.call.streams;
                try {
                    hetsyn::kernels().run_streams(all.network, all.call, streams * index / all.shares,
                                                  streams * (index + 1) / all.shares);
                } catch (...) {  // an exception would leave a thread of ONNX Runtime's and end the process
                    all.failed = true;
                }
            },
            static_cast<size_t>(shares), &shared);
        if (shared.failed) hetsyn::fail("no memory for the batch");
    }

    // The last network that this thread has read as a whole graph.
    static inline thread_local const Network* read = nullptr;

   private:
    Network network_;
};

struct NetworkOperator : hetsyn::Signature<NetworkOperator, Kernel> {};

}  // namespace

#define HETSYN_EXPORTED extern "C" __attribute__((visibility("default")))

HETSYN_EXPORTED ort::Status* RegisterCustomOps(ort::SessionOptions* options, const ort::ApiBase* base) {
    if (!hetsyn::cpu_level_name())
        return base->get_api(1)->create_status(ort::Code::not_implemented, "this processor is older than x86-64-v2");
    Kernel::read = nullptr;  // what an earlier session has read is not the next one's
    return ort::register_operators<NetworkOperator, hetsyn::EncoderOperator>(options, base);
}

// The version of the loops that this processor runs: v2, v3, v4 or generic; null where it runs none.
HETSYN_EXPORTED const char* hetsyn_kernel() { return hetsyn::cpu_level_name(); }

// For plain ONNX, which does not know of denormal numbers.
HETSYN_EXPORTED uint64_t hetsyn_flush_denormals() { return hetsyn::flush_denormals(); }
HETSYN_EXPORTED void hetsyn_restore_denormals(uint64_t before) { hetsyn::restore_denormals(before); }

HETSYN_EXPORTED int hetsyn_format() { return hetsyn::kFormat; }

// A network without ONNX Runtime around it (service/runtime/onnx.py). It lives as long as the session that
// has read it.
HETSYN_EXPORTED const Network* hetsyn_take_network() { return std::exchange(Kernel::read, nullptr); }
HETSYN_EXPORTED int64_t hetsyn_words(const Network* network) { return network->words(); }
HETSYN_EXPORTED int64_t hetsyn_outputs(const Network* network) { return network->outputs(); }

// Runs a batch. 1: all its numbers are in range, 0: they may not be, -1: ONNX Runtime would fail, and say why.
HETSYN_EXPORTED int hetsyn_run(const Network* network, const Array* row, const Array* unit, const Array* steps,
                               const Array* step, const Array* state, const Array* next_state, const Array* next_step,
                               const Array* scores, const Array* probabilities) try {
    const int64_t B = steps->length(), E = row->length(), W = network->words(), O = network->outputs();
    hetsyn::Batch batch{};
    batch.streams = B;
    batch.events = E;
    batch.words = W;
    batch.row = row->data<int64_t>({E});
    batch.unit = unit->data<int64_t>({E});
    batch.steps = steps->data<int64_t>({B});
    batch.step = step->data<int64_t>({B});
    batch.state = state->data<float>({B, W});
    batch.next_state = next_state->data<float>({B, W});
    batch.next_step = next_step->data<int64_t>({B});
    batch.scores = scores->data<float>({B, O});
    batch.probabilities = probabilities->data<float>({B, O});
    batch.longest = hetsyn::check(batch, *network);
    hetsyn::kernels().run_streams(*network, batch, 0, B);
    return hetsyn::kernels().is_sound(*network, batch);
} catch (const std::exception&) {
    return -1;
}
