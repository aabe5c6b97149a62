// ONNX Runtime's C ABI (ort_abi.hpp) for C++: errors are exceptions, and an operator is a class.

#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "ort_abi.hpp"

namespace hetsyn::ort {

// Set when the library is registered; the same table each time.
inline std::atomic<const Api*> registered_api{nullptr};
inline const Api& api() { return *registered_api.load(std::memory_order_relaxed); }

inline void check(Status* status) {
    if (!status) return;
    const std::string message = api().get_error_message(status);
    api().release_status(status);
    throw std::runtime_error(message);
}

// A tensor that ONNX Runtime owns.
class Tensor {
   public:
    explicit Tensor(const Value* value) : value_(value) {}

    int64_t count() const {
        size_t count = 0;
        check(api().get_element_count(info().get(), &count));
        return static_cast<int64_t>(count);
    }
    Element type() const {
        Element type = Element::undefined;
        check(api().get_element_type(info().get(), &type));
        return type;
    }
    template <typename T>
    const T* data() const {
        void* data = nullptr;
        check(api().get_tensor_data(const_cast<Value*>(value_), &data));  // the ABI has one function for both
        return static_cast<const T*>(data);
    }

   private:
    struct Release {
        void operator()(TensorInfo* info) const { api().release_tensor_info(info); }
    };
    std::unique_ptr<TensorInfo, Release> info() const {
        TensorInfo* info = nullptr;
        check(api().get_tensor_info(value_, &info));
        return std::unique_ptr<TensorInfo, Release>(info);
    }

    const Value* value_;
};

// A node: its attributes and constant inputs.
class Node {
   public:
    explicit Node(const KernelInfo* info) : info_(info) {}

    float real(const char* name) const {
        float value = 0.0f;
        check(api().get_float(info_, name, &value));
        return value;
    }
    int64_t integer(const char* name) const {
        int64_t value = 0;
        check(api().get_integer(info_, name, &value));
        return value;
    }
    // The same, or ``otherwise`` where the node has no such attribute
    int64_t integer_or(const char* name, int64_t otherwise) const {
        int64_t value = 0;
        Status* const missing = api().get_integer(info_, name, &value);
        if (!missing) return value;
        api().release_status(missing);
        return otherwise;
    }
    std::vector<int64_t> integers(const char* name) const {
        size_t size = 0;
        check(api().get_integers(info_, name, nullptr, &size));
        std::vector<int64_t> values(size);
        if (size) check(api().get_integers(info_, name, values.data(), &size));
        return values;
    }
    std::string text(const char* name) const { return read(api().get_string, name); }
    std::string input_name(size_t index) const { return read(api().get_input_name, index); }
    std::string output_name(size_t index) const { return read(api().get_output_name, index); }
    size_t input_count() const {
        size_t count = 0;
        check(api().get_input_count(info_, &count));
        return count;
    }
    bool is_constant(size_t index) const { return constant_value(index) != nullptr; }
    Tensor constant(size_t index) const { return Tensor(constant_value(index)); }

   private:
    template <class Get, class Key>
    std::string read(Get get, Key key) const {
        size_t size = 0;  // with the zero at its end
        check(get(info_, key, nullptr, &size));
        std::string value(size, '\0');
        if (size) check(get(info_, key, value.data(), &size));
        return value.c_str();
    }
    const Value* constant_value(size_t index) const {
        int is_constant = 0;
        const Value* value = nullptr;
        check(api().get_constant_input(info_, index, &is_constant, &value));
        return is_constant ? value : nullptr;
    }

    const KernelInfo* info_;
};

// One call of an operator.
class Context {
   public:
    explicit Context(KernelContext* context) : context_(context) {}

