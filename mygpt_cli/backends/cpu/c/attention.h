/* Causal attention of B sequences of T tokens over H heads of D channels, of which K groups share keys and values; one
   group of one sequence at a time, with what it works on in the thread's own cache. Scores are never kept: the way back
   makes them anew from each row's `logsumexp` (Dao, 2023, arXiv:2307.08691). */
#ifndef ATTENTION_H
#define ATTENTION_H

#include "parallel.h"
#include "products.h"
#include "workspace.h"

/* How many numbers of 32 bits each thread needs. */
long attention_workspace_size(long time, long width) {
    const long t = padded(time), d = padded(width);
    return 12 * t * d + 5 * EDGE * t + 3 * t + 64 * 20;
}

/* A head's rows lie too far apart for the processor to see what comes next: bring the one near that is needed soon. */
static inline void prefetch_row(const element *rows, long step, long row, long time, long width) {
    if (row + 16 < time)
        for (long j = 0; j < width; j += 64 / sizeof(element)) __builtin_prefetch(rows + (row + 16) * step + j);
}

/* Copy the rows of one head (T, D), filled up with zeros. */
static __attribute__((noinline)) void gather(const element *from, long step, element *to, long time, long width) {
    const long t = padded(time), d = padded(width);
    for (long r = 0; r < t; r++) {
        prefetch_row(from, step, r, time, width);
        memset(to + r * d, 0, d * sizeof(element));
        if (r < time) memcpy(to + r * d, from + r * step, width * sizeof(element));
    }
}

/* What is done with queries and keys before they are matched. They are rotated where there are tables of cosines and
   sines (T, D/2), and normalised before or after that or not at all, with a gain (D) for each of the two or without. */
enum { NO_NORM, NORM_BEFORE, NORM_AFTER };
typedef struct {
    const float *cosines, *sines, *gains[2];
    long qk_norm, width;
    float eps;
} preparation;
enum { QUERY, KEY };

/* Rotate the pairs (j, j + D/2) by the angles of a place, or back. */
static inline __attribute__((always_inline)) void rotate(const preparation *p, float *x, long place, int back) {
    const long half = p->width / 2;
    const float *restrict cosines = p->cosines + place * half, *restrict sines = p->sines + place * half;
    float *restrict left = x, *restrict right = x + half;
    for (long j = 0; j < half; j++) {
        const float first = left[j], second = right[j];
        left[j] = back ? first * cosines[j] - second * sines[j] : first * cosines[j] + second * sines[j];
        right[j] = back ? second * cosines[j] + first * sines[j] : second * cosines[j] - first * sines[j];
    }
}

/* Normalise and rotate a head where it is, but leave to `gather_prepared` what comes after the norm: the way back needs
   what the norm gives. Returns rstd. */
static float prepare(const preparation *p, element *x, long place) {
    const long width = p->width;
    float v[width], square = 0.0f, rstd = 1.0f;
    for (long j = 0; j < width; j++) v[j] = get(x[j]);
    if (p->qk_norm) {
        for (long j = 0; j < width / 2; j++) square += v[j] * v[j] + v[width / 2 + j] * v[width / 2 + j];
        if (width % 2) square += v[width - 1] * v[width - 1];
        rstd = 1.0f / sqrtf(square / width + p->eps);
    }
    if (p->cosines && p->qk_norm != NORM_BEFORE) rotate(p, v, place, 0);
    for (long j = 0; j < width; j++) x[j] = put(v[j] * rstd);
    return rstd;
}

/* Prepare all rows of a head (T, D), and keep the rstd of each. */
static void prepare_rows(const preparation *p, element *rows, long step, float *rstd, long rstd_step, long time) {
    if (!p->cosines && !p->qk_norm) return;
    for (long r = 0; r < time; r++) {
        prefetch_row(rows, step, r, time, p->width);
        rstd[r * rstd_step] = prepare(p, rows + r * step, r);
    }
}

