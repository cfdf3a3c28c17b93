// What each instruction set adds to its own functions: the product by panels, and the table that the operation calls.
// Included once for each, after its functions.

// Multiply all rows of activations by the rows of weights from `row` on, at most 64. `panel` has 8 KiB, `sums` [256][64].
static void multiply_panel(const uint8_t* w, const uint16_t* scales, const Activations& a, float* y, int n, int row,
                           uint8_t* panel, float* sums) {
    const int rows = n - row < NR ? n - row : NR;
    const auto inside = [&](int i) { return size_t(row + (i < rows ? i : rows - 1)); };  // the last one again, unused
    alignas(64) float weights[NR];
    const int following = n - row - rows < NR ? n - row - rows : NR;
    const char* next = reinterpret_cast<const char*>(w + size_t(row + rows) * a.groups * (GROUP / 2));
    for (int begin = 0; begin < a.rows; begin += MB) {
        const int end = a.rows - begin < MB ? a.rows : begin + MB;
        const bool last = end == a.rows;
        for (int g = 0; g < a.groups; g++) {
            unpack([&](int i) { return w + (inside(i) * a.groups + g) * (GROUP / 2); }, panel);
            int ahead = last ? following : 0;
            for (int i = 0; i < NR; i++) weights[i] = _cvtsh_ss(scales[inside(i) * a.groups + g]);
            const size_t place = size_t(g) * a.rows;
            for (int m = begin; m < end;) {
                const int left = end - m;
                const int8_t* values = a.values + (place + m) * GROUP;
                const float *mine = a.scales + place + m, *offsets = a.offsets + place + m;
                float* to = sums + size_t(m - begin) * NR;
                // The next panel, in the order of the memory and a few lines at a time: a processor has few misses at once.
                const int lines = (ahead * TILE + left - 1) / left;
                for (int i = 0; i < lines && ahead; i++, ahead--, next += 64) _mm_prefetch(next, _MM_HINT_T1);
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
