// The part of ONNX Runtime's C ABI that our operators use, so that no header of ONNX Runtime is needed to build them.
//
// A library gets a table of functions (``Api``) and hands in tables of its own (``CustomOperator``). ONNX Runtime
// promises that no function of the table ever moves; the numbers in the assertions below are the positions.
// tests/support/networks/ort_abi_check.cpp compares them, and every layout and constant, with ONNX Runtime's own header.

#pragma once

#include <cstddef>
#include <cstdint>

namespace hetsyn::ort {

constexpr uint32_t kVersion = 17;  // of the ABI; every ONNX Runtime since has it too

// Known by address only
struct Status;
struct SessionOptions;
struct Domain;
struct KernelInfo;
struct KernelContext;
struct Value;
struct TensorInfo;

enum class Code : int32_t { fail = 1, invalid_argument = 2, not_implemented = 9, invalid_graph = 10 };
enum class Element : int32_t { undefined = 0, float32 = 1, int16 = 5, int64 = 7, float64 = 11 };
enum class Kind : int32_t { required = 0, optional = 1, variadic = 2 };
enum class Memory : int32_t { of_provider = 0 };

struct CustomOperator;

// Functions that return a Status return null for success.
struct Api {
    Status* (*create_status)(Code code, const char* message);
    const void* skipped_1[1];
    const char* (*get_error_message)(const Status* status);
    const void* skipped_3[23];
    Status* (*create_domain)(const char* name, Domain** domain);
    Status* (*domain_add)(Domain* domain, const CustomOperator* custom);
    Status* (*add_domain)(SessionOptions* options, Domain* domain);
    const void* skipped_29[22];
    Status* (*get_tensor_data)(Value* value, void** data);
    const void* skipped_52[8];
    Status* (*get_element_type)(const TensorInfo* info, Element* type);
    const void* skipped_61[3];
    Status* (*get_element_count)(const TensorInfo* info, size_t* count);
    Status* (*get_tensor_info)(const Value* value, TensorInfo** info);
    const void* skipped_66[19];
    Status* (*get_float)(const KernelInfo* info, const char* name, float* value);
    Status* (*get_integer)(const KernelInfo* info, const char* name, int64_t* value);
    Status* (*get_string)(const KernelInfo* info, const char* name, char* value, size_t* size);
    const void* skipped_88[2];
    Status* (*get_input)(const KernelContext* context, size_t index, const Value** value);
    Status* (*get_output)(KernelContext* context, size_t index, const int64_t* shape, size_t axes, Value** value);
    const void* skipped_92[1];
    void (*release_status)(Status* status);
    const void* skipped_94[5];
    void (*release_tensor_info)(TensorInfo* info);
    const void* skipped_100[63];
    Status* (*get_integers)(const KernelInfo* info, const char* name, int64_t* values, size_t* size);
    const void* skipped_164[66];
    Status* (*get_input_count)(const KernelInfo* info, size_t* count);
    const void* skipped_231[1];
    Status* (*get_input_name)(const KernelInfo* info, size_t index, char* name, size_t* size);
    Status* (*get_output_name)(const KernelInfo* info, size_t index, char* name, size_t* size);
    const void* skipped_234[15];
    Status* (*get_constant_input)(const KernelInfo* info, size_t index, int* is_constant, const Value** value);
    const void* skipped_250[24];
    Status* (*parallel_for)(const KernelContext* context, void (*work)(void* data, size_t share), size_t shares,
                            size_t batches, void* data);
};

constexpr bool at(size_t offset, size_t position) { return offset == position * sizeof(void*); }
static_assert(at(offsetof(Api, create_status), 0));
static_assert(at(offsetof(Api, get_error_message), 2));
static_assert(at(offsetof(Api, create_domain), 26));
static_assert(at(offsetof(Api, domain_add), 27));
static_assert(at(offsetof(Api, add_domain), 28));
static_assert(at(offsetof(Api, get_tensor_data), 51));
static_assert(at(offsetof(Api, get_element_type), 60));
static_assert(at(offsetof(Api, get_element_count), 64));
static_assert(at(offsetof(Api, get_tensor_info), 65));
static_assert(at(offsetof(Api, get_float), 85));
static_assert(at(offsetof(Api, get_integer), 86));
static_assert(at(offsetof(Api, get_string), 87));
static_assert(at(offsetof(Api, get_input), 90));
static_assert(at(offsetof(Api, get_output), 91));
static_assert(at(offsetof(Api, release_status), 93));
static_assert(at(offsetof(Api, release_tensor_info), 99));
static_assert(at(offsetof(Api, get_integers), 163));
static_assert(at(offsetof(Api, get_input_count), 230));
static_assert(at(offsetof(Api, get_input_name), 232));
static_assert(at(offsetof(Api, get_output_name), 233));
static_assert(at(offsetof(Api, get_constant_input), 249));
static_assert(at(offsetof(Api, parallel_for), 274));

struct ApiBase {
    const Api* (*get_api)(uint32_t version);  // null for a version that this ONNX Runtime does not know
    const char* (*get_version)();
};

// An operator, as ONNX Runtime reads it. Functions without a comment answer a question about the signature.
struct CustomOperator {
    uint32_t version;  // of the ABI; the functions below a later version are not read
    void* (*create_kernel)(const CustomOperator*, const Api*, const KernelInfo*);  // null: the second version is used
    const char* (*name)(const CustomOperator*);
    const char* (*provider)(const CustomOperator*);  // null: the CPU's
    Element (*input_type)(const CustomOperator*, size_t index);
    size_t (*input_count)(const CustomOperator*);
    Element (*output_type)(const CustomOperator*, size_t index);
    size_t (*output_count)(const CustomOperator*);
    void (*compute)(void* kernel, KernelContext*);  // null: the second version is used
    void (*destroy_kernel)(void* kernel);
    Kind (*input_kind)(const CustomOperator*, size_t index);
    Kind (*output_kind)(const CustomOperator*, size_t index);
    Memory (*input_memory)(const CustomOperator*, size_t index);
    int (*variadic_inputs_at_least)(const CustomOperator*);
    int (*variadic_inputs_alike)(const CustomOperator*);  // of one type
    int (*variadic_outputs_at_least)(const CustomOperator*);
    int (*variadic_outputs_alike)(const CustomOperator*);
    Status* (*create_kernel_2)(const CustomOperator*, const Api*, const KernelInfo*, void** kernel);
    Status* (*compute_2)(void* kernel, KernelContext*);
    const void* infer_shapes;  // null: ONNX Runtime does not know the shapes before a call
    int (*first_version)(const CustomOperator*);
    int (*last_version)(const CustomOperator*);
    const void* later[4];  // of versions 18 and later
};
static_assert(sizeof(CustomOperator) == 26 * sizeof(void*));

}  // namespace hetsyn::ort