/* Gather one head's queries or keys as they are matched. */
static void gather_prepared(const preparation *p, int what, const element *from, long step, element *to, long time) {
    const long width = p->width, d = padded(width);
    const float *gain = p->gains[what];
    const int rotates = p->cosines && p->qk_norm == NORM_BEFORE;
    gather(from, step, to, time, width);
    for (long r = 0; r < time && (gain || rotates); r++) {
        float v[width];
        for (long j = 0; j < width; j++) v[j] = get(to[r * d + j]);
        if (gain)
            for (long j = 0; j < width; j++) v[j] *= gain[j];
        if (rotates) rotate(p, v, r, 0);
        for (long j = 0; j < width; j++) to[r * d + j] = put(v[j]);
    }
}

/* The gradient of a head as it came, given that of it as it is matched and what `prepare` made of it. Adds up that of
   the gain. */
static void prepare_backward(const preparation *p, int what, const float *grad, const element *prepared, float rstd,
                             long place, float *restrict of_gain, element *restrict before) {
    const long width = p->width;
    const float *gain = p->gains[what];
    float v[width], dot = 0.0f;
    for (long j = 0; j < width; j++) v[j] = grad[j];
    if (p->cosines && p->qk_norm == NORM_BEFORE) rotate(p, v, place, 1);
    if (gain)
        for (long j = 0; j < width; j++) {
            of_gain[j] += v[j] * get(prepared[j]);
            v[j] *= gain[j];
        }
    if (p->qk_norm) {
        for (long j = 0; j < width; j++) dot += v[j] * get(prepared[j]);
        dot /= width;
        for (long j = 0; j < width; j++) v[j] = (v[j] - get(prepared[j]) * dot) * rstd;
    }
    if (p->cosines && p->qk_norm != NORM_BEFORE) rotate(p, v, place, 1);
    for (long j = 0; j < width; j++) before[j] = put(v[j]);
}

/* The softmax of EDGE rows of scores, the first of which is row `first` and sees the keys up to itself: weights, whose
   sums' inverses are `inverses`. */
static inline void softmax_rows(float *scores, element *weights, long t, long first, float factor, float *inverses,
                                float *logsumexp, long time) {
    const long end = first + EDGE;
    for (long r = 0; r < EDGE; r++) {
        float *restrict s = scores + r * t, total = 0.0f;
        for (long j = 0; j < EDGE; j++) s[first + j] = j > r ? -INFINITY : s[first + j];
        const float most = largest(s, WHOLE(end)) * factor;
        for (long j = 0; j < WHOLE(end); j++) {
            s[j] = exponential(s[j] * factor - most);
            total += s[j];
        }
        put_row(s, weights + r * t, end);
        inverses[r] = 1.0f / total;
        if (first + r < time) logsumexp[first + r] = most + logf(total);
    }
}

/* From rows of queries, keys and values, (B·T, (H + 2·K)·D), to what each head gathers, as rows (B·T, H·D). Queries and
   keys are prepared where they are. Keeps `rstd` (B·T, H + K) and `logsumexp` (B·H, T); `workspaces` are those of the
   threads. */
