/* Muon (Jordan et al., 2024), its rows balanced (Li et al., 2025): one matrix after the other is made orthogonal in a
   thread's own cache. */
#ifndef MUON_H
#define MUON_H

#include "parallel.h"
#include "products.h"
#include "workspace.h"

#define APART LANES /* between rows, so that they do not fall on the same places of the cache */

/* A matrix as Python lays it out: addresses of its gradient, momentum, rows' squares and weights, and its shape. */
typedef struct {
    const float *gradient;
    float *momentum, *squares, *weights;
    int64_t rows, columns;
} matrix;

/* How many numbers of 32 bits a thread needs for matrices of up to M short and N long sides. */
long muon_workspace_size(long m, long n) {
    const long short_side = padded(m), long_side = padded(n) + APART;
    return (2 * short_side + APART + EDGE) * long_side + 4 * short_side * (short_side + APART) + 64 * 8;
}

/* Nesterov's look ahead. */
static inline float ahead(float gradient, float momentum, float beta) {
    return gradient + (momentum - gradient) * beta;
}

/* Turn a block of EDGE by EDGE. */
static void turn_edge(float *block) {
    lane transposed[EDGE * EDGE];
    transpose((const lane *)block, EDGE, transposed, EDGE, EDGE, EDGE);
    memcpy(block, transposed, sizeof transposed);
}

/* Take the step of one matrix into its momentum; x (m, n), zeros around it, becomes where it leads, of norm 1. */
static void look_ahead(const matrix *w, element *x, long ld, float beta) {
    const long size = w->rows * w->columns;
    const int tall = w->rows > w->columns;
    float square = 0.0f;
    for (long i = 0; i < size; i++) {
        w->momentum[i] += (w->gradient[i] - w->momentum[i]) * (1.0f - beta);
        const float v = ahead(w->gradient[i], w->momentum[i], beta);
        square += v * v;
    }
    const float scale = 1.0f / (sqrtf(square) > 1e-7f ? sqrtf(square) : 1e-7f);
    for (long row = 0; row < w->rows; row += EDGE)
        for (long column = 0; column < w->columns; column += EDGE) {
            const long height = least(EDGE, w->rows - row);
            const long width = least(EDGE, w->columns - column);
            float block[EDGE * EDGE] = {0};
            for (long r = 0; r < height; r++) {
                const long at = (row + r) * w->columns + column;
                for (long c = 0; c < width; c++)
                    block[r * EDGE + c] = ahead(w->gradient[at + c], w->momentum[at + c], beta) * scale;
            }
            if (tall) turn_edge(block);
            element *to = tall ? x + column * ld + row : x + row * ld + column;
            for (long r = 0; r < EDGE; r++) put_row(block + r * EDGE, to + r * ld, EDGE);
        }
}

/* Work out by how much each row of x is to be scaled: by the inverse root of what its mean square has been, and all of
   them back to the norm that x has. */
static void balance(const matrix *w, const element *x, long ld, float beta, float *restrict scales) {
    const int tall = w->rows > w->columns;
    float before = 0.0f, after = 0.0f;
    for (long r = 0; r < w->rows; r++) scales[r] = 0.0f;
    for (long i = 0; i < (tall ? w->columns : w->rows); i++) {
        const element *row = x + i * ld;
        float square = 0.0f;
        if (tall)
            for (long r = 0; r < w->rows; r++) scales[r] += get(row[r]) * get(row[r]);
        else
            for (long c = 0; c < w->columns; c++) square += get(row[c]) * get(row[c]);
        if (!tall) scales[i] = square;
    }
    for (long r = 0; r < w->rows; r++) {
        const float square = scales[r];
        w->squares[r] += (square / w->columns - w->squares[r]) * (1.0f - beta);
        scales[r] = 1.0f / (sqrtf(w->squares[r]) + 1e-8f);
        before += square;
        after += square * scales[r] * scales[r];
    }
    const float all = sqrtf(before) / (sqrtf(after) + 1e-8f);
    for (long r = 0; r < w->rows; r++) scales[r] *= all;
}

