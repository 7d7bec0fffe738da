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

/* The softmax of EDGE rows of scores, the first of which has `before` keys before its own and sees the last `window` up
   to it: weights, whose sums' inverses are `inverses`. The first `count` rows are of tokens. */
static inline void softmax_rows(float *scores, element *weights, long t, long before, long window, float factor,
                                float *inverses, float *logsumexp, long count) {
    const long end = before + EDGE;
    for (long r = 0; r < EDGE; r++) {
        float *restrict s = scores + r * t, total = 0.0f;
        for (long j = 0; j < before + r + 1 - window; j++) s[j] = -INFINITY;
        for (long j = 0; j < EDGE; j++) s[before + j] = j > r ? -INFINITY : s[before + j];
        const float most = largest(s, WHOLE(end)) * factor;
        for (long j = 0; j < WHOLE(end); j++) {
            s[j] = exponential(s[j] * factor - most);
            total += s[j];
        }
        put_row(s, weights + r * t, end);
        inverses[r] = 1.0f / total;
        if (r < count) logsumexp[r] = most + logf(total);
    }
}

/* B sequences of T tokens; H heads of D channels, of which K groups share keys and values. A token sees the last
   `window` tokens up to itself, or all. */
typedef struct {
    long batch, time, heads, kv_heads, width, window;
    long t, d;             /* T and D, padded */
    long group, all, step; /* heads of a group, heads with an rstd (H + K), and numbers of a row, (H + 2·K)·D */
    float factor;          /* of the scores */
} attention_shape;

static inline attention_shape shape_of(const argument *a) {
    attention_shape s = {.batch = a[0].i, .time = a[1].i, .heads = a[2].i, .kv_heads = a[3].i, .width = a[4].i};
    s.t = padded(s.time), s.d = padded(s.width);
    s.window = a[5].i ? a[5].i : s.t;
    s.group = s.heads / s.kv_heads, s.all = s.heads + s.kv_heads, s.step = (s.all + s.kv_heads) * s.width;
    s.factor = 1.0f / sqrtf((float)s.width);
    return s;
}

/* From rows of queries, keys and values, (B·T, (H + 2·K)·D), to what each head gathers, as rows (B·T, H·D). Queries and
   keys are prepared where they are. Keeps `rstd` (B·T, H + K) and `logsumexp` (B·H, T); `workspaces` are those of the
   threads. */
