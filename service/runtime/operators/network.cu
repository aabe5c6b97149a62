// ``hetsyn::Network`` and ``hetsyn::ValuesNetwork`` for ONNX Runtime's CUDA provider, and functions that keep sessions' states on the GPU.
//
// One launch a call: a block runs a stream over all steps of its chunk (block.hpp). The small integer inputs are
// declared to be on the host, where the shapes and the checks need them anyway; they travel in one copy, packed. The
// weights are the constants that ONNX Runtime has on the GPU. No contraction of a multiplication and an addition
// (--fmad=false) and denormal numbers count as zero (-ftz=true), as in the CPU's operator.
//
// The second part is plain C for ctypes (service/runtime/cuda.py): memory, copies of rows, and a stream that ONNX
// Runtime is told to use, so that copies and calls are in order without any waiting in between.

#include <cuda_runtime.h>

#include <cstring>

#include "block.hpp"
#include "reading.hpp"

namespace {

namespace ort = hetsyn::ort;

constexpr int kLanes = 32;
constexpr int kMaxThreads = 256;
constexpr int kMinBlocksPerProcessor = 3;  // at least: what the registers allow without spilling (ptxas), not measured

void check(cudaError_t code, const char* what) {
    if (code != cudaSuccess) hetsyn::fail(std::string(what) + ": " + cudaGetErrorString(code));
}

struct CudaBlock {
    __device__ int thread() const { return static_cast<int>(threadIdx.x); }
    __device__ int threads() const { return static_cast<int>(blockDim.x); }
    __device__ int lane() const { return thread() % kLanes; }
    __device__ int lanes() const { return kLanes; }
    __device__ int warp() const { return thread() / kLanes; }
    __device__ int warps() const { return threads() / kLanes; }
    __device__ void sync() const { __syncthreads(); }
    __device__ void sync_warp() const { __syncwarp(); }
    __device__ unsigned ballot(bool vote) const { return __ballot_sync(0xffffffffu, vote); }
};

__global__ void __launch_bounds__(kMaxThreads, kMinBlocksPerProcessor)
    run_streams(const __grid_constant__ hetsyn::BlockNetwork network, const __grid_constant__ hetsyn::BlockCall call,
                bool with_state) {
    extern __shared__ __align__(16) unsigned char shared[];
    const CudaBlock block;
    hetsyn::SharedMemory layout;
    layout.lay_out(shared, network, block.warps(), with_state);
    hetsyn::run_block(block, network, call, static_cast<int64_t>(blockIdx.x), layout);
}

// Device memory of one call, allocated and freed in the order of the stream.
class AsyncBuffer {
   public:
    AsyncBuffer(size_t bytes, cudaStream_t stream) : stream_(stream) {
        check(cudaMallocAsync(&at_, bytes, stream), "no memory for a call's events");
    }
    AsyncBuffer(const AsyncBuffer&) = delete;
    AsyncBuffer& operator=(const AsyncBuffer&) = delete;
    ~AsyncBuffer() { cudaFreeAsync(at_, stream_); }
    unsigned char* at() const { return static_cast<unsigned char*>(at_); }

