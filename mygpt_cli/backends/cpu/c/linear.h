/* Linear layers by the processor's AMX tiles of bfloat16. What they read and write is more than the caches hold, so
   that each thread takes some rows at a time from one end of a layer to the other: what lies between never leaves its
   cache, and what the way back needs of it is made anew.

   For a product a (M, K) · b (K, N), 16 of M or of N are laid out as a panel of tiles, of 32 of K each and filled up
   with zeros. A lane, of 32 bits, holds a number and the next one of K. Panels come in pairs. */
#ifndef LINEAR_H
#define LINEAR_H

#include "activations.h"
#include "parallel.h"
#include "products.h"
#include "workspace.h"

#if defined(TILES) && defined(BFLOAT16)
#define TILE (16 * LANES)
#define ROWS_AT_ONCE 256

/* How many numbers of 32 bits a panel takes, and all panels of a matrix: multiples of 64 bytes. */
static long panel_size(long deep) { return padded(deep) / 32 * TILE; }
static long panels_size(long across, long deep) { return padded(across) / 16 * panel_size(deep); }

/* Lay out 16 of M or N and 32 of K, filled up with zeros where there are fewer. `row_major` says that K runs along the
   rows of memory, `column_major` that it is to run down those of the tiles. */
static inline void lay_tile(const element *from, long ld, int row_major, int column_major, long across, long deep,
                            lane *to) {
    element whole[32 * 32];
    if (across < 16 || deep < 32) {
        const long rows = least(row_major ? across : deep, row_major ? 16 : 32);
        const long columns = least(row_major ? deep : across, row_major ? 32 : 16);
        memset(whole, 0, sizeof whole);
        for (long r = 0; r < rows; r++)
            for (long c = 0; c < columns; c++) whole[r * 32 + c] = from[r * ld + c];
        from = whole, ld = 32;
    }
    lanes v[16];
    UNROLL for (int i = 0; i < 16; i++)
        v[i] = row_major ? *(const lanes *)(from + i * ld) : pairs(from + 2 * i * ld, from + (2 * i + 1) * ld);
    if (row_major == column_major) transpose_block(v);
    UNROLL for (int i = 0; i < 16; i++)
        *(lanes *)(to + i * LANES) = v[i];
}

/* Lay out a matrix, in the order in which its numbers lie in memory. */
static __attribute__((noinline)) void lay_row_major(const element *from, long ld, int column_major, long across,
                                                    long deep, lane *to) {
    for (long i = 0; i < padded(across); i += 16)
        for (long k = 0; k < deep; k += 32, to += TILE)
            lay_tile(from + i * ld + k, ld, 1, column_major, across - i, deep - k, to);
}
static __attribute__((noinline)) void lay_column_major(const element *from, long ld, int column_major, long across,
                                                       long deep, lane *to) {
    const long panel = panel_size(deep);
    for (long k = 0; k < deep; k += 32, to += TILE)
        for (long i = 0; i < padded(across); i += 16)
            lay_tile(from + k * ld + i, ld, 0, column_major, across - i, deep - k, to + i / 16 * panel);
}

/* Lay out a block (32, 32) as two tiles of a pair of panels. */
static void lay_block(const element *block, int row_major, int column_major, lane *to, long panel) {
    for (int half = 0; half < 2; half++)
        if (row_major)
            lay_tile(block + half * 16 * 32, 32, 1, column_major, 16, 32, to + half * panel);
        else
            lay_tile(block + half * 16, 32, 0, column_major, 16, 32, to + half * panel);
}

/* c (32, 32), = or += the product of two panels each of a and b. */
static inline void multiply(const lane *a, const lane *b, long deep, float *c, long ldc, int add) {
    const long panel = panel_size(deep);
    load_accumulators(c, ldc, add);
    for (long k = 0; k < deep; k += 32, a += TILE, b += TILE) {
        TILE_LOAD(4, a, 64L);
        TILE_LOAD(6, b, 64L);
        TILE_LOAD(5, a + panel, 64L);
        TILE_LOAD(7, b + panel, 64L);
        TILE_ADD(0, 4, 6);
        TILE_ADD(1, 4, 7);
        TILE_ADD(2, 5, 6);
        TILE_ADD(3, 5, 7);
    }
    store_accumulators(c, ldc);
}

