/* One step of generation: B sequences read T tokens more each, and each weight is read once for all of them.

   Weights are float32, bfloat16, or int8 with one scale for each row; everything else is float32. Every sum is
   taken in the same order whatever B and T are, so that a sequence is the same bits alone or among others, and
   whether it is read token by token or several at once. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "parallel.h"
#include "vectors.h"
#include "weights.h"

#define STREAMS 2 /* of weights, side by side for one token: the memory gives more so */
#define TOKENS 4  /* that share the loads of weights, or as MANY as the registers hold */
#ifdef __AVX512F__
#define MANY 12
#else
#define MANY 4
#endif

/* A linear layer, a norm and a block as Python lays them out: addresses, 0 for what there is not. Scales and bias are
   filled up as the rows are. `rotated_first` says that queries and keys are rotated before their norm. */
typedef struct {
    const weight *rows;
    const float *scales, *bias;
} linear;
enum { NO_NORM, RMS, LAYER };
typedef struct {
    int64_t kind;
    const float *gain, *bias;
} norm;
typedef struct {
    int64_t rotates, window; /* the tokens that attention looks at, 0 for all */
    norm before_attention, query, key, before_mlp;
    linear qkv, out, gate, up, down;
} block;
typedef struct {
    int64_t layers, width, heads, kv_heads, head_width, mlp_width, activation, rotated_first;
    const float *embedding, *positions, *cosines, *sines;
    norm embedded, last;
    linear head;
    block blocks[];
} model;

/* Halve the vectors whose sums are wanted: blocks of a, then of b, each half as long. */
#define LOW8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define HIGH8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define LOW4 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
#define HIGH4 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31
#define LOW2 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29
#define HIGH2 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31
#define LOW1 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define HIGH1 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define HALVE(a, b, n) (SHUFFLE(a, b, LOW##n) + SHUFFLE(a, b, HIGH##n))

/* The sums of four vectors, each in a quarter of what comes, still to be halved twice. */
static inline vector quarters(const vector v[4]) {
    const vector ab = HALVE(v[0], v[1], 8), cd = HALVE(v[2], v[3], 8);
    return HALVE(ab, cd, 4);
}

static inline float total(vector v) {
    const vector four[4] = {v, v, v, v}, q = quarters(four), two = HALVE(q, q, 2), one = HALVE(two, two, 1);
    return one[0];
}

/* e to the x by 2^n · 2^f with f in [-1/2, 1/2]; NaN stays NaN. */
static inline vector exponential(vector x) {
    const vector zero = {0}, magic = zero + 12582912.0f; /* added and taken away again, it rounds */
    x = choose(x < -87.0f, zero - 87.0f, x);
    x = choose(x > 88.0f, zero + 88.0f, x);
    const vector n = x * 1.44269504f + magic - magic, f = x * 1.44269504f - n;
    vector p = zero + 1.5403530e-4f;
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    return p * (vector)((__builtin_convertvector(n, whole) + 127) << 23);
}

enum { RELU, RELU2, GELU_NEW, GELU, SILU, IDENTITY };

static inline __attribute__((always_inline)) vector activated(vector x, long kind) {
    const vector zero = {0}, positive = choose(x < zero, zero, x);
    switch (kind) {
    case RELU: return positive;
    case RELU2: return positive * positive;
    case GELU_NEW: return x / (exponential(-1.5957691f * (x + 0.044715f * x * x * x)) + 1.0f);
    case GELU:
        for (int i = 0; i < LANES; i++) x[i] *= 0.5f * (1.0f + erff(x[i] * 0.70710678f));
        return x;
    case SILU: return x / (exponential(-x) + 1.0f);
    default: return x;
    }
}

#define AHEAD (2048 / (long)sizeof(weight)) /* weights that are asked of the memory before their turn */

enum { SET, ADD, TIMES };

