// Int4MatMul, an operation of OpenVINO: a matrix product of f32 activations and int4 weights in groups of 128 columns,
// which reads the weights as they lie in the mapped file of a model folder. OpenVINO's own product first copies them into
// another layout, which takes a minute and as much memory again.
//
// Inputs: activations [..., columns] in f32; weights [rows, columns / 2] in bytes, of which the low half is an even column,
// as OpenVINO's i4 has them; scales [rows, columns / 64] in bytes, f16 of each group. Output: [..., rows] in f32.

#include "activations.h"

#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>
#include <openvino/op/op.hpp>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <memory>
#include <vector>

#ifdef _WIN32
#define EDGE_API extern "C" __declspec(dllexport)
#else
#define EDGE_API extern "C" __attribute__((visibility("default")))
#endif

namespace edge {

constexpr int FEW = 8;  // rows of activations that are multiplied without unpacking panels

struct Kernels {
    void (*quantize_row)(const float*, const Activations&, int);
    void (*multiply_few[FEW])(const uint8_t*, const uint16_t*, const Activations&, float*, int, int, int);
    void (*multiply_panel)(const uint8_t*, const uint16_t*, const Activations&, float*, int, int, uint8_t*, float*);
};

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")
namespace avx512 {
#include "avx512.h"
#include "panels.h"
}  // namespace avx512
#define EDGE_DOT _mm256_dpbusd_epi32  // the same instruction in AVX-512's encoding, for tests
namespace avx512_256 {
#include "avx2.h"
#include "panels.h"
}  // namespace avx512_256
#undef EDGE_DOT
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,avxvnni,f16c,fma")
#define EDGE_DOT _mm256_dpbusd_avx_epi32
namespace avx_vnni {
#include "avx2.h"
#include "panels.h"
}  // namespace avx_vnni
#undef EDGE_DOT
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,f16c,fma")
namespace avx2 {
#include "avx2.h"
#include "panels.h"
}  // namespace avx2
#pragma GCC pop_options

enum Instructions { NONE = 0, AVX2 = 1, AVX_VNNI = 2, AVX512_VNNI = 3, AVX512_VNNI_256 = 4 };

static Instructions best() {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return NONE;
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq")) {
        return AVX512_VNNI;
    }
    return __builtin_cpu_supports("avxvnni") ? AVX_VNNI : AVX2;
}

static const Kernels* find_kernels(Instructions instructions) {
    switch (instructions) {
        case AVX2: return &avx2::KERNELS;
        case AVX_VNNI: return &avx_vnni::KERNELS;
        case AVX512_VNNI: return &avx512::KERNELS;
        case AVX512_VNNI_256: return &avx512_256::KERNELS;
        default: return nullptr;
    }
}

// Run `body` for 0 to count - 1. While a thread waits for the others, it takes no other work of its arena, which might be
// another product in the same scratch memory.
template <class Body>
static void in_parallel(int count, const Body& body) {
    tbb::this_task_arena::isolate([&] { tbb::parallel_for(0, count, body); });
}

// y [rows, n] = x [rows, groups * 128] times w [n, groups * 64 bytes], transposed.
static void multiply(const Kernels& kernels, const float* x, const uint8_t* w, const uint16_t* scales, float* y, int rows,
                     int n, int groups) {
    static thread_local Scratch<int8_t> values;
    static thread_local Scratch<float> mine, offsets;
    const size_t count = size_t(rows) * groups;
    const bool few = rows <= FEW;
    const Activations a{rows, groups, size_t(few ? groups : 1), size_t(few ? 1 : rows), values.take(count * GROUP),
                        mine.take(count), offsets.take(count)};
    const size_t columns = size_t(groups) * GROUP;
    if (few) {
        for (int row = 0; row < rows; row++) kernels.quantize_row(x + row * columns, a, row);
        const int threads = std::max(1, tbb::this_task_arena::max_concurrency());
        const int chunk = std::max(48, (n / threads / 8 + 47) / 48 * 48);  // slower cores take fewer
        in_parallel((n + chunk - 1) / chunk, [&](int i) {
            kernels.multiply_few[rows - 1](w, scales, a, y, n, i * chunk, std::min(n, (i + 1) * chunk));
        });
        return;
    }
    in_parallel(rows, [&](int row) { kernels.quantize_row(x + row * columns, a, row); });
    in_parallel((n + NR - 1) / NR, [&](int i) {
        static thread_local Scratch<uint8_t> panel;
        static thread_local Scratch<float> sums;
        kernels.multiply_panel(w, scales, a, y, n, i * NR, panel.take(NR * GROUP), sums.take(MB * NR));
    });
}

class Int4MatMul : public ov::op::Op {
public:
    OPENVINO_OP("Int4MatMul", "glm4_edge");

    Int4MatMul() = default;
    explicit Int4MatMul(const ov::OutputVector& inputs) : Op(inputs) { constructor_validate_and_infer_types(); }

    void validate_and_infer_types() override {
        const auto& weights = get_input_partial_shape(1);
        NODE_VALIDATION_CHECK(this, weights.is_static() && weights.size() == 2, "the weights' shape");
        NODE_VALIDATION_CHECK(this, get_input_partial_shape(0).rank().is_static(), "the activations' shape");
        auto shape = get_input_partial_shape(0);
        NODE_VALIDATION_CHECK(this, shape[shape.size() - 1].compatible(weights[1] * 2), "the number of columns");
        shape[shape.size() - 1] = weights[0];
        set_output_type(0, ov::element::f32, shape);
    }

    std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
        return std::make_shared<Int4MatMul>(inputs);
    }

    bool visit_attributes(ov::AttributeVisitor&) override { return true; }

    bool has_evaluate() const override { return true; }

    bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
        static const Kernels* const kernels = find_kernels(best());
        auto shape = inputs[0].get_shape();
        const auto weights = inputs[1].get_shape();
        if (!kernels || inputs[0].get_element_type() != ov::element::f32 || shape.back() != weights[1] * 2) return false;
        const size_t rows = inputs[0].get_size() / std::max<size_t>(1, shape.back());
        shape.back() = weights[0];
        outputs[0].set_shape(shape);
        if (rows) {
            multiply(*kernels, inputs[0].data<float>(), inputs[1].data<uint8_t>(),
                     reinterpret_cast<const uint16_t*>(inputs[2].data<uint8_t>()), outputs[0].data<float>(), int(rows),
                     int(weights[0]), int(weights[1] * 2 / GROUP));
        }
        return true;
    }
};

}  // namespace edge

// The instructions that this processor's products use; 0 for none, so that there is no use for the library.
EDGE_API int edge_int4_instructions() { return edge::best(); }

// One product with the instructions of this number, for tests; 0 if they are unknown.
EDGE_API int edge_int4_multiply(int instructions, const float* x, const uint8_t* w, const uint16_t* scales, float* y,
                                int rows, int n, int groups) {
    const edge::Kernels* kernels = edge::find_kernels(edge::Instructions(instructions));
    if (!kernels) return 0;
    edge::multiply(*kernels, x, w, scales, y, rows, n, groups);
    return 1;
}

OPENVINO_CREATE_EXTENSIONS(std::vector<ov::Extension::Ptr>({std::make_shared<ov::OpExtension<edge::Int4MatMul>>()}));
