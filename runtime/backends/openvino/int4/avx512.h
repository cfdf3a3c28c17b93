// AVX-512 with VNNI. Included once, between pragmas that name the instructions.

static void quantize_row(const float* x, const Activations& a, int row) {
    for (int g = 0; g < a.groups; g++, x += GROUP) {
        __m512 v[8], top = _mm512_setzero_ps();
        for (int i = 0; i < 8; i++) {
            v[i] = _mm512_loadu_ps(x + 16 * i);
            top = _mm512_max_ps(top, _mm512_abs_ps(v[i]));
        }
        const float most = _mm512_reduce_max_ps(top);
        const __m512 inverse = _mm512_set1_ps(most > 0 ? 127.f / most : 0.f);
        alignas(64) int8_t rounded[GROUP];
        __m512i sum = _mm512_setzero_si512();
        for (int i = 0; i < 8; i++) {
            const __m512i r = _mm512_cvtps_epi32(_mm512_mul_ps(v[i], inverse));
            sum = _mm512_add_epi32(sum, r);
            _mm_store_si128(reinterpret_cast<__m128i*>(rounded + 16 * i), _mm512_cvtepi32_epi8(r));
        }
        const size_t place = size_t(g) * a.rows + row;
        int8_t* to = a.values + place * GROUP;
        for (int half = 0; half < 2; half++) {
            const __m512i pairs = _mm512_load_si512(rounded + 64 * half);
            _mm256_store_si256(reinterpret_cast<__m256i*>(to + 32 * half), _mm512_cvtepi16_epi8(pairs));
            _mm256_store_si256(
                reinterpret_cast<__m256i*>(to + 64 + 32 * half), _mm512_cvtepi16_epi8(_mm512_srli_epi16(pairs, 8)));
        }
        const size_t at = row * a.row_step + g * a.group_step;
        a.scales[at] = most / 127.f;
        a.offsets[at] = float(-8 * _mm512_reduce_add_epi32(sum));
    }
}

// Few rows of activations: R rows of weights are read at once, each in the order of the memory. They lie far from one
// another: two streams in one page halve the bandwidth.
template <int M, int R>
static void multiply_rows(const uint8_t* w, const uint16_t* scales, const Activations& a, float* y, int n, int from, int to) {
    const int groups = a.groups, apart = (to - from + R - 1) / R;
    const size_t bytes = size_t(groups) * (GROUP / 2);
    const __m512i low = _mm512_set1_epi8(0x0f), eight = _mm512_set1_epi8(8), zero = _mm512_setzero_si512();
    for (int first = from; first < from + apart; first++) {
        const uint8_t* p[R];
        int rows[R];
        for (int r = 0; r < R; r++) {
            rows[r] = first + r * apart < to ? first + r * apart : to - 1;  // the last one again
            p[r] = w + rows[r] * bytes;
        }
        const int8_t* values = a.values;
        __m512 sums[R][M];
        for (auto& row : sums) for (auto& sum : row) sum = _mm512_setzero_ps();
        for (int g = 0; g < groups; g += 16) {
            const int some = groups - g < 16 ? groups - g : 16;
            const __mmask16 mask = __mmask16((1u << some) - 1);
            alignas(64) float both_scales[R][M][16];
            for (int r = 0; r < R; r++) {
                const __m512 weights = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, scales + size_t(rows[r]) * groups + g));
                for (int m = 0; m < M; m++) {
                    const size_t at = m * a.row_step + g;
                    const __m512 product = _mm512_mul_ps(weights, _mm512_maskz_loadu_ps(mask, a.scales + at));
                    _mm512_store_ps(both_scales[r][m], product);
                    sums[r][m] = _mm512_fmadd_ps(product, _mm512_maskz_loadu_ps(mask, a.offsets + at), sums[r][m]);
                }
            }
            for (int i = 0; i < some; i++) {
                __m512i even[R], odd[R];
                for (int r = 0; r < R; r++) {
                    const __m512i both = _mm512_loadu_si512(p[r]);
                    _mm_prefetch(reinterpret_cast<const char*>(p[r] + 1024), _MM_HINT_T0);
                    p[r] += GROUP / 2;
                    even[r] = _mm512_ternarylogic_epi32(both, low, eight, 0x6a);  // (both & low) ^ eight: w + 8
                    odd[r] = _mm512_ternarylogic_epi32(_mm512_srli_epi16(both, 4), low, eight, 0x6a);
                }
                for (int m = 0; m < M; m++, values += GROUP) {
                    const __m512i x = _mm512_load_si512(values), next = _mm512_load_si512(values + GROUP / 2);
                    for (int r = 0; r < R; r++) {
                        const __m512i d = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, even[r], x), odd[r], next);
                        sums[r][m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(d), _mm512_set1_ps(both_scales[r][m][i]), sums[r][m]);
                    }
                }
            }
        }
        for (int r = 0; r < R; r++) {
            for (int m = 0; m < M; m++) y[size_t(m) * n + rows[r]] = _mm512_reduce_add_ps(sums[r][m]);
        }
    }
}