/* Of T times ROWS rows of weights and S tokens: y[s][row + r] =, += or *= activated(weights[row + r] · x[s]). */
static inline __attribute__((always_inline)) void multiply_rows(const linear *w, const float *x, float *y, long row,
                                                                long in, long rows, long out, long kind, int how,
                                                                const int T, const int S) {
    const weight *from[STREAMS];
    const long size = in * ROWS; /* of what is read in one stream; behind it comes the next stream's */
    part sums[STREAMS][MANY][2][PARTS_OF_VECTOR];
    for (int t = 0; t < T; t++) {
        from[t] = w->rows + row * in + t * size;
        for (int s = 0; s < S; s++)
            for (int half = 0; half < 2; half++)
                for (int p = 0; p < PARTS_OF_VECTOR; p++) sums[t][s][half][p] = (part){0};
    }
    for (long at = 0; at < size; at += 2 * ROWS) {
        const long next = at + AHEAD, ahead = next < size ? next : next + (T - 1) * size;
        const float *column = x + at / ROWS;
        for (int t = 0; t < T; t++) {
            for (size_t line = 0; line < 2 * ROWS * sizeof(weight); line += 64)
                __builtin_prefetch((const char *)(from[t] + ahead) + line);
            for (int p = 0; p < PARTS_OF_VECTOR; p++) {
                part halves[4];
                load(from[t] + at + p * AT, halves);
                for (int s = 0; s < S; s++)
                    for (int n = 0; n < 4; n++) sums[t][s][n % 2][p] += halves[n] * column[s * in + n / 2];
            }
        }
    }
    for (int t = 0; t < T; t++)
        for (int s = 0; s < S; s++)
            for (int half = 0; half < 2; half++) {
                const long first = row + t * ROWS + half * LANES, some = rows - first < LANES ? rows - first : LANES;
                vector total, before = {0};
                if (some <= 0) break;
                memcpy(&total, sums[t][s][half], sizeof total);
                if (w->scales) total *= *(const vector *)(w->scales + first);
                if (w->bias) total += *(const vector *)(w->bias + first);
                total = activated(total, kind);
                if (how != SET) memcpy(&before, y + s * out + first, some * sizeof(float));
                total = how == TIMES ? total * before : total + before;
                memcpy(y + s * out + first, &total, some * sizeof(float));
            }
}

/* This thread's rows of one linear layer: x (N, in) to y (N, out). */
static void multiply_own(const linear *w, const float *x, float *y, long in, long rows, long out, long count,
                         long kind, int how) {
    const range own = own_range((rows + ROWS - 1) / ROWS);
    long row = own.first * ROWS;
    for (; count == 1 && row + STREAMS * ROWS <= own.end * ROWS; row += STREAMS * ROWS)
        multiply_rows(w, x, y, row, in, rows, out, kind, how, STREAMS, 1);
    for (; row < own.end * ROWS; row += ROWS) {
        long s = 0;
        for (; s + MANY <= count; s += MANY)
            multiply_rows(w, x + s * in, y + s * out, row, in, rows, out, kind, how, 1, MANY);
        for (; s + TOKENS <= count; s += TOKENS)
            multiply_rows(w, x + s * in, y + s * out, row, in, rows, out, kind, how, 1, TOKENS);
        for (; s < count; s++) multiply_rows(w, x + s * in, y + s * out, row, in, rows, out, kind, how, 1, 1);
    }
}

/* A linear layer, its rows shared out among the threads. */
static void multiply(const linear *w, const float *x, float *y, long in, long rows, long out, long count, long kind,
                     int how) {
    multiply_own(w, x, y, in, rows, out, count, kind, how);
    barrier();
}

static float dot(const float *a, const float *b, long count) {
    vector sums = {0};
    long i = 0;
    for (; i + LANES <= count; i += LANES) sums += *(const vector *)(a + i) * *(const vector *)(b + i);
    float sum = total(sums);
    for (; i < count; i++) sum += a[i] * b[i];
    return sum;
}