/* Keep a block (32, 32) as numbers. */
static inline void put_block(const float *block, element *to) {
    for (long r = 0; r < 32; r++) put_row(block + r * 32, to + r * 32, 32);
}

/* to (M, N) = a · b, as numbers. */
static __attribute__((noinline)) void multiply_rows(const lane *a, const lane *b, long m, long n, long deep,
                                                    element *to) {
    for (long i = 0; i < m; i += 32)
        for (long j = 0; j < n; j += 32) {
            const long rows = least(32, m - i), columns = least(32, n - j);
            float block[32 * 32];
            multiply(a + i / 16 * panel_size(deep), b + j / 16 * panel_size(deep), deep, block, 32, 0);
            for (long r = 0; r < rows; r++)
                if (columns == 32)
                    put_row(block + r * 32, to + (i + r) * n + j, 32);
                else
                    for (long c = 0; c < columns; c++) to[(i + r) * n + j + c] = put(block[r * 32 + c]);
        }
}

/* accumulators (M, N), both filled up, = or += a · b. */
static __attribute__((noinline)) void multiply_accumulators(const lane *a, const lane *b, long m, long n, long deep,
                                                            float *accumulators, int add) {
    const long panel = panel_size(deep), ld = padded(n);
    for (long i = 0; i < m; i += 32)
        for (long j = 0; j < n; j += 32)
            multiply(a + i / 16 * panel, b + j / 16 * panel, deep, accumulators + i * ld + j, ld, add);
}

/* gradient (M, N) = the sums of all threads, which are `apart` numbers apart. */
static void reduce_accumulators(const float *accumulators, long apart, float *gradient, long m, long n) {
    const long threads = thread_count(), own = thread_number();
    for (long r = m * own / threads; r < m * (own + 1) / threads; r++) {
        float *restrict to = gradient + r * n;
        const float *from = accumulators + r * padded(n);
        for (long c = 0; c < n; c++) to[c] = from[c];
        for (long t = 1; t < threads; t++) {
            from += apart;
            for (long c = 0; c < n; c++) to[c] += from[c];
        }
    }
}

/* y (rows, N) = x (rows, K) · w (N, K), transposed. */
long linear_workspace_size(long in, long out) { return panels_size(out, in) + panels_size(ROWS_AT_ONCE, in); }
void linear(const argument *a) {
    const element *x = a[0].p, *w = a[1].p;
    element *y = a[2].p;
    float *workspaces = a[3].p;
    const long size = a[4].i, rows = a[5].i, in = a[6].i, out = a[7].i;
    workspace own = {(char *)(workspaces + thread_number() * size)};
    lane *weights = allocate(&own, panels_size(out, in)), *inputs = allocate(&own, panels_size(ROWS_AT_ONCE, in));
    long end, begin = own_part(rows, &end);
    tiles_begin();
    if (begin < end) lay_row_major(w, in, 1, out, in, weights);
    for (long first = begin; first < end; first += ROWS_AT_ONCE) {
        const long count = least(ROWS_AT_ONCE, end - first);
        lay_row_major(x + first * in, in, 0, count, in, inputs);
        multiply_rows(inputs, weights, count, out, in, y + first * out);
    }
    tiles_end();
}

