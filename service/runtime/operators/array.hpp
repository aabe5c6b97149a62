// An array as NumPy describes it to C, by ``__array_struct__`` (its documentation: the array interface protocol).

#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <type_traits>

namespace hetsyn {

struct Array {
    int version, axes;
    char kind;
    int item_bytes, flags;
    intptr_t *shape, *strides;
    void* content;
    void* description;

    // Length of the first axis
    int64_t length() const { return axes > 0 ? shape[0] : -1; }
    // The content, if it is in one piece, of this type and this shape
    template <typename T>
    T* data(std::initializer_list<int64_t> lengths) const {
        constexpr int one_piece = 0x1, aligned = 0x100, native = 0x200, all = one_piece | aligned | native;
        constexpr char own = std::is_floating_point_v<T> ? 'f' : 'i';
        if (version != 2 || kind != own || item_bytes != sizeof(T) || (flags & all) != all ||
            !std::equal(lengths.begin(), lengths.end(), shape, shape + axes))
            throw std::invalid_argument("an array has another type or shape");
        return static_cast<T*>(content);
    }
};

}  // namespace hetsyn