/* The products of a vector with the next four, their width a multiple of LANES; each as `dot` gives it. */
static void dots(const float *a, const float *four, long width, float *to) {
    vector sums[4] = {0};
    for (long i = 0; i < width; i += LANES) {
        const vector v = *(const vector *)(a + i);
        for (int n = 0; n < 4; n++) sums[n] += v * *(const vector *)(four + n * width + i);
    }
    const vector q = quarters(sums), two = HALVE(q, q, 2), one = HALVE(two, two, 1);
    memcpy(to, &one, 4 * sizeof(float));
}

/* RMSNorm or LayerNorm; y may be x. */
static void normalise(const float *x, float *y, const norm *n, long width, float eps) {
    float mean = 0.0f;
    if (n->kind == LAYER) {
        for (long j = 0; j < width; j++) mean += x[j];
        mean /= width;
    }
    float v[width];
    for (long j = 0; j < width; j++) v[j] = x[j] - mean;
    const float rstd = 1.0f / sqrtf(dot(v, v, width) / width + eps);
    for (long j = 0; j < width; j++) y[j] = v[j] * rstd;
    if (n->gain)
        for (long j = 0; j < width; j++) y[j] *= n->gain[j];
    if (n->bias)
        for (long j = 0; j < width; j++) y[j] += n->bias[j];
}

/* Rotate the pairs (j, j + D/2) of a head by the angles of its position. */
static void rotate(float *x, const float *cosines, const float *sines, long width) {
    const long half = width / 2;
    for (long j = 0; j < half; j++) {
        const float first = x[j], second = x[j + half];
        x[j] = first * cosines[j] + second * sines[j];
        x[j + half] = second * cosines[j] - first * sines[j];
    }
}

/* Make a head of a query or key what it is matched as. */
static void prepare(float *x, const model *m, int rotates, const norm *n, long place, float eps) {
    const long width = m->head_width, at = place * (width / 2);
    if (n->kind && !m->rotated_first) normalise(x, x, n, width, eps);
    if (rotates) rotate(x, m->cosines + at, m->sines + at, width);
    if (n->kind && m->rotated_first) normalise(x, x, n, width, eps);
}

/* One query head over its keys and values (T, D): y (D) is their mean, weighed by the match. */
static void attend(const float *q, const float *keys, const float *values, float *y, long time, long width) {
    float weights[padded(time)], most = -INFINITY, sum = 0.0f;
    const float factor = 1.0f / sqrtf((float)width);
    for (long t = 0; t < time; t++) {
        if (t + 4 <= time && width % LANES == 0) {
            dots(q, keys + t * width, width, weights + t);
            t += 3;
        } else
            weights[t] = dot(q, keys + t * width, width);
    }
    for (long t = 0; t < time; t++) {
        weights[t] *= factor;
        most = weights[t] > most ? weights[t] : most;
    }
    for (long t = time; t < padded(time); t++) weights[t] = most;
    for (long t = 0; t < time; t += LANES) {
        vector *some = (vector *)(weights + t);
        *some = exponential(*some - most);
    }
    for (long t = 0; t < time; t++) sum += weights[t];
    for (long t = 0; t < time; t++) weights[t] /= sum;
    long j = 0;
    for (; j + 4 * LANES <= width; j += 4 * LANES) {
        vector means[4] = {0};
        for (long t = 0; t < time; t++)
            for (int i = 0; i < 4; i++) means[i] += weights[t] * *(const vector *)(values + t * width + j + i * LANES);
        memcpy(y + j, means, sizeof means);
    }
    for (; j < width; j++) {
        y[j] = 0.0f;
        for (long t = 0; t < time; t++) y[j] += weights[t] * values[t * width + j];
    }
}