/* The gradients of x and w, given that of y. */
long linear_backward_workspace_size(long in, long out) {
    const long r = ROWS_AT_ONCE;
    return padded(in) * padded(out) + panels_size(in, out) + panels_size(r, out) + panels_size(out, r) +
           panels_size(in, r);
}
void linear_backward(const argument *a) {
    const element *grad = a[0].p, *x = a[1].p, *w = a[2].p;
    element *before = a[3].p;
    float *gradient = a[4].p, *workspaces = a[5].p;
    const long size = a[6].i, rows = a[7].i, in = a[8].i, out = a[9].i;
    const long r = ROWS_AT_ONCE;
    workspace own = {(char *)(workspaces + thread_number() * size)};
    float *accumulators = allocate(&own, padded(in) * padded(out));
    lane *weights = allocate(&own, panels_size(in, out)), *grads = allocate(&own, panels_size(r, out));
    lane *grads_transposed = allocate(&own, panels_size(out, r)), *inputs = allocate(&own, panels_size(in, r));
    long end, begin = own_part(rows, &end);
    tiles_begin();
    if (begin < end)
        lay_column_major(w, in, 1, in, out, weights);
    else
        memset(accumulators, 0, padded(in) * padded(out) * sizeof(float));
    for (long first = begin; first < end; first += r) {
        const long count = least(r, end - first);
        lay_row_major(grad + first * out, out, 0, count, out, grads);
        lay_column_major(grad + first * out, out, 0, out, count, grads_transposed);
        lay_column_major(x + first * in, in, 1, in, count, inputs);
        multiply_rows(grads, weights, count, in, out, before + first * in);
        multiply_accumulators(grads_transposed, inputs, out, in, count, accumulators, first > begin);
    }
    tiles_end();
    barrier();
    reduce_accumulators(workspaces, size, gradient, out, in);
}

/* y (rows, C) = w_down (C, F) · activation(w_up (F, C) · x), row by row. */
long mlp_workspace_size(long width, long wide) {
    const long r = ROWS_AT_ONCE;
    return panels_size(wide, width) + panels_size(width, wide) + panels_size(r, width) + panels_size(r, wide);
}
void mlp(const argument *a) {
    const element *x = a[0].p, *up = a[1].p, *down = a[2].p;
    element *y = a[3].p;
    float *workspaces = a[4].p;
    const long size = a[5].i, kind = a[6].i, rows = a[7].i, width = a[8].i, wide = a[9].i;
    workspace own = {(char *)(workspaces + thread_number() * size)};
    lane *ups = allocate(&own, panels_size(wide, width)), *downs = allocate(&own, panels_size(width, wide));
    lane *inputs = allocate(&own, panels_size(ROWS_AT_ONCE, width)),
         *active = allocate(&own, panels_size(ROWS_AT_ONCE, wide));
    const long short_panel = panel_size(width), long_panel = panel_size(wide);
    long end, begin = own_part(rows, &end);
    tiles_begin();
    if (begin < end) {
        lay_row_major(up, width, 1, wide, width, ups);
        lay_row_major(down, wide, 1, width, wide, downs);
    }
    for (long first = begin; first < end; first += ROWS_AT_ONCE) {
        const long count = least(ROWS_AT_ONCE, end - first);
        lay_row_major(x + first * width, width, 0, count, width, inputs);
        for (long i = 0; i < count; i += 32)
            for (long j = 0; j < wide; j += 32) {
                float block[32 * 32];
                element kept[32 * 32];
                multiply(inputs + i / 16 * short_panel, ups + j / 16 * short_panel, width, block, 32, 0);
                activate_some(block, block, kind, 32 * 32);
                put_block(block, kept);
                lay_block(kept, 1, 0, active + i / 16 * long_panel + j / 32 * TILE, long_panel);
            }
        multiply_rows(active, downs, count, width, wide, y + first * width);
    }
    tiles_end();
}

/* What the backward pass of a feed-forward part works on: the sums of a thread's gradients, what is laid out of the
   weights, and for some rows at a time of x, of the gradient of y, and of the hidden units between. */
typedef struct {
    float *accumulators_up, *accumulators_down;
    lane *ups, *downs, *ups_transposed;
    lane *inputs, *grads, *inputs_transposed, *grads_transposed;
    lane *slopes, *slopes_transposed, *active;
} mlp_workspace;

