// The GPU's blocks on a host: ``hetsyn::Network`` for the CPU, computed by block.hpp. The tests build it, to check the
// kernel's mathematics and its barriers without a GPU.
//
// A block is HETSYN_THREADS threads in warps of HETSYN_LANES. One thread is fast; several are real threads that meet
// at barriers, so that a missing one shows as a wrong bit, or in ThreadSanitizer.

#include <barrier>
#include <thread>

#include "block.hpp"
#include "denormals.hpp"
#include "reading.hpp"

#ifndef HETSYN_THREADS
#define HETSYN_THREADS 1
#define HETSYN_LANES 1
#endif

namespace {

namespace ort = hetsyn::ort;

constexpr int kThreads = HETSYN_THREADS, kLanes = HETSYN_LANES, kWarps = kThreads / kLanes;

struct Barriers {
    std::barrier<> all{kThreads};
    std::vector<std::unique_ptr<std::barrier<>>> warps;
    std::vector<unsigned char> votes = std::vector<unsigned char>(static_cast<size_t>(kThreads));

    Barriers() {
        for (int w = 0; w < kWarps; ++w) warps.push_back(std::make_unique<std::barrier<>>(kLanes));
    }
};

struct EmulatedBlock {
    int index;
    Barriers& barriers;

    int thread() const { return index; }
    int threads() const { return kThreads; }
    int lane() const { return index % kLanes; }
    int lanes() const { return kLanes; }
    int warp() const { return index / kLanes; }
    int warps() const { return kWarps; }
    void sync() const { barriers.all.arrive_and_wait(); }
    void sync_warp() const { barriers.warps[static_cast<size_t>(warp())]->arrive_and_wait(); }
    unsigned ballot(bool vote) const {
        barriers.votes[static_cast<size_t>(index)] = vote;
        sync_warp();
        unsigned bits = 0;
        for (int lane = 0; lane < kLanes; ++lane)
            bits |= static_cast<unsigned>(barriers.votes[static_cast<size_t>(warp() * kLanes + lane)]) << lane;
        sync_warp();
        return bits;
    }
};

template <bool takes_values>
class Kernel {
   public:
    explicit Kernel(const ort::Node& node)
        : network_(hetsyn::read_network(
              node, takes_values, [](const ort::Tensor& value, size_t) -> const void* { return value.data<unsigned char>(); })),
          block_network_(hetsyn::block_network(network_)) {}

    void compute(const ort::Context& context) {
        const hetsyn::Call call(context, network_, takes_values);
        hetsyn::BlockCall blocks = hetsyn::block_call(call);
        const hetsyn::Packing packing{call.streams, call.longest, call.events};
        std::vector<uint64_t> packed(packing.bytes() / 8 + 1);
        packing.write(call, reinterpret_cast<unsigned char*>(packed.data()));
        packing.point(blocks, reinterpret_cast<const unsigned char*>(packed.data()));
        // odd streams keep their state in shared memory, even ones in the output: both happen on GPUs
        Barriers barriers;
        const auto work = [&](int thread) {
            const hetsyn::DenormalsAreZero scope;
            const EmulatedBlock block{thread, barriers};
            for (int64_t b = 0; b < call.streams; ++b) {
                hetsyn::run_block(block, block_network_, blocks, b, memories_[b % 2].shared);
                block.sync();
            }
        };
        for (int with_state = 0; with_state < 2; ++with_state) {
            Memory& memory = memories_[with_state];
            memory.words.assign(hetsyn::SharedMemory::bytes(block_network_, kWarps, with_state) / 8 + 1, 0);
            memory.shared.lay_out(reinterpret_cast<unsigned char*>(memory.words.data()), block_network_, kWarps,
                                  with_state);
        }
        std::vector<std::thread> others;
        for (int thread = 1; thread < kThreads; ++thread) others.emplace_back(work, thread);
        work(0);
        for (std::thread& other : others) other.join();
    }

   private:
    struct Memory {
        std::vector<uint64_t> words;
        hetsyn::SharedMemory shared;
    };
    hetsyn::Network network_;
    hetsyn::BlockNetwork block_network_;
    Memory memories_[2];
};

struct NetworkOperator : hetsyn::Signature<NetworkOperator, Kernel<false>, false> {};
struct ValuesOperator : hetsyn::Signature<ValuesOperator, Kernel<true>, true> {};

}  // namespace

extern "C" __attribute__((visibility("default"))) ort::Status* RegisterCustomOps(ort::SessionOptions* options,
                                                                                 const ort::ApiBase* base) {
    return ort::register_operators<NetworkOperator, ValuesOperator>(options, base);
}

extern "C" __attribute__((visibility("default"))) int hetsyn_format() { return hetsyn::kFormat; }