   private:
    void* at_ = nullptr;
    cudaStream_t stream_;
};

template <bool takes_values>
class Kernel {
   public:
    explicit Kernel(const ort::Node& node)
        : network_(hetsyn::read_network(
              node, takes_values, [this](const ort::Tensor& value, size_t bytes) { return on_device(value, bytes); })) {
        if (network_.layers.size() > static_cast<size_t>(hetsyn::kMaxLayers))
            hetsyn::fail("more than " + std::to_string(hetsyn::kMaxLayers) + " layers");
        block_network_ = hetsyn::block_network(network_);
        int64_t width = 1;
        for (const hetsyn::Layer& layer : network_.layers)
            width = std::max(width, layer.neurons * (layer.bank ? layer.bank : layer.per_synapse ? kLanes : 1));
        threads_ = static_cast<int>(std::min<int64_t>(kMaxThreads, (width + kLanes - 1) / kLanes * kLanes));
        int device = 0, most = 0;
        check(cudaGetDevice(&device), "no device");
        check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "shared memory");
        with_state_ = hetsyn::SharedMemory::bytes(block_network_, threads_ / kLanes, true) <= static_cast<size_t>(most);
        shared_ = hetsyn::SharedMemory::bytes(block_network_, threads_ / kLanes, with_state_);
        if (shared_ > static_cast<size_t>(most))
            hetsyn::fail("a layer is too wide for a block: " + std::to_string(shared_) + " bytes of shared memory, " +
                         std::to_string(most) + " are there");
        // for all networks of the process: the launch says how much it takes of it
        check(cudaFuncSetAttribute(run_streams, cudaFuncAttributeMaxDynamicSharedMemorySize, most), "shared memory");
    }
    Kernel(const Kernel&) = delete;
    Kernel& operator=(const Kernel&) = delete;
    void compute(const ort::Context& context) const {
        const hetsyn::Call call(context, network_, takes_values);
        const auto stream = static_cast<cudaStream_t>(context.gpu_stream());
        if (call.events > INT32_MAX || call.streams * call.longest >= INT32_MAX)
            hetsyn::fail("the batch is too large: cut it");
        const hetsyn::Packing packing{call.streams, call.longest, call.events};
        thread_local std::vector<uint64_t> packed;
        packed.resize(packing.bytes() / 8 + 1);
        packing.write(call, reinterpret_cast<unsigned char*>(packed.data()));
        const AsyncBuffer buffer(packing.bytes(), stream);
        // pageable memory has been read when cudaMemcpyAsync returns, so the next call may overwrite it
        check(cudaMemcpyAsync(buffer.at(), packed.data(), packing.bytes(), cudaMemcpyHostToDevice, stream), "events");
        hetsyn::BlockCall blocks = hetsyn::block_call(call);
        packing.point(blocks, buffer.at());
        run_streams<<<static_cast<unsigned>(call.streams), threads_, shared_, stream>>>(block_network_, blocks,
                                                                                        with_state_);
        check(cudaGetLastError(), "launch");
    }

   private:
    const void* on_device(const ort::Tensor& value, size_t bytes) {
        const void* values = value.data<unsigned char>();
        if (value.device() == ort::Device::gpu) return values;
        void* copy = nullptr;
        check(cudaMalloc(&copy, bytes), "no memory for weights");
        copies_.emplace_back(copy);
        check(cudaMemcpy(copy, values, bytes, cudaMemcpyHostToDevice), "weights");
        return copy;
    }

    struct Release {
        void operator()(void* address) const { cudaFree(address); }
    };
    std::vector<std::unique_ptr<void, Release>> copies_;  // before the network, whose reading fills it
    hetsyn::Network network_;
    hetsyn::BlockNetwork block_network_;
    int threads_ = 0;
    size_t shared_ = 0;
    bool with_state_ = false;
};

// Values are read by the blocks, as state and weights are; what shapes and checks need is on the host.
template <class Self, bool takes_values>
struct OnDevice : hetsyn::Signature<Self, Kernel<takes_values>, takes_values> {
    const char* provider_name() const { return "CUDAExecutionProvider"; }
    ort::Memory memory_of_input(size_t index) const {
        constexpr hetsyn::Places at = hetsyn::places(takes_values);
        const bool is_read_by_blocks = index >= at.weights || index == at.state || (takes_values && index == 0);
        return is_read_by_blocks ? ort::Memory::of_provider : ort::Memory::cpu_input;
    }
};
struct NetworkOperator : OnDevice<NetworkOperator, false> {};
struct ValuesOperator : OnDevice<ValuesOperator, true> {};

// Rows from anywhere to anywhere; their addresses travel as the kernel's arguments.
constexpr int kRowsPerLaunch = 200;
struct Rows {
    const float* from[kRowsPerLaunch];
    float* to[kRowsPerLaunch];
};
__global__ void copy_rows(const __grid_constant__ Rows rows, int64_t words) {
    const float* const from = rows.from[blockIdx.x];
    float* const to = rows.to[blockIdx.x];
    for (int64_t w = threadIdx.x; w < words; w += blockDim.x) to[w] = from[w];
}