    Tensor input(size_t index) const {
        const Value* value = nullptr;
        check(api().get_input(context_, index, &value));
        return Tensor(value);
    }
    // Memory for an output of this shape
    template <typename T>
    T* output(size_t index, std::initializer_list<int64_t> shape) const {
        Value* value = nullptr;
        check(api().get_output(context_, index, shape.begin(), shape.size(), &value));
        void* data = nullptr;
        check(api().get_tensor_data(value, &data));
        return static_cast<T*>(data);
    }
    // Runs work(data, 0) to work(data, shares - 1) on the session's threads. ``work`` must not throw: the threads are
    // ONNX Runtime's, and nothing there catches.
    void parallel_for(void (*work)(void* data, size_t share), size_t shares, void* data) const {
        check(api().parallel_for(context_, work, shares, 0, data));
    }

   private:
    KernelContext* context_;
};

// An operator whose kernel is made from a Node and has compute(const Context&). Both may throw. ``Self`` overrides what
// differs from these answers.
template <class Self, class Kernel>
struct Operator : CustomOperator {
    Kind kind_of_input(size_t) const { return Kind::required; }
    Kind kind_of_output(size_t) const { return Kind::required; }
    int fewest_variadic_outputs() const { return 1; }

    Operator() : CustomOperator{} {
        version = kVersion;
        name = [](const CustomOperator* op) { return self(op).operator_name(); };
        provider = [](const CustomOperator*) -> const char* { return nullptr; };  // the CPU
        input_count = [](const CustomOperator* op) { return self(op).inputs(); };
        input_type = [](const CustomOperator* op, size_t index) { return self(op).type_of_input(index); };
        input_kind = [](const CustomOperator* op, size_t index) { return self(op).kind_of_input(index); };
        input_memory = [](const CustomOperator*, size_t) { return Memory::of_provider; };
        output_count = [](const CustomOperator* op) { return self(op).outputs(); };
        output_type = [](const CustomOperator* op, size_t index) { return self(op).type_of_output(index); };
        output_kind = [](const CustomOperator* op, size_t index) { return self(op).kind_of_output(index); };
        variadic_inputs_at_least = [](const CustomOperator*) { return 1; };
        variadic_inputs_alike = [](const CustomOperator*) { return 0; };
        variadic_outputs_at_least = [](const CustomOperator* op) { return self(op).fewest_variadic_outputs(); };
        variadic_outputs_alike = [](const CustomOperator*) { return 1; };
        first_version = [](const CustomOperator*) { return 1; };
        last_version = [](const CustomOperator*) { return std::numeric_limits<int>::max(); };
        create_kernel_2 = [](const CustomOperator*, const Api*, const KernelInfo* info, void** kernel) {
            return status_of(Code::invalid_graph, [&] { *kernel = std::make_unique<Kernel>(Node(info)).release(); });
        };
        compute_2 = [](void* kernel, KernelContext* context) {
            return status_of(Code::invalid_argument, [&] { static_cast<Kernel*>(kernel)->compute(Context(context)); });
        };
        destroy_kernel = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
    }

   private:
    static const Self& self(const CustomOperator* op) { return *static_cast<const Self*>(op); }
    template <class Work>
    static Status* status_of(Code code, Work&& work) try {
        work();
        return nullptr;
    } catch (const std::exception& error) {
        return api().create_status(code, error.what());
    }
};

// What a library's RegisterCustomOps does. ONNX Runtime keeps the addresses, so nothing of it is ever released.
template <class... Operators>
Status* register_operators(SessionOptions* options, const ApiBase* base) {
    const Api* api = base->get_api(kVersion);
    if (!api)
        return base->get_api(1)->create_status(Code::not_implemented, "hetsyn's operators need ONNX Runtime 1.17");
    registered_api.store(api, std::memory_order_relaxed);
    try {
        static Domain* const domain = [] {
            Domain* made = nullptr;
            check(ort::api().create_domain("hetsyn", &made));
            (check(ort::api().domain_add(made, new Operators)), ...);
            return made;
        }();
        return api->add_domain(options, domain);
    } catch (const std::exception& error) {
        return api->create_status(Code::fail, error.what());
    }
}

}  // namespace hetsyn::ort