void attend(const argument *a) {
    element *rows = a[0].p, *restrict mixed = a[1].p;
    float *rstd = a[2].p, *logsumexp = a[3].p;
    const long batch = a[10].i, time = a[11].i, heads = a[12].i, kv_heads = a[13].i, width = a[14].i;
    const preparation p = {a[4].p, a[5].p, {a[6].p, a[7].p}, a[15].i, width, a[16].r};
    const long t = padded(time), d = padded(width), group = heads / kv_heads;
    const long all = heads + kv_heads, step = (all + kv_heads) * width;
    const float factor = 1.0f / sqrtf((float)width);
    tiles_begin();
    workspace own = {(char *)((float *)a[8].p + thread_number() * a[9].i)};
    element *queries = allocate(&own, t * d), *values = allocate(&own, t * d), *weights = allocate(&own, EDGE * t);
    lane *keys = allocate(&own, t * d), *packed = allocate(&own, t * d);
    float *scores = allocate(&own, EDGE * t), *out = allocate(&own, EDGE * d);
    const range groups = own_range(batch * kv_heads);
    for (long i = groups.first; i < groups.end; i++) {
        const long b = i / kv_heads, h = i % kv_heads;
        element *k = rows + b * time * step + (heads + h) * width, *v = k + kv_heads * width;
        float *rstds = rstd + b * time * all;
        prepare_rows(&p, k, step, rstds + heads + h, all, time);
        gather_prepared(&p, KEY, k, step, queries, time);
        transpose((lane *)queries, d / PER_LANE, keys, t, t, d / PER_LANE);
        gather(v, step, values, time, width);
        pack(values, d, packed, d, t, d);
        for (long head = h * group; head < (h + 1) * group; head++) {
            element *q = rows + b * time * step + head * width;
            prepare_rows(&p, q, step, rstds + head, all, time);
            gather_prepared(&p, QUERY, q, step, queries, time);
            for (long first = 0; first < t; first += EDGE) {
                const long end = first + EDGE;
                float inverses[EDGE];
                product(queries + first * d, d, keys, t, scores, t, EDGE, end, d, 0);
                softmax_rows(scores, weights, t, first, factor, inverses, logsumexp + (b * heads + head) * time, time);
                product(weights, t, packed, d, out, d, EDGE, d, end, 0);
                for (long r = 0; r < EDGE && first + r < time; r++) {
                    element *restrict y = mixed + ((b * time + first + r) * heads + head) * width;
                    for (long j = 0; j < width; j++) y[j] = put(out[r * d + j] * inverses[r]);
                }
            }
        }
    }
    tiles_end();
}

/* For EDGE keys, from `first` on, and `count` queries, from the first that sees one of them: scores become weights, and
   the gradients of weights, `out`, those of scores. */
static inline void slope_rows(float *scores, float *out, element *weights, element *slopes, long t, long count,
                              const float *logsumexp, const float *dot, float factor) {
    for (long r = 0; r < EDGE; r++) {
        float *restrict s = scores + r * t, *restrict o = out + r * t;
        for (long j = 0; j < EDGE; j++) s[j] = j < r ? -INFINITY : s[j];
        for (long j = 0; j < WHOLE(count); j++) {
            s[j] = exponential(s[j] * factor - logsumexp[j]);
            o[j] = s[j] * (o[j] - dot[j]) * factor;
        }
        put_row(s, weights + r * t, count);
        put_row(o, slopes + r * t, count);
    }
}

/* Pack a head's rows (T, D), as they are and transposed. */
static void pack_both(const element *rows, lane *packed, lane *transposed, long t, long d) {
    pack(rows, d, packed, d, t, d);
    transpose((const lane *)rows, d / PER_LANE, transposed, t, t, d / PER_LANE);
}

/* The products of the gradients (T, D) of what a head gathered with that, row by row. */
static void rows_dot(const element *grad, const element *mixed, long step, float *dot, long time, long width) {
    for (long r = 0; r < padded(time); r++) {
        dot[r] = 0.0f;
        prefetch_row(grad, step, r, time, width);
        prefetch_row(mixed, step, r, time, width);
        if (r < time)
            for (long j = 0; j < width; j++) dot[r] += get(grad[r * step + j]) * get(mixed[r * step + j]);
    }
}

/* The gradient of the rows that `attend` was given, from that of what it mixed; `rows` are as it left them. Adds up the
   gradients of both gains for each thread, (threads, 2, D). */
