// What each instruction set adds to its own functions: the product by panels, and the table that the operation calls.
// Included once for each, after its functions.

// Multiply all rows of activations by the rows of weights from `row` on, at most 64. `panel` has 8 KiB, `sums` [256][64].
static void multiply_panel(const uint8_t* w, const uint16_t* scales, const Activations& a, float* y, int n, int row,
                           uint8_t* panel, float* sums) {
    const int rows = n - row < NR ? n - row : NR;
    const auto inside = [&](int i) { return size_t(row + (i < rows ? i : rows - 1)); };  // the last one again, unused
    alignas(64) float weights[NR];
    for (int begin = 0; begin < a.rows; begin += MB) {
        const int end = a.rows - begin < MB ? a.rows : begin + MB;
        for (int g = 0; g < a.groups; g++) {
            const auto next = [&](int i) {
                const uint8_t* p = w + (inside(i) * a.groups + g) * (GROUP / 2);
                _mm_prefetch(reinterpret_cast<const char*>(p + GROUP), _MM_HINT_T0);  // of the group after the next
                return p;
            };
            unpack(next, panel);
            for (int i = 0; i < NR; i++) weights[i] = _cvtsh_ss(scales[inside(i) * a.groups + g]);
            const size_t place = size_t(g) * a.rows;
            for (int m = begin; m < end;) {
                const int left = end - m;
                const int8_t* values = a.values + (place + m) * GROUP;
                const float *mine = a.scales + place + m, *offsets = a.offsets + place + m;
                float* to = sums + size_t(m - begin) * NR;
                if (left >= TILE) {
                    multiply_tile<TILE>(panel, values, mine, offsets, weights, to, !g);
                    m += TILE;
                } else if (left >= 2) {
                    multiply_tile<2>(panel, values, mine, offsets, weights, to, !g);
                    m += 2;
                } else {
                    multiply_tile<1>(panel, values, mine, offsets, weights, to, !g);
                    m += 1;
                }
            }
        }
        for (int m = begin; m < end; m++) {
            std::memcpy(y + size_t(m) * n + row, sums + size_t(m - begin) * NR, rows * sizeof(float));
        }
    }
}

static const Kernels KERNELS = {
    quantize_row,
    {multiply_few<1>, multiply_few<2>, multiply_few<3>, multiply_few<4>, multiply_few<5>, multiply_few<6>,
     multiply_few<7>, multiply_few<8>},
    multiply_panel};
