// AVX2, with VNNI where EDGE_DOT is defined as its instruction. Included once for each, between pragmas that name the
// instructions.

static void quantize_row(const float* x, const Activations& a, int row) {
    const __m256 sign = _mm256_set1_ps(-0.f);
    for (int g = 0; g < a.groups; g++, x += GROUP) {
        __m256 top = _mm256_setzero_ps();
        for (int i = 0; i < GROUP; i += 8) top = _mm256_max_ps(top, _mm256_andnot_ps(sign, _mm256_loadu_ps(x + i)));
        alignas(32) float tops[8];
        _mm256_store_ps(tops, top);
        float most = 0;
        for (float one : tops) most = one > most ? one : most;
        const __m256 inverse = _mm256_set1_ps(most > 0 ? 127.f / most : 0.f);
        const size_t place = size_t(g) * a.rows + row;
        int8_t* to = a.values + place * GROUP;
        int sum = 0;
        for (int i = 0; i < GROUP; i += 8) {
            alignas(32) int32_t rounded[8];
            _mm256_store_si256(reinterpret_cast<__m256i*>(rounded),
                               _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), inverse)));
            for (int k = 0; k < 8; k++) {
                sum += rounded[k];
                to[(k & 1) * (GROUP / 2) + (i + k) / 2] = int8_t(rounded[k]);
            }
        }
        const size_t at = row * a.row_step + g * a.group_step;
        a.scales[at] = most / 127.f;
        a.offsets[at] = -8.f * sum;
    }
}

static inline __m256i broadcast(const int8_t* p) {  // four columns of a row
    int four;
    std::memcpy(&four, p, 4);
    return _mm256_set1_epi32(four);
}

static inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

// The sum of the products of 128 columns, in 8 parts.
static inline __m256i dot_group(const __m256i* even, const __m256i* odd, const int8_t* values) {
#ifdef EDGE_DOT
    __m256i sum = EDGE_DOT(_mm256_setzero_si256(), even[0], load(values));
    sum = EDGE_DOT(sum, even[1], load(values + 32));
    sum = EDGE_DOT(sum, odd[0], load(values + 64));
    return EDGE_DOT(sum, odd[1], load(values + 96));
#else  // 8 products of at most 15 * 127 fit into 16 bits
    const __m256i e = _mm256_add_epi16(_mm256_maddubs_epi16(even[0], load(values)), _mm256_maddubs_epi16(even[1], load(values + 32)));
    const __m256i o = _mm256_add_epi16(_mm256_maddubs_epi16(odd[0], load(values + 64)), _mm256_maddubs_epi16(odd[1], load(values + 96)));
    return _mm256_madd_epi16(_mm256_add_epi16(e, o), _mm256_set1_epi16(1));
#endif
}

// Few rows of activations: R rows of weights are read at once, each in the order of the memory. They lie far from one
// another: two streams in one page halve the bandwidth.
template <int M, int R>
static void multiply_rows(const uint8_t* w, const uint16_t* scales, const Activations& a, float* y, int n, int from, int to) {
    const int groups = a.groups, apart = (to - from + R - 1) / R;
    const size_t bytes = size_t(groups) * (GROUP / 2);
    const __m256i low = _mm256_set1_epi8(0x0f), shift = _mm256_set1_epi8(int8_t(0x88));
    for (int first = from; first < from + apart; first++) {
        const uint8_t* p[R];
        const uint16_t* s[R];
        int rows[R];
        for (int r = 0; r < R; r++) {
            rows[r] = first + r * apart < to ? first + r * apart : to - 1;  // the last one again
            p[r] = w + rows[r] * bytes;
            s[r] = scales + size_t(rows[r]) * groups;
        }
        const int8_t* values = a.values;
        __m256 sums[R][M];
        float offsets[R][M] = {};
        for (auto& row : sums) for (auto& sum : row) sum = _mm256_setzero_ps();
        for (int g = 0; g < groups; g++) {
            __m256i even[R][2], odd[R][2];
            float weights[R];
            for (int r = 0; r < R; r++) {
                weights[r] = _cvtsh_ss(s[r][g]);
                _mm_prefetch(reinterpret_cast<const char*>(p[r] + 1024), _MM_HINT_T0);
                for (int i = 0; i < 2; i++) {
                    const __m256i both = _mm256_xor_si256(load(p[r] + 32 * i), shift);  // w + 8
                    even[r][i] = _mm256_and_si256(both, low);
                    odd[r][i] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
                }
                p[r] += GROUP / 2;
            }
            for (int m = 0; m < M; m++, values += GROUP) {
                const size_t at = m * a.row_step + g;
                for (int r = 0; r < R; r++) {
                    const float product = weights[r] * a.scales[at];
                    offsets[r][m] += product * a.offsets[at];
                    const __m256 d = _mm256_cvtepi32_ps(dot_group(even[r], odd[r], values));
                    sums[r][m] = _mm256_fmadd_ps(d, _mm256_set1_ps(product), sums[r][m]);
                }
            }
        }
        for (int r = 0; r < R; r++) {
            for (int m = 0; m < M; m++) {
                const __m256 sum = sums[r][m];
                __m128 half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
                half = _mm_hadd_ps(half, half);
                y[size_t(m) * n + rows[r]] = offsets[r][m] + _mm_cvtss_f32(_mm_hadd_ps(half, half));
            }
        }
    }
}