// Copies, and waits until the copy is done.
int copy(int device, void* stream, void* to, const void* from, int64_t bytes, cudaMemcpyKind way) {
    const auto on = static_cast<cudaStream_t>(stream);
    cudaError_t code = cudaSetDevice(device);
    if (code == cudaSuccess) code = cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), way, on);
    return code == cudaSuccess ? cudaStreamSynchronize(on) : code;
}

}  // namespace

#define HETSYN_API extern "C" __attribute__((visibility("default")))

HETSYN_API ort::Status* RegisterCustomOps(ort::SessionOptions* options, const ort::ApiBase* base) {
    return ort::register_operators<NetworkOperator, ValuesOperator>(options, base);
}

HETSYN_API int hetsyn_format() { return hetsyn::kFormat; }

// 0, or an error of the CUDA runtime.
HETSYN_API const char* hetsyn_cuda_explain(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

HETSYN_API int hetsyn_cuda_open(int device, void** stream, char* name, int name_bytes) {
    cudaDeviceProp properties;
    cudaError_t code = cudaGetDeviceProperties(&properties, device);
    if (code == cudaSuccess) code = cudaSetDevice(device);
    if (code == cudaSuccess)
        code = cudaStreamCreateWithFlags(reinterpret_cast<cudaStream_t*>(stream), cudaStreamNonBlocking);
    if (code != cudaSuccess) return code;
    std::strncpy(name, properties.name, static_cast<size_t>(name_bytes) - 1);
    name[name_bytes - 1] = 0;
    return cudaSuccess;
}

HETSYN_API int hetsyn_cuda_close(void* stream) { return cudaStreamDestroy(static_cast<cudaStream_t>(stream)); }

HETSYN_API int hetsyn_cuda_memory(int device, int64_t* free_bytes, int64_t* all_bytes) {
    size_t free = 0, all = 0;
    cudaError_t code = cudaSetDevice(device);
    if (code == cudaSuccess) code = cudaMemGetInfo(&free, &all);
    *free_bytes = static_cast<int64_t>(free);
    *all_bytes = static_cast<int64_t>(all);
    return code;
}

HETSYN_API int hetsyn_cuda_allocate(int device, int64_t bytes, void** address) {
    cudaError_t code = cudaSetDevice(device);
    if (code == cudaSuccess) code = cudaMalloc(address, static_cast<size_t>(bytes));
    if (code == cudaErrorMemoryAllocation) cudaGetLastError();  // or the next launch would report it
    return code;
}

HETSYN_API int hetsyn_cuda_release(void* address) { return cudaFree(address); }

HETSYN_API int hetsyn_cuda_upload(int device, void* stream, void* to, const void* from, int64_t bytes) {
    return copy(device, stream, to, from, bytes, cudaMemcpyHostToDevice);
}

HETSYN_API int hetsyn_cuda_download(int device, void* stream, void* to, const void* from, int64_t bytes) {
    return copy(device, stream, to, from, bytes, cudaMemcpyDeviceToHost);
}

// Does not wait: the stream's next work comes after it.
HETSYN_API int hetsyn_cuda_copy_rows(int device, void* stream, const uint64_t* from, const uint64_t* to, int64_t count,
                                     int64_t words) {
    const cudaError_t code = cudaSetDevice(device);
    if (code != cudaSuccess) return code;
    for (int64_t begin = 0; begin < count; begin += kRowsPerLaunch) {
        const int64_t here = std::min<int64_t>(kRowsPerLaunch, count - begin);
        Rows rows;
        for (int64_t i = 0; i < here; ++i) {
            rows.from[i] = reinterpret_cast<const float*>(from[begin + i]);
            rows.to[i] = reinterpret_cast<float*>(to[begin + i]);
        }
        copy_rows<<<static_cast<unsigned>(here), 256, 0, static_cast<cudaStream_t>(stream)>>>(rows, words);
    }
    return cudaGetLastError();
}