void attend_backward(const argument *a) {
    const element *grad = a[0].p, *mixed = a[1].p, *rows = a[2].p;
    const float *rstd = a[3].p, *logsumexp = a[4].p;
    element *before = a[9].p;
    const long batch = a[13].i, time = a[14].i, heads = a[15].i, kv_heads = a[16].i, width = a[17].i;
    const preparation p = {a[5].p, a[6].p, {a[7].p, a[8].p}, a[18].i, width, 0.0f};
    const long t = padded(time), d = padded(width), group = heads / kv_heads, inner = heads * width;
    const long all = heads + kv_heads, step = (all + kv_heads) * width;
    const long kept = group > 1 ? d : 0; /* gradients of shared keys and values add up; others are done with at once */
    const float factor = 1.0f / sqrtf((float)width);
    float *of_query = a[10].p, *of_key = of_query;
    if (of_query) of_query += thread_number() * 2 * width, of_key = of_query + width;
    tiles_begin();
    workspace own = {(char *)((float *)a[11].p + thread_number() * a[12].i)};
    element *keys = allocate(&own, t * d), *values = allocate(&own, t * d), *some = allocate(&own, t * d);
    element *keys_transposed = allocate(&own, t * d), *weights = allocate(&own, EDGE * t),
            *slopes = allocate(&own, EDGE * t);
    lane *queries = allocate(&own, t * d), *queries_transposed = allocate(&own, t * d);
    lane *grads = allocate(&own, t * d), *grads_transposed = allocate(&own, t * d), *packed = allocate(&own, EDGE * t);
    float *of_queries = allocate(&own, t * d), *scores = allocate(&own, EDGE * t), *out = allocate(&own, EDGE * t);
    float *logsumexps = allocate(&own, t), *dot = allocate(&own, t), *block = allocate(&own, t * d);
    float *of_keys = group > 1 ? allocate(&own, t * d) : block, *of_values = group > 1 ? allocate(&own, t * d) : block;
    const range groups = own_range(batch * kv_heads);
    for (long i = groups.first; i < groups.end; i++) {
        const long b = i / kv_heads, h = i % kv_heads, at_key = b * time * step + (heads + h) * width;
        const element *k = rows + at_key, *v = k + kv_heads * width;
        element *to_key = before + at_key, *to_value = to_key + kv_heads * width;
        const float *rstds = rstd + b * time * all;
        gather_prepared(&p, KEY, k, step, keys, time);
        pack(keys, d, queries, d, t, d);
        transpose(queries, d, (lane *)keys_transposed, t / PER_LANE, t / PER_LANE, d);
        gather(v, step, values, time, width);
        for (long head = h * group; head < (h + 1) * group; head++) {
            const long at_query = b * time * step + head * width, at_mixed = b * time * inner + head * width;
            const element *q = rows + at_query, *g = grad + at_mixed;
            const int add = head > h * group, last = head + 1 == (h + 1) * group;
            for (long r = 0; r < t; r++) logsumexps[r] = r < time ? logsumexp[(b * heads + head) * time + r] : INFINITY;
            rows_dot(g, mixed + at_mixed, inner, dot, time, width);
            gather_prepared(&p, QUERY, q, step, some, time);
            pack_both(some, queries, queries_transposed, t, d);
            gather(g, inner, some, time, width);
            pack_both(some, grads, grads_transposed, t, d);
            memset(of_queries, 0, t * d * sizeof(float));
            for (long first = 0; first < t; first += EDGE) {
                const long count = t - first, at = first / PER_LANE * d, end = least(first + EDGE, time);
                float *of_value = of_values + first * kept, *of_k = of_keys + first * kept;
                product(keys + first * d, d, queries_transposed + first, t, scores, t, EDGE, count, d, 0);
                product(values + first * d, d, grads_transposed + first, t, out, t, EDGE, count, d, 0);
                slope_rows(scores, out, weights, slopes, t, count, logsumexps + first, dot + first, factor);
                product(weights, t, grads + at, d, of_value, d, EDGE, d, count, add);
                for (long r = first; last && r < end; r++)
                    for (long j = 0; j < width; j++) to_value[r * step + j] = put(of_value[(r - first) * d + j]);
                product(slopes, t, queries + at, d, of_k, d, EDGE, d, count, add);
                for (long r = first; last && r < end; r++)
                    prepare_backward(&p, KEY, of_k + (r - first) * d, k + r * step, rstds[r * all + heads + h], r,
                                     of_key, to_key + r * step);
                pack(slopes, t, packed, t, EDGE, count);
                product(keys_transposed + first, t, packed, t, of_queries + first, t, d, count, EDGE, 1);
            }
            transpose((lane *)of_queries, t, (lane *)block, d, d, t);
            for (long r = 0; r < time; r++)
                prepare_backward(&p, QUERY, block + r * d, q + r * step, rstds[r * all + head], r, of_query,
                                 before + at_query + r * step);
        }
    }
    tiles_end();
}
#endif