long mlp_backward_workspace_size(long width, long wide) {
    const long r = ROWS_AT_ONCE;
    return 2 * padded(width) * padded(wide) + 2 * panels_size(wide, width) + panels_size(width, wide) +
           2 * panels_size(r, width) + 2 * panels_size(width, r) + panels_size(r, wide) + 2 * panels_size(wide, r);
}
static inline mlp_workspace allocate_mlp(workspace *own, long width, long wide) {
    const long half = padded(width) * padded(wide), r = ROWS_AT_ONCE;
    mlp_workspace w;
    w.accumulators_up = allocate(own, half), w.accumulators_down = allocate(own, half);
    w.ups = allocate(own, panels_size(wide, width)), w.downs = allocate(own, panels_size(wide, width));
    w.ups_transposed = allocate(own, panels_size(width, wide));
    w.inputs = allocate(own, panels_size(r, width)), w.grads = allocate(own, panels_size(r, width));
    w.inputs_transposed = allocate(own, panels_size(width, r));
    w.grads_transposed = allocate(own, panels_size(width, r));
    w.slopes = allocate(own, panels_size(r, wide)), w.slopes_transposed = allocate(own, panels_size(wide, r));
    w.active = allocate(own, panels_size(wide, r));
    return w;
}

/* The activations of `count` rows' hidden units, and the gradients before the activation: laid out block by block. */
static inline void hidden_backward(const mlp_workspace *w, long kind, long count, long width, long wide) {
    const long short_panel = panel_size(width), long_panel = panel_size(wide), panel = panel_size(count);
    for (long i = 0; i < count; i += 32)
        for (long j = 0; j < wide; j += 32) {
            const long a = i / 16 * short_panel, b = j / 16 * short_panel;
            const long transposed = j / 16 * panel + i / 32 * TILE;
            float block[32 * 32], slope[32 * 32];
            element kept[32 * 32];
            multiply(w->inputs + a, w->ups + b, width, block, 32, 0);
            multiply(w->grads + a, w->downs + b, width, slope, 32, 0);
            activate_some_backward(block, slope, kind, 32 * 32);
            put_block(slope, kept);
            lay_block(kept, 1, 0, w->slopes + i / 16 * long_panel + j / 32 * TILE, long_panel);
            lay_block(kept, 0, 0, w->slopes_transposed + transposed, panel);
            activate_some(block, block, kind, 32 * 32);
            put_block(block, kept);
            lay_block(kept, 0, 1, w->active + transposed, panel);
        }
}

/* The gradients of x, w_up and w_down, given that of y. */
void mlp_backward(const argument *a) {
    const element *grad = a[0].p, *x = a[1].p, *up = a[2].p, *down = a[3].p;
    element *before = a[4].p;
    float *of_up = a[5].p, *of_down = a[6].p, *workspaces = a[7].p;
    const long size = a[8].i, kind = a[9].i, rows = a[10].i, width = a[11].i, wide = a[12].i;
    const long half = padded(width) * padded(wide);
    workspace own = {(char *)(workspaces + thread_number() * size)};
    const mlp_workspace w = allocate_mlp(&own, width, wide);
    long end, begin = own_part(rows, &end);
    tiles_begin();
    if (begin < end) {
        lay_row_major(up, width, 1, wide, width, w.ups);
        lay_column_major(up, width, 1, width, wide, w.ups_transposed);
        lay_column_major(down, wide, 1, wide, width, w.downs);
    } else
        memset(w.accumulators_up, 0, 2 * half * sizeof(float));
    for (long first = begin; first < end; first += ROWS_AT_ONCE) {
        const long count = least(ROWS_AT_ONCE, end - first);
        lay_row_major(x + first * width, width, 0, count, width, w.inputs);
        lay_row_major(grad + first * width, width, 0, count, width, w.grads);
        lay_column_major(x + first * width, width, 1, width, count, w.inputs_transposed);
        lay_column_major(grad + first * width, width, 0, width, count, w.grads_transposed);
        hidden_backward(&w, kind, count, width, wide);
        multiply_rows(w.slopes, w.ups_transposed, count, width, wide, before + first * width);
        multiply_accumulators(w.slopes_transposed, w.inputs_transposed, wide, width, count, w.accumulators_up,
                              first > begin);
        multiply_accumulators(w.grads_transposed, w.active, width, wide, count, w.accumulators_down, first > begin);
    }
    tiles_end();
    barrier();
    reduce_accumulators(workspaces, size, of_up, wide, width);
    reduce_accumulators(workspaces + half, size, of_down, width, wide);
}
#endif
#endif