template <int M>
static void multiply_few(const uint8_t* w, const uint16_t* scales, const Activations& a, float* y, int n, int from, int to) {
    multiply_rows<M, M <= 5 ? 3 : 2>(w, scales, a, y, n, from, to);
}

static inline void transpose_16x16(__m512i* r) {  // of 32-bit values
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

// Unpack one group of 64 rows of weights: panel [4][32][16][4], in bytes, is a quarter of the rows, a step of four columns,
// a row, a column. `row` returns where a row's group lies.
template <class Row>
static void unpack(Row row, uint8_t* panel) {
    const __m512i low = _mm512_set1_epi8(0x0f), eight = _mm512_set1_epi8(8);
    for (int quarter = 0; quarter < 4; quarter++, panel += 2048) {
        __m512i r[16];
        for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(row(quarter * 16 + i));
        transpose_16x16(r);
        for (int i = 0; i < 16; i++) {
            _mm512_store_si512(panel + i * 64, _mm512_ternarylogic_epi32(r[i], low, eight, 0x6a));
            _mm512_store_si512(
                panel + (16 + i) * 64, _mm512_ternarylogic_epi32(_mm512_srli_epi16(r[i], 4), low, eight, 0x6a));
        }
    }
}

constexpr int TILE = 6;  // rows of activations at a time

#ifdef _MSC_VER
#define EDGE_DOT(sum, w, x) sum = _mm512_dpbusd_epi32(sum, w, x)
#else  // GCC spills the sums of the intrinsic
#define EDGE_DOT(sum, w, x) __asm__("vpdpbusd %2,%1,%0" : "+v"(sum) : "v"(w), "v"(x))
#endif
#define EDGE_ROWS(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define EDGE_CLEAR(r) __m512i s##r##0 = zero, s##r##1 = zero, s##r##2 = zero, s##r##3 = zero;
#define EDGE_STEP(r)                                             \
    if (r < R) {                                                 \
        int four;                                                \
        std::memcpy(&four, values + r * GROUP + step * 4, 4);    \
        const __m512i x = _mm512_set1_epi32(four);               \
        EDGE_DOT(s##r##0, w0, x);                                \
        EDGE_DOT(s##r##1, w1, x);                                \
        EDGE_DOT(s##r##2, w2, x);                                \
        EDGE_DOT(s##r##3, w3, x);                                \
    }
#define EDGE_ADD(r, j)                                                                                               \
    {                                                                                                                \
        const __m512 t = _mm512_mul_ps(_mm512_add_ps(_mm512_cvtepi32_ps(s##r##j), offset), _mm512_load_ps(weights + j * 16)); \
        float* c = sums + r * NR + j * 16;                                                                           \
        _mm512_store_ps(c, first ? _mm512_mul_ps(t, scale) : _mm512_fmadd_ps(t, scale, _mm512_load_ps(c)));          \
    }
#define EDGE_STORE(r)                                      \
    if (r < R) {                                           \
        const __m512 scale = _mm512_set1_ps(scales[r]);    \
        const __m512 offset = _mm512_set1_ps(offsets[r]);  \
        EDGE_ADD(r, 0) EDGE_ADD(r, 1) EDGE_ADD(r, 2) EDGE_ADD(r, 3) \
    }

// Multiply R rows of activations by a panel, and add the products to `sums` [R][64]. `weights` are the panel's scales.
template <int R>
static void multiply_tile(const uint8_t* panel, const int8_t* values, const float* scales, const float* offsets,
                          const float* weights, float* sums, bool first) {
    const __m512i zero = _mm512_setzero_si512();
    EDGE_ROWS(EDGE_CLEAR)
    for (int step = 0; step < GROUP / 4; step++) {
        const __m512i w0 = _mm512_load_si512(panel + step * 64), w1 = _mm512_load_si512(panel + 2048 + step * 64);
        const __m512i w2 = _mm512_load_si512(panel + 4096 + step * 64), w3 = _mm512_load_si512(panel + 6144 + step * 64);
        EDGE_ROWS(EDGE_STEP)
    }
    EDGE_ROWS(EDGE_STORE)
}
#undef EDGE_DOT
#undef EDGE_ROWS
#undef EDGE_CLEAR
#undef EDGE_STEP
#undef EDGE_ADD
#undef EDGE_STORE
