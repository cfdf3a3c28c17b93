// Rows of activations in int8, and the scratch memory of a thread.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace edge {

constexpr int GROUP = 128;  // columns that share a scale, of weights and of activations
constexpr int NR = 64;      // rows of weights in a panel
constexpr int MB = 256;     // rows of activations that are multiplied by a panel before the next one is unpacked

// Memory of one type that grows and is kept.
template <class T>
class Scratch {
public:
    Scratch() = default;
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { _mm_free(data_); }

    T* take(size_t count) {
        if (count > count_) {
            _mm_free(data_);
            count_ = 0;
            data_ = static_cast<T*>(_mm_malloc(count * sizeof(T) + 64, 64));
            if (!data_) throw std::bad_alloc();
            count_ = count;
        }
        return data_;
    }

private:
    T* data_ = nullptr;
    size_t count_ = 0;
};

// `rows` rows of activations, each group of 128 columns rounded to int8 with a scale of its own.
//
// values [groups][rows][128]: the even columns of a group, then the odd ones, as a byte of weights holds an even column in
// its low half and an odd one in its high half. scales: of row r and group g at r * row_step + g * group_step. offsets: in
// the same places, -8 times the sum of a group's values, because the kernels read weights as w + 8, which is never negative.
struct Activations {
    int rows, groups;
    size_t row_step, group_step;
    int8_t* values;
    float* scales;
    float* offsets;
};

}  // namespace edge