/* weights = keep · weights + rate · scales · x. */
static void move(const matrix *w, const element *x, long ld, float keep, float rate, const float *scales) {
    const int tall = w->rows > w->columns;
    for (long row = 0; row < w->rows; row += EDGE)
        for (long column = 0; column < w->columns; column += EDGE) {
            const long height = least(EDGE, w->rows - row);
            const long width = least(EDGE, w->columns - column);
            const element *from = tall ? x + column * ld + row : x + row * ld + column;
            float block[EDGE * EDGE];
            for (long r = 0; r < EDGE; r++)
                for (long c = 0; c < EDGE; c++) block[r * EDGE + c] = get(from[r * ld + c]);
            if (tall) turn_edge(block);
            for (long r = 0; r < height; r++) {
                float *restrict to = w->weights + (row + r) * w->columns + column;
                const float step = rate * scales[row + r];
                for (long c = 0; c < width; c++) to[c] = keep * to[c] + step * block[r * EDGE + c];
            }
        }
}

/* c (M, M) = a (M, K) · b (K, M) that is its own mirror image. */
static void mirrored_product(const element *a, long lda, const lane *b, long ldb, float *c, long ldc, long m, long k) {
    for (long i = 0; i < m; i += EDGE) {
        const long next = i + EDGE;
        product(a + i * lda, lda, b + i, ldb, c + i * ldc + i, ldc, EDGE, m - i, k, 0);
        transpose((lane *)c + i * ldc + next, ldc, (lane *)c + next * ldc + i, ldc, EDGE, m - next);
    }
}

/* Bring the singular values of x (m, n) near 1, by five Newton-Schulz iterations. */
static void orthogonalise(element *x, long m, long n, long ld, workspace own) {
    const long near = m + APART;
    lane *packed = allocate(&own, (m + APART) * ld);
    float *gram = allocate(&own, m * near), *some = allocate(&own, EDGE * ld > m * near ? EDGE * ld : m * near);
    element *factor = allocate(&own, m * near);
    lane *packed_gram = allocate(&own, m * near);
    for (int iteration = 0; iteration < 5; iteration++) {
        transpose((const lane *)x, ld / PER_LANE, packed, near, m, n / PER_LANE);
        mirrored_product(x, ld, packed, near, gram, near, m, n);
        for (long r = 0; r < m; r++) put_row(gram + r * near, factor + r * near, m);
        pack(factor, near, packed_gram, near, m, m);
        mirrored_product(factor, near, packed_gram, near, some, near, m, m);
        for (long r = 0; r < m; r++) {
            float *restrict g = gram + r * near;
            for (long c = 0; c < m; c++) g[c] = 2.0315f * some[r * near + c] - 4.7750f * g[c];
            g[r] += 3.4445f;
            put_row(g, factor + r * near, m);
        }
        pack(x, ld, packed, ld, m, n);
        for (long row = 0; row < m; row += EDGE) {
            product(factor + row * near, near, packed, ld, some, ld, EDGE, n, m, 0);
            for (long r = 0; r < EDGE; r++) put_row(some + r * ld, x + (row + r) * ld, n);
        }
    }
}

/* Take a step with each of some matrices, the largest first; each of the `workspaces` has `size` numbers. The threads
   take the next one in turn, which is counted from 0. */
void muon(const argument *a) {
    const matrix *matrices = a[0].p;
    float *workspaces = a[1].p;
    const long size = a[2].i, count = a[4].i;
    const float beta = a[5].r, rate = a[6].r, decay = a[7].r;
    tiles_begin();
    for (long i; (i = __atomic_fetch_add((int64_t *)a[3].p, 1, __ATOMIC_RELAXED)) < count;) {
        const matrix *w = matrices + i;
        const int tall = w->rows > w->columns;
        const long m = padded(tall ? w->columns : w->rows), n = padded(tall ? w->rows : w->columns), ld = n + APART;
        workspace own = {(char *)(workspaces + thread_number() * size)};
        element *x = allocate(&own, m * ld);
        for (long r = 0; r < m; r++) memset(x + r * ld, 0, ld * sizeof(element));
        float scales[w->rows];
        look_ahead(w, x, ld, beta);
        orthogonalise(x, m, n, ld, own);
        balance(w, x, ld, beta, scales);
        move(w, x, ld, 1.0f - rate * decay, -rate * sqrtf(tall ? (float)w->rows / w->columns : 1.0f), scales);
    }
    tiles_end();
}
#endif
