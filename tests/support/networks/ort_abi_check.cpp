// Our declaration of ONNX Runtime's ABI against ONNX Runtime's own header. It compiles if they agree.

#include <onnxruntime_c_api.h>

#include "ort_abi.hpp"

namespace ort = hetsyn::ort;

#define SAME_FUNCTION(OURS, THEIRS) static_assert(offsetof(ort::Api, OURS) == offsetof(OrtApi, THEIRS), #THEIRS)
SAME_FUNCTION(create_status, CreateStatus);
SAME_FUNCTION(get_error_message, GetErrorMessage);
SAME_FUNCTION(create_domain, CreateCustomOpDomain);
SAME_FUNCTION(domain_add, CustomOpDomain_Add);
SAME_FUNCTION(add_domain, AddCustomOpDomain);
SAME_FUNCTION(get_tensor_data, GetTensorMutableData);
SAME_FUNCTION(get_element_type, GetTensorElementType);
SAME_FUNCTION(get_element_count, GetTensorShapeElementCount);
SAME_FUNCTION(get_tensor_info, GetTensorTypeAndShape);
SAME_FUNCTION(get_float, KernelInfoGetAttribute_float);
SAME_FUNCTION(get_integer, KernelInfoGetAttribute_int64);
SAME_FUNCTION(get_string, KernelInfoGetAttribute_string);
SAME_FUNCTION(get_input, KernelContext_GetInput);
SAME_FUNCTION(get_output, KernelContext_GetOutput);
SAME_FUNCTION(release_status, ReleaseStatus);
SAME_FUNCTION(release_tensor_info, ReleaseTensorTypeAndShapeInfo);
SAME_FUNCTION(get_integers, KernelInfoGetAttributeArray_int64);
SAME_FUNCTION(get_input_count, KernelInfo_GetInputCount);
SAME_FUNCTION(get_input_name, KernelInfo_GetInputName);
SAME_FUNCTION(get_output_name, KernelInfo_GetOutputName);
SAME_FUNCTION(get_constant_input, KernelInfoGetConstantInput_tensor);
SAME_FUNCTION(parallel_for, KernelContext_ParallelFor);

static_assert(offsetof(ort::ApiBase, get_api) == offsetof(OrtApiBase, GetApi));
static_assert(offsetof(ort::ApiBase, get_version) == offsetof(OrtApiBase, GetVersionString));
static_assert(ort::kVersion <= ORT_API_VERSION);

#define SAME_WORD(OURS, THEIRS) \
    static_assert(offsetof(ort::CustomOperator, OURS) == offsetof(OrtCustomOp, THEIRS), #THEIRS)
SAME_WORD(version, version);
SAME_WORD(create_kernel, CreateKernel);
SAME_WORD(name, GetName);
SAME_WORD(provider, GetExecutionProviderType);
SAME_WORD(input_type, GetInputType);
SAME_WORD(input_count, GetInputTypeCount);
SAME_WORD(output_type, GetOutputType);
SAME_WORD(output_count, GetOutputTypeCount);
SAME_WORD(compute, KernelCompute);
SAME_WORD(destroy_kernel, KernelDestroy);
SAME_WORD(input_kind, GetInputCharacteristic);
SAME_WORD(output_kind, GetOutputCharacteristic);
SAME_WORD(input_memory, GetInputMemoryType);
SAME_WORD(variadic_inputs_at_least, GetVariadicInputMinArity);
SAME_WORD(variadic_inputs_alike, GetVariadicInputHomogeneity);
SAME_WORD(variadic_outputs_at_least, GetVariadicOutputMinArity);
SAME_WORD(variadic_outputs_alike, GetVariadicOutputHomogeneity);
SAME_WORD(create_kernel_2, CreateKernelV2);
SAME_WORD(compute_2, KernelComputeV2);
SAME_WORD(infer_shapes, InferOutputShapeFn);
SAME_WORD(first_version, GetStartVersion);
SAME_WORD(last_version, GetEndVersion);
SAME_WORD(later, GetMayInplace);

#define SAME_VALUE(OURS, THEIRS)                                                       \
    static_assert(static_cast<long>(ort::OURS) == static_cast<long>(THEIRS), #THEIRS); \
    static_assert(sizeof(ort::OURS) == sizeof(THEIRS), #THEIRS)
SAME_VALUE(Code::fail, ORT_FAIL);
SAME_VALUE(Code::invalid_argument, ORT_INVALID_ARGUMENT);
SAME_VALUE(Code::not_implemented, ORT_NOT_IMPLEMENTED);
SAME_VALUE(Code::invalid_graph, ORT_INVALID_GRAPH);
SAME_VALUE(Element::undefined, ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED);
SAME_VALUE(Element::float32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
SAME_VALUE(Element::int16, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16);
SAME_VALUE(Element::int64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
SAME_VALUE(Element::float64, ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE);
SAME_VALUE(Kind::required, INPUT_OUTPUT_REQUIRED);
SAME_VALUE(Kind::optional, INPUT_OUTPUT_OPTIONAL);
SAME_VALUE(Kind::variadic, INPUT_OUTPUT_VARIADIC);
SAME_VALUE(Memory::of_provider, OrtMemTypeDefault);