/* The norms of all tokens. Of few, each thread works them out for its own use: nobody need wait for others. */
static const float *normalise_all(const float *x, float *shared, float *own, const norm *n, long width, long count,
                                  float eps) {
    const long in = padded(width);
    if (own) {
        for (long i = 0; i < count; i++) normalise(x + i * width, own + i * in, n, width, eps);
        return own;
    }
    const range some = own_range(count);
    for (long i = some.first; i < some.end; i++) normalise(x + i * width, shared + i * in, n, width, eps);
    barrier();
    return shared;
}

/* The place of the largest of some numbers, the first where several are; -1 when they are not finite. */
static int64_t place_of_largest(const float *x, long count) {
    vector most = {0}, wrong = {0};
    whole at = {0}, place;
    for (int i = 0; i < LANES; i++) most[i] = -INFINITY, place[i] = i;
    long n = 0;
    for (; n + LANES <= count; n += LANES, place += LANES) {
        const vector v = *(const vector *)(x + n);
        const whole better = v > most;
        most = choose(better, v, most);
        at = (better & place) | (~better & at);
        wrong += v - v;
    }
    float best = -INFINITY, bad = total(wrong);
    int64_t first = -1;
    for (int i = 0; i < LANES; i++)
        if (most[i] > best || (most[i] == best && at[i] < first)) best = most[i], first = at[i];
    for (; n < count; n++) {
        if (x[n] > best) best = x[n], first = n;
        bad += x[n] - x[n];
    }
    return bad == 0.0f ? first : -1;
}

/* What a step works on, and where. Of N = B · T tokens: the residual stream (N, width), rows of queries, keys and
   values (N, qkv), and what goes into linear layers, their widths filled up: normalised (by all threads, or by each
   `alone`), mixed and active. */
typedef struct {
    const model *m;
    const int64_t *lengths;
    long batch, time, count, sequences, capacity;
    float *keys, *values, *x, *split, *normed, *alone, *mixed, *active, eps;
} step;

static void embed(const step *s, const int64_t *ids) {
    const model *m = s->m;
    const range some = own_range(s->count);
    for (long n = some.first; n < some.end; n++) {
        const long place = s->lengths[n / s->time] + n % s->time;
        float *x = s->x + n * m->width;
        memcpy(x, m->embedding + ids[n] * m->width, m->width * sizeof(float));
        if (m->positions)
            for (long j = 0; j < m->width; j++) x[j] += m->positions[place * m->width + j];
        if (m->embedded.kind) normalise(x, x, &m->embedded, m->width, s->eps);
    }
    barrier();
}

/* The attention of a layer, from `split` to `mixed`. */
static void attend_all(const step *s, long layer) {
    const model *m = s->m;
    const block *w = m->blocks + layer;
    const int rotates = m->cosines && w->rotates;
    const long heads = m->heads, kv_heads = m->kv_heads, group = heads / kv_heads, width = m->head_width;
    const long row = (heads + 2 * kv_heads) * width, to = padded(heads * width), area = s->capacity * width;
    const range new = own_range(s->batch * kv_heads), own = own_range(s->batch * heads);
    for (long i = new.first; i < new.end; i++) {
        const long b = i / kv_heads, h = i % kv_heads, at = (layer * s->sequences * kv_heads + i) * area;
        for (long t = 0; t < s->time; t++) {
            const long place = s->lengths[b] + t;
            float *k = s->split + (b * s->time + t) * row + (heads + h) * width;
            prepare(k, m, rotates, &w->key, place, s->eps);
            memcpy(s->keys + at + place * width, k, width * sizeof(float));
            memcpy(s->values + at + place * width, k + kv_heads * width, width * sizeof(float));
        }
    }
    if (group > 1) barrier(); /* else a thread needs only what it has written itself */
    for (long i = own.first; i < own.end; i++) {
        const long b = i / heads, h = i % heads, at = (layer * s->sequences * kv_heads + i / group) * area;
        for (long t = 0; t < s->time; t++) {
            const long n = b * s->time + t, place = s->lengths[b] + t;
            float *q = s->split + n * row + h * width;
            prepare(q, m, rotates, &w->query, place, s->eps);
            const long first = w->window && place >= w->window ? place + 1 - w->window : 0, from = at + first * width;
            attend(q, s->keys + from, s->values + from, s->mixed + n * to + h * width, place + 1 - first, width);
        }
    }
    barrier();
}