template <int M>
static void multiply_few(const uint8_t* w, const uint16_t* scales, const Activations& a, float* y, int n, int from, int to) {
    multiply_rows<M, 2>(w, scales, a, y, n, from, to);
}

// Unpack one group of 64 rows of weights: panel [4][32][16][4], in bytes, is a quarter of the rows, a step of four columns,
// a row, a column. `row` returns where a row's group lies.
template <class Row>
static void unpack(Row row, uint8_t* panel) {
    const __m256i low = _mm256_set1_epi8(0x0f), shift = _mm256_set1_epi8(int8_t(0x88));
    for (int quarter = 0; quarter < 4; quarter++, panel += 2048) {
        for (int i = 0; i < 16; i++) {
            const uint8_t* from = row(quarter * 16 + i);
            for (int step = 0; step < 16; step++) std::memcpy(panel + step * 64 + i * 4, from + step * 4, 4);
        }
        for (int i = 0; i < 1024; i += 32) {
            const __m256i both = _mm256_xor_si256(load(panel + i), shift);
            _mm256_store_si256(reinterpret_cast<__m256i*>(panel + i), _mm256_and_si256(both, low));
            _mm256_store_si256(
                reinterpret_cast<__m256i*>(panel + 1024 + i), _mm256_and_si256(_mm256_srli_epi16(both, 4), low));
        }
    }
}

constexpr int TILE = 4;  // rows of activations at a time

// Multiply R rows of activations by a panel, and add the products to `sums` [R][64]. `weights` are the panel's scales.
template <int R>
static void multiply_tile(const uint8_t* panel, const int8_t* values, const float* scales, const float* offsets,
                          const float* weights, float* sums, bool first) {
    for (int quarter = 0; quarter < 4; quarter++, panel += 2048, weights += 16, sums += 16) {
        __m256i total[R][2];
#ifdef EDGE_DOT
        for (int r = 0; r < R; r++) total[r][0] = total[r][1] = _mm256_setzero_si256();
        for (int step = 0; step < GROUP / 4; step++) {
            const __m256i w0 = load(panel + step * 64), w1 = load(panel + step * 64 + 32);
            for (int r = 0; r < R; r++) {
                const __m256i x = broadcast(values + r * GROUP + step * 4);
                total[r][0] = EDGE_DOT(total[r][0], w0, x);
                total[r][1] = EDGE_DOT(total[r][1], w1, x);
            }
        }
#else
        const __m256i one = _mm256_set1_epi16(1);
        for (int r = 0; r < R; r++) total[r][0] = total[r][1] = _mm256_setzero_si256();
        for (int part = 0; part < GROUP / 4; part += 8) {  // 16 products of at most 15 * 127 fit into 16 bits
            __m256i s[R][2];
            for (int r = 0; r < R; r++) s[r][0] = s[r][1] = _mm256_setzero_si256();
            for (int step = part; step < part + 8; step++) {
                const __m256i w0 = load(panel + step * 64), w1 = load(panel + step * 64 + 32);
                for (int r = 0; r < R; r++) {
                    const __m256i x = broadcast(values + r * GROUP + step * 4);
                    s[r][0] = _mm256_add_epi16(s[r][0], _mm256_maddubs_epi16(w0, x));
                    s[r][1] = _mm256_add_epi16(s[r][1], _mm256_maddubs_epi16(w1, x));
                }
            }
            for (int r = 0; r < R; r++) {
                total[r][0] = _mm256_add_epi32(total[r][0], _mm256_madd_epi16(s[r][0], one));
                total[r][1] = _mm256_add_epi32(total[r][1], _mm256_madd_epi16(s[r][1], one));
            }
        }
#endif
        for (int r = 0; r < R; r++) {
            const __m256 scale = _mm256_set1_ps(scales[r]), offset = _mm256_set1_ps(offsets[r]);
            for (int j = 0; j < 2; j++) {
                const __m256 sum = _mm256_add_ps(_mm256_cvtepi32_ps(total[r][j]), offset);
                const __m256 t = _mm256_mul_ps(sum, _mm256_loadu_ps(weights + 8 * j));
                float* c = sums + r * NR + 8 * j;
                _mm256_storeu_ps(c, first ? _mm256_mul_ps(t, scale) : _mm256_fmadd_ps(t, scale, _mm256_loadu_ps(c)));
            }
        }
    }
}
