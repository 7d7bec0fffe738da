/* Products of linear layers in float32, by the processor's AMX tiles of bfloat16. A number of float32 is the sum of
   three of bfloat16; of the nine products of two such sums six matter, and added up in float32 they are as exact as a
   product in float32 (Henry, Tang and Heinecke, 2019, arXiv:1904.06376), down to some 1e-30: the tiles take the
   smallest numbers of all for 0.

   c (M, N) = a (M, K) · b (K, N). Panels of 16 of M or of N are split into tiles: a lane, of 32 bits, holds k and
   k + 16. */
#ifndef MATMUL_H
#define MATMUL_H

#include "parallel.h"
#include "products.h"
#include "workspace.h"

#if defined(TILES) && !defined(BFLOAT16)
#define PARTS 3
#define DEEP 64  /* of K at a time, so that panels stay in the cache */
#define WIDE 512 /* of N at a time */
#define PANEL (DEEP / 32 * PARTS * TILE)

/* Split 16 of M or N and 32 of K, filled up with zeros where there are fewer. `row_major` says that K runs along the
   rows of memory, `column_major` that it is to run down those of the tiles. */
static void split(const float *from, long ld, int row_major, int column_major, long across, long deep, lane *to) {
    float whole[32 * 32];
    if (across < 16 || deep < 32) {
        const long rows = least(row_major ? across : deep, row_major ? 16 : 32);
        const long columns = least(row_major ? deep : across, row_major ? 32 : 16);
        memset(whole, 0, sizeof whole);
        for (long r = 0; r < rows; r++) memcpy(whole + r * 32, from + r * ld, columns * sizeof(float));
        from = whole, ld = 32;
    }
    lanes low[16], high[16];
    UNROLL for (int i = 0; i < 16; i++) {
        low[i] = *(const lanes *)(from + i * ld);
        high[i] = *(const lanes *)(from + i * ld + (row_major ? 16 : 16 * ld));
    }
    if (row_major == column_major) {
        transpose_block(low);
        transpose_block(high);
    }
    UNROLL for (int i = 0; i < 16; i++) UNROLL
        for (int p = 0; p < PARTS; p++) { /* rounded to bfloat16; what is left is the next part's */
            const lanes first = (low[i] + 0x8000u) & 0xffff0000u, second = (high[i] + 0x8000u) & 0xffff0000u;
            *(lanes *)(to + p * TILE + i * LANES) = first >> 16 | second;
            low[i] = (lanes)((vector)low[i] - (vector)first);
            high[i] = (lanes)((vector)high[i] - (vector)second);
        }
}

static void split_strip(const float *from, long ld, int row_major, int column_major, long across, long deep, lane *to) {
    for (long k = 0; k < deep; k += 32, to += PARTS * TILE)
        split(from + (row_major ? k : k * ld), ld, row_major, column_major, across, deep - k, to);
}

/* Bring numbers near that are needed soon. */
static void prefetch_rows(const float *from, long ld, long rows, long columns) {
    for (long r = 0; r < rows; r++)
        for (long s = 0; s < columns; s += 16) __builtin_prefetch(from + r * ld + s, 0, 2);
}

/* c (32, 32), = or += the product of two panels each of a and b. */
static void multiply(const lane *a, const lane *b, float *c, long ldc, long deep, int add) {
    load_accumulators(c, ldc, add);
#define LOAD_A(part)                    \
    TILE_LOAD(4, a + part * TILE, 64L); \
    TILE_LOAD(5, a + part * TILE + PANEL, 64L);
#define LOAD_B(part)                    \
    TILE_LOAD(6, b + part * TILE, 64L); \
    TILE_LOAD(7, b + part * TILE + PANEL, 64L);
#define ADD_ALL        \
    TILE_ADD(0, 4, 6); \
    TILE_ADD(1, 4, 7); \
    TILE_ADD(2, 5, 6); \
    TILE_ADD(3, 5, 7);
    for (long k = 0; k < deep; k += 32, a += PARTS * TILE, b += PARTS * TILE) {
        LOAD_A(0)
        LOAD_B(2) ADD_ALL LOAD_B(1) ADD_ALL LOAD_A(1) ADD_ALL LOAD_B(0) ADD_ALL LOAD_A(2) ADD_ALL LOAD_A(0) ADD_ALL
    }
    store_accumulators(c, ldc);
}

/* `a_along` and `b_along` say that K runs along the rows of memory, which are lda and ldb numbers apart. The threads
   share out the longer side of c, and each splits all of the other for itself: to wait for one another would take
   longer. */
void matmul(const argument *arguments) {
    const float *a = arguments[0].p, *b = arguments[1].p;
    float *c = arguments[2].p;
    const long m = arguments[3].i, n = arguments[4].i, k = arguments[5].i;
    const long lda = arguments[6].i, a_along = arguments[7].i, ldb = arguments[8].i, b_along = arguments[9].i;
    long last, first = own_part(m < n ? n : m, &last);
    const long begin = m < n ? 0 : first, end = m < n ? m : last, edge = m < n ? last : n;
    lane left[2 * PANEL], right[WIDE / 16 * PANEL];
    tiles_begin();
    for (long side = m < n ? first : 0; begin < end && side < edge; side += WIDE)
        for (long top = 0; top < k; top += DEEP) {
            const long wide = least(WIDE, edge - side), deep = least(DEEP, k - top);
            for (long j = 0; j < wide; j += 16) {
                const float *from = b + (b_along ? (side + j) * ldb + top : side + j + top * ldb);
                split_strip(from, ldb, b_along, 1, wide - j, deep, right + j / 16 * PANEL);
            }
            for (long i = begin; i < end; i += 32) {
                for (long r = i; r < m && r < i + 32; r += 16) {
                    const float *from = a + (a_along ? r * lda + top : r + top * lda);
                    split_strip(from, lda, a_along, 0, m - r, deep, left + (r - i) / 16 * PANEL);
                }
                if (i + 32 < end && a_along) prefetch_rows(a + (i + 32) * lda + top, lda, 32, deep);
                if (i + 32 < end && !a_along) prefetch_rows(a + i + 32 + top * lda, lda, deep, 32);
                for (long j = 0; j < wide; j += 32) {
                    const lane *others = right + j / 16 * PANEL;
                    const long rows = least(32, m - i), columns = least(32, wide - j);
                    float *to = c + i * n + side + j, block[32 * 32];
                    if (rows == 32 && columns == 32)
                        multiply(left, others, to, n, deep, top > 0);
                    else {
                        multiply(left, others, block, 32, deep, 0);
                        for (long r = 0; r < rows; r++)
                            for (long s = 0; s < columns; s++)
                                to[r * n + s] = block[r * 32 + s] + (top ? to[r * n + s] : 0.0f);
                    }
                }
            }
        }
    tiles_end();
}
#endif
#endif