static void block_step(const step *s, long layer) {
    const model *m = s->m;
    const block *w = m->blocks + layer;
    const long width = m->width, in = padded(width), inner = m->heads * m->head_width, wide = m->mlp_width;
    const long row = inner + 2 * m->kv_heads * m->head_width, count = s->count;
    const float *y = normalise_all(s->x, s->normed, s->alone, &w->before_attention, width, count, s->eps);
    multiply(&w->qkv, y, s->split, in, row, row, count, IDENTITY, SET);
    attend_all(s, layer);
    multiply(&w->out, s->mixed, s->x, padded(inner), width, width, count, IDENTITY, ADD);
    y = normalise_all(s->x, s->normed, s->alone, &w->before_mlp, width, count, s->eps);
    if (w->gate.rows) { /* of the same rows as what it is multiplied with */
        multiply_own(&w->gate, y, s->active, in, wide, padded(wide), count, m->activation, SET);
        multiply(&w->up, y, s->active, in, wide, padded(wide), count, IDENTITY, TIMES);
    } else
        multiply(&w->up, y, s->active, in, wide, padded(wide), count, m->activation, SET);
    multiply(&w->down, s->active, s->x, padded(wide), width, width, count, IDENTITY, ADD);
}

/* Read T tokens, `ids` (B, T), for each sequence. Its `lengths` (B) are the tokens that it has in the cache, whose
   keys and values (layers, sequences, kv_heads, capacity, D) grow by T. `scratch` holds zeros at first, for
   B · T · (width + qkv + padded(width) + padded(heads · D) + padded(mlp_width)) numbers. Writes the logits
   (B, T, vocab) of the first tokens of the vocabulary, and the `best` (B, T) of them. */
void decode(const argument *a) {
    const model *m = a[0].p;
    const long batch = a[3].i, time = a[4].i, vocab = a[5].i, count = batch * time, in = padded(m->width);
    const long inner = m->heads * m->head_width, row = inner + 2 * m->kv_heads * m->head_width;
    float *x = a[10].p, *split = x + count * m->width, *normed = split + count * row, *mixed = normed + count * in;
    float *logits = a[11].p;
    int64_t *best = a[12].p;
    const float eps = a[13].r, cap = a[14].r;
    const int few = count <= TOKENS;
    float zeros[few ? count * in : 1], *alone = few ? memset(zeros, 0, sizeof zeros) : 0;
    const step s = {.m = m,
                    .lengths = a[2].p,
                    .batch = batch,
                    .time = time,
                    .count = count,
                    .capacity = a[6].i,
                    .sequences = a[7].i,
                    .keys = a[8].p,
                    .values = a[9].p,
                    .x = x,
                    .split = split,
                    .normed = normed,
                    .alone = alone,
                    .mixed = mixed,
                    .active = mixed + count * padded(inner),
                    .eps = eps};
    embed(&s, a[1].p);
    for (long layer = 0; layer < m->layers; layer++) block_step(&s, layer);
    const float *y = normalise_all(x, normed, alone, &m->last, m->width, count, eps);
    multiply(&m->head, y, logits, in, vocab, vocab, count, IDENTITY, SET);
    if (cap > 0.0f) {
        const range some = own_range(count * vocab);
        for (long i = some.first; i < some.end; i++) logits[i] = cap * tanhf(logits[i] / cap);
        barrier();
    }
    const range tokens = own_range(count);
    for (long n = tokens.first; n < tokens.end; n++) best[n] = place_of_largest(logits + n * vocab, vocab);
}