void attend(const argument *a) {
    element *rows = a[0].p, *restrict mixed = a[1].p;
    float *rstd = a[2].p, *logsumexp = a[3].p;
    const attention_shape s = shape_of(a + 10);
    const long time = s.time, heads = s.heads, width = s.width, t = s.t, d = s.d, step = s.step;
    const preparation p = {a[4].p, a[5].p, {a[6].p, a[7].p}, a[16].i, width, a[17].r};
    tiles_begin();
    workspace own = {(char *)((float *)a[8].p + thread_number() * a[9].i)};
    element *queries = allocate(&own, t * d), *values = allocate(&own, t * d), *weights = allocate(&own, EDGE * t);
    lane *keys = allocate(&own, t * d), *packed = allocate(&own, t * d);
    float *scores = allocate(&own, EDGE * t), *out = allocate(&own, EDGE * d);
    const range groups = own_range(s.batch * s.kv_heads);
    for (long i = groups.first; i < groups.end; i++) {
        const long b = i / s.kv_heads, h = i % s.kv_heads;
        element *k = rows + b * time * step + (heads + h) * width, *v = k + s.kv_heads * width;
        float *rstds = rstd + b * time * s.all;
        prepare_rows(&p, k, step, rstds + heads + h, s.all, time);
        gather_prepared(&p, KEY, k, step, queries, time);
        transpose((lane *)queries, d / PER_LANE, keys, t, t, d / PER_LANE);
        gather(v, step, values, time, width);
        pack(values, d, packed, d, t, d);
        for (long head = h * s.group; head < (h + 1) * s.group; head++) {
            element *q = rows + b * time * step + head * width;
            prepare_rows(&p, q, step, rstds + head, s.all, time);
            gather_prepared(&p, QUERY, q, step, queries, time);
            for (long first = 0; first < t; first += EDGE) {
                const long start = first >= s.window ? WHOLE(first + 1 - s.window) : 0, seen = first + EDGE - start;
                float inverses[EDGE];
                product(queries + first * d, d, keys + start, t, scores, t, EDGE, seen, d, 0);
                softmax_rows(scores, weights, t, first - start, s.window, s.factor, inverses,
                             logsumexp + (b * heads + head) * time + first, time - first);
                product(weights, t, packed + start / PER_LANE * d, d, out, d, EDGE, d, seen, 0);
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
                              long window, const float *logsumexp, const float *dot, float factor) {
    for (long r = 0; r < EDGE; r++) {
        float *restrict s = scores + r * t, *restrict o = out + r * t;
        for (long j = 0; j < EDGE; j++) s[j] = j < r ? -INFINITY : s[j];
        for (long j = r + window; j < count; j++) s[j] = -INFINITY;
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

/* What the backward pass of a group of heads works on: the group's keys and values, what is gathered of one head, and
   what comes of a block of EDGE keys. */
typedef struct {
    element *keys, *values, *some, *keys_transposed, *weights, *slopes;
    lane *queries, *queries_transposed, *grads, *grads_transposed, *packed;
    float *of_queries, *scores, *out, *logsumexp, *dot, *block, *of_keys, *of_values;
    long kept; /* numbers of a row of `of_keys` and `of_values`, or 0: each block is done with at once */
} group_workspace;

/* Gradients of keys and values that heads share add up over these. */
static inline group_workspace allocate_group(workspace *own, const attention_shape *s) {
    const long t = s->t, d = s->d;
    group_workspace w = {.kept = s->group > 1 ? d : 0};
    w.keys = allocate(own, t * d), w.values = allocate(own, t * d), w.some = allocate(own, t * d);
    w.keys_transposed = allocate(own, t * d);
    w.weights = allocate(own, EDGE * t), w.slopes = allocate(own, EDGE * t);
    w.queries = allocate(own, t * d), w.queries_transposed = allocate(own, t * d);
    w.grads = allocate(own, t * d), w.grads_transposed = allocate(own, t * d), w.packed = allocate(own, EDGE * t);
    w.of_queries = allocate(own, t * d), w.scores = allocate(own, EDGE * t), w.out = allocate(own, EDGE * t);
    w.logsumexp = allocate(own, t), w.dot = allocate(own, t), w.block = allocate(own, t * d);
    w.of_keys = w.kept ? allocate(own, t * d) : w.block, w.of_values = w.kept ? allocate(own, t * d) : w.block;
    return w;
}

/* A head of queries or keys: its rows as `attend` left them, the rstd of each, where their gradients go, and where that
   of the gain adds up. */
typedef struct {
    int what;
    const element *rows;
    const float *rstd;
    element *before;
    float *of_gain;
} head_rows;

/* The gradients of the rows from `first` up to `end`, given those, (end - first, D), of them as they are matched. */
static inline void prepare_rows_backward(const preparation *p, const attention_shape *s, const head_rows *head,
                                         const float *grad, long first, long end) {
    for (long r = first; r < end; r++)
        prepare_backward(p, head->what, grad + (r - first) * s->d, head->rows + r * s->step, head->rstd[r * s->all], r,
                         head->of_gain, head->before + r * s->step);
}

/* Gather a head's queries and the gradients of what it mixed. */
static inline void gather_head(const group_workspace *w, const preparation *p, const attention_shape *s,
                               const element *queries, const element *grad, const element *mixed,
                               const float *logsumexp) {
    const long time = s->time, inner = s->heads * s->width;
    for (long r = 0; r < s->t; r++) w->logsumexp[r] = r < time ? logsumexp[r] : INFINITY;
    rows_dot(grad, mixed, inner, w->dot, time, s->width);
    gather_prepared(p, QUERY, queries, s->step, w->some, time);
    pack_both(w->some, w->queries, w->queries_transposed, s->t, s->d);
    gather(grad, inner, w->some, time, s->width);
    pack_both(w->some, w->grads, w->grads_transposed, s->t, s->d);
}

/* What a head adds to the gradients of its queries, keys and values, EDGE keys at a time. Those of keys and values
   begin with the group's first head, and are put where they belong after its last. */
static inline void head_backward(const group_workspace *w, const preparation *p, const attention_shape *s,
                                 const head_rows *keys, int is_first, int is_last) {
    const long t = s->t, d = s->d, step = s->step;
    element *to_values = keys->before + s->kv_heads * s->width;
    memset(w->of_queries, 0, t * d * sizeof(float));
    for (long first = 0; first < t; first += EDGE) {
        const long count = least(t - first, padded(EDGE - 1 + s->window)), at = first / PER_LANE * d;
        const long end = least(first + EDGE, s->time);
        float *of_values = w->of_values + first * w->kept, *of_keys = w->of_keys + first * w->kept;
        product(w->keys + first * d, d, w->queries_transposed + first, t, w->scores, t, EDGE, count, d, 0);
        product(w->values + first * d, d, w->grads_transposed + first, t, w->out, t, EDGE, count, d, 0);
        slope_rows(w->scores, w->out, w->weights, w->slopes, t, count, s->window, w->logsumexp + first, w->dot + first,
                   s->factor);
        product(w->weights, t, w->grads + at, d, of_values, d, EDGE, d, count, !is_first);
        for (long r = first; is_last && r < end; r++)
            for (long j = 0; j < s->width; j++) to_values[r * step + j] = put(of_values[(r - first) * d + j]);
        product(w->slopes, t, w->queries + at, d, of_keys, d, EDGE, d, count, !is_first);
        if (is_last) prepare_rows_backward(p, s, keys, of_keys, first, end);
        pack(w->slopes, t, w->packed, t, EDGE, count);
        product(w->keys_transposed + first, t, w->packed, t, w->of_queries + first, t, d, count, EDGE, 1);
    }
}

/* The gradient of the rows that `attend` was given, from that of what it mixed; `rows` are as it left them. Adds up the
   gradients of both gains for each thread, (threads, 2, D). */
void attend_backward(const argument *a) {
    const element *grad = a[0].p, *mixed = a[1].p, *rows = a[2].p;
    const float *rstd = a[3].p, *logsumexp = a[4].p;
    element *before = a[9].p;
    const attention_shape s = shape_of(a + 13);
    const preparation p = {a[5].p, a[6].p, {a[7].p, a[8].p}, a[19].i, s.width, 0.0f};
    const long t = s.t, d = s.d, time = s.time, width = s.width;
    float *of_query = a[10].p, *of_key = of_query;
    if (of_query) of_query += thread_number() * 2 * width, of_key = of_query + width;
    tiles_begin();
    workspace own = {(char *)((float *)a[11].p + thread_number() * a[12].i)};
    const group_workspace w = allocate_group(&own, &s);
    const range groups = own_range(s.batch * s.kv_heads);
    for (long i = groups.first; i < groups.end; i++) {
        const long first = i / s.kv_heads * time, h = i % s.kv_heads; /* the sequence's first row, and the group */
        const long at_key = first * s.step + (s.heads + h) * width;
        const float *rstds = rstd + first * s.all;
        const head_rows keys = {KEY, rows + at_key, rstds + s.heads + h, before + at_key, of_key};
        gather_prepared(&p, KEY, keys.rows, s.step, w.keys, time);
        pack(w.keys, d, w.queries, d, t, d);
        transpose(w.queries, d, (lane *)w.keys_transposed, t / PER_LANE, t / PER_LANE, d);
        gather(keys.rows + s.kv_heads * width, s.step, w.values, time, width);
        for (long head = h * s.group; head < (h + 1) * s.group; head++) {
            const long at = first * s.step + head * width, at_mixed = (first * s.heads + head) * width;
            const head_rows queries = {QUERY, rows + at, rstds + head, before + at, of_query};
            gather_head(&w, &p, &s, queries.rows, grad + at_mixed, mixed + at_mixed,
                        logsumexp + first * s.heads + head * time);
            head_backward(&w, &p, &s, &keys, head == h * s.group, head + 1 == (h + 1) * s.group);
            transpose((lane *)w.of_queries, t, (lane *)w.block, d, d, t);
            prepare_rows_backward(&p, &s, &queries, w.block, 0, time);
        }
    }
    tiles_end();
}
#endif
