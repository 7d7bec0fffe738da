/* What a training pass does between its matrix products, one trip through memory each.

   Rows are B sequences of T tokens, one after the other: row b * T + t. Numbers are kept as `element`, bfloat16
   or float32, and computed in float32. Each output is written by one thread alone, and sums over rows are kept
   by thread, so that the same number of threads gives the same bits. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void) { return 0; }
#endif

#ifdef BFLOAT16
typedef uint16_t element;
static inline float get(element x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline element put(float value) { /* rounded to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (element)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#else
typedef float element;
static inline float get(element x) { return x; }
static inline element put(float value) { return value; }
#endif

#define PARALLEL _Pragma("omp parallel for schedule(static)")

/* e to the x by 2^n · 2^f with f in [-1/2, 1/2]; NaN stays NaN. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = __builtin_rintf(x * 1.44269504f);
    float f = x * 1.44269504f - n;
    float p = 1.5403530e-4f;
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

/* The largest of some numbers, NaN left aside. */
static inline float largest(const float *v, long count) {
    float most = -INFINITY;
    _Pragma("omp simd reduction(max : most)")
    for (long j = 0; j < count; j++) most = v[j] > most ? v[j] : most;
    return most;
}

static inline float hyperbolic_tangent(float x) { return 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f); }

/* out = x + mask · branch, and normed = norm(out): RMSNorm, or LayerNorm where there is a gain.
   Any of x, branch, mask, out and bias may be missing. Keeps each row's mean (of LayerNorm) and scale. */
void add_norm(const element *x, const element *branch, const element *mask, element *restrict out,
              element *restrict normed, float *restrict means, float *restrict scales, const float *gain,
              const float *bias, long rows, long width, float eps) {
    PARALLEL
    for (long r = 0; r < rows; r++) {
        const long at = r * width;
        float v[width];
        if (branch && mask)
            for (long j = 0; j < width; j++) v[j] = get(branch[at + j]) * get(mask[at + j]);
        else if (branch)
            for (long j = 0; j < width; j++) v[j] = get(branch[at + j]);
        else
            for (long j = 0; j < width; j++) v[j] = 0.0f;
        if (x)
            for (long j = 0; j < width; j++) v[j] += get(x[at + j]);
        if (out)
            for (long j = 0; j < width; j++) out[at + j] = put(v[j]);
        float mean = 0.0f, square = 0.0f;
        if (gain) {
            for (long j = 0; j < width; j++) mean += v[j];
            mean /= width;
            means[r] = mean;
        }
        for (long j = 0; j < width; j++) square += (v[j] - mean) * (v[j] - mean);
        const float scale = 1.0f / sqrtf(square / width + eps);
        scales[r] = scale;
        if (gain && bias)
            for (long j = 0; j < width; j++) normed[at + j] = put((v[j] - mean) * scale * gain[j] + bias[j]);
        else if (gain)
            for (long j = 0; j < width; j++) normed[at + j] = put((v[j] - mean) * scale * gain[j]);
        else
            for (long j = 0; j < width; j++) normed[at + j] = put(v[j] * scale);
    }
}

/* grad = before + the gradient before the norm, given that after it; masked = mask · grad, where there is one.
   `x` is what was normalised for LayerNorm, and what came of it for RMSNorm. `by_thread`, (threads, 2, width),
   collects the gradients of gain and bias. */
void norm_backward(const element *grad_normed, const element *x, const float *means, const float *scales,
                   const float *gain, const element *before, const element *mask, element *restrict grad,
                   element *restrict masked, float *by_thread, long rows, long width) {
    PARALLEL
    for (long r = 0; r < rows; r++) {
        const long at = r * width;
        float d[width], unit[width];
        const float scale = scales[r];
        float along = 0.0f, mean = 0.0f;
        if (gain) {
            float *restrict grad_gain = by_thread + omp_get_thread_num() * 2 * width, *restrict grad_bias = grad_gain + width;
            const float center = means[r];
            for (long j = 0; j < width; j++) {
                const float g = get(grad_normed[at + j]);
                unit[j] = (get(x[at + j]) - center) * scale;
                grad_gain[j] += g * unit[j];
                grad_bias[j] += g;
                d[j] = g * gain[j];
                mean += d[j];
                along += d[j] * unit[j];
            }
            mean /= width;
        } else
            for (long j = 0; j < width; j++) {
                d[j] = get(grad_normed[at + j]);
                unit[j] = get(x[at + j]);
                along += d[j] * unit[j];
            }
        along /= width;
        for (long j = 0; j < width; j++) d[j] = scale * (d[j] - mean - unit[j] * along);
        if (before)
            for (long j = 0; j < width; j++) d[j] += get(before[at + j]);
        for (long j = 0; j < width; j++) grad[at + j] = put(d[j]);
        if (mask)
            for (long j = 0; j < width; j++) masked[at + j] = put(d[j] * get(mask[at + j]));
    }
}

/* From rows of queries, keys and values, (B·T, 3·H·D), to three of (B·H, T, D). With tables of cosines and
   sines, (T, D/2), queries and keys are turned by their position and normalised, and their scales kept. */
void split_heads(const element *qkv, element *restrict split, float *restrict scales, const float *cosines,
                 const float *sines, long batch, long time, long heads, long width, float eps) {
    const long half = width / 2, part = batch * heads * time * width;
    PARALLEL
    for (long r = 0; r < batch * time; r++) {
        const long b = r / time, t = r % time;
        for (long i = 0; i < 3 * heads; i++) {
            const element *x = qkv + (r * 3 * heads + i) * width;
            element *restrict y = split + (i / heads) * part + ((b * heads + i % heads) * time + t) * width;
            if (!cosines || i >= 2 * heads) {
                memcpy(y, x, width * sizeof(element));
                continue;
            }
            const float *c = cosines + t * half, *s = sines + t * half;
            float square = 0.0f;
            for (long j = 0; j < width; j++) square += get(x[j]) * get(x[j]);
            const float scale = 1.0f / sqrtf(square / width + eps);
            scales[r * 2 * heads + i] = scale;
            for (long j = 0; j < half; j++) {
                const float first = get(x[j]) * scale, second = get(x[j + half]) * scale;
                y[j] = put(first * c[j] + second * s[j]);
                y[j + half] = put(second * c[j] - first * s[j]);
            }
        }
    }
}

/* The way back of split_heads: from gradients (3, B·H, T, D) to those of the rows. */
void split_heads_backward(const element *grad, const element *split, const float *scales, const float *cosines,
                          const float *sines, element *restrict rows, long batch, long time, long heads, long width) {
    const long half = width / 2, part = batch * heads * time * width;
    PARALLEL
    for (long r = 0; r < batch * time; r++) {
        const long b = r / time, t = r % time;
        for (long i = 0; i < 3 * heads; i++) {
            const long at = (i / heads) * part + ((b * heads + i % heads) * time + t) * width;
            const element *g = grad + at, *y = split + at;
            element *restrict x = rows + (r * 3 * heads + i) * width;
            if (!cosines || i >= 2 * heads) {
                memcpy(x, g, width * sizeof(element));
                continue;
            }
            const float *c = cosines + t * half, *s = sines + t * half;
            float along = 0.0f;
            for (long j = 0; j < width; j++) along += get(g[j]) * get(y[j]);
            along /= width;
            const float scale = scales[r * 2 * heads + i];
            for (long j = 0; j < half; j++) {
                const float first = (get(g[j]) - get(y[j]) * along) * scale;
                const float second = (get(g[j + half]) - get(y[j + half]) * along) * scale;
                x[j] = put(first * c[j] - second * s[j]);
                x[j + half] = put(second * c[j] + first * s[j]);
            }
        }
    }
}

/* (B·H, T, D) to rows (B·T, H·D), or the other way. */
void join_heads(const element *split, element *restrict rows, long batch, long time, long heads, long width) {
    PARALLEL
    for (long r = 0; r < batch * time; r++)
        for (long h = 0; h < heads; h++)
            memcpy(rows + (r * heads + h) * width,
                   split + (((r / time) * heads + h) * time + r % time) * width, width * sizeof(element));
}
void part_heads(const element *rows, element *restrict split, long batch, long time, long heads, long width) {
    PARALLEL
    for (long r = 0; r < batch * time; r++)
        for (long h = 0; h < heads; h++)
            memcpy(split + (((r / time) * heads + h) * time + r % time) * width,
                   rows + (r * heads + h) * width, width * sizeof(element));
}

/* Causal softmax, in place: of `count` squares (T, T) of scores, row t keeps its first t + 1 entries. */
void softmax(element *scores, long count, long time, float factor) {
    PARALLEL
    for (long r = 0; r < count * time; r++) {
        element *restrict s = scores + r * time;
        const long end = r % time + 1;
        float e[time], total = 0.0f;
        for (long j = 0; j < end; j++) e[j] = get(s[j]) * factor;
        const float most = largest(e, end);
        for (long j = 0; j < end; j++) {
            e[j] = exponential(e[j] - most);
            total += e[j];
        }
        total = 1.0f / total;
        for (long j = 0; j < end; j++) s[j] = put(e[j] * total);
        memset(s + end, 0, (time - end) * sizeof(element));
    }
}

/* The gradient of the scores, in place of that of the weights. */
void softmax_backward(element *grad, const element *weights, long count, long time, float factor) {
    PARALLEL
    for (long r = 0; r < count * time; r++) {
        element *restrict g = grad + r * time;
        const element *w = weights + r * time;
        const long end = r % time + 1;
        float along = 0.0f;
        for (long j = 0; j < end; j++) along += get(g[j]) * get(w[j]);
        for (long j = 0; j < end; j++) g[j] = put(get(w[j]) * (get(g[j]) - along) * factor);
        memset(g + end, 0, (time - end) * sizeof(element));
    }
}

enum { RELU, RELU2, GELU_NEW };

#define BLOCK 1024

/* The activation; and its gradient, in place of that of what it gave. There `x` is what was given to gelu_new,
   and what came of relu and relu2. */
void activate(const element *x, element *restrict y, long kind, long count) {
    PARALLEL
    for (long first = 0; first < count; first += BLOCK) {
        const long end = first + BLOCK < count ? first + BLOCK : count;
        if (kind == GELU_NEW)
            for (long i = first; i < end; i++) {
                const float v = get(x[i]);
                y[i] = put(v / (1.0f + exponential(-1.5957691f * (v + 0.044715f * v * v * v))));
            }
        else if (kind == RELU2)
            for (long i = first; i < end; i++) {
                const float v = get(x[i]) < 0.0f ? 0.0f : get(x[i]);
                y[i] = put(v * v);
            }
        else
            for (long i = first; i < end; i++) y[i] = get(x[i]) < 0.0f ? 0 : x[i];
    }
}
void activate_backward(element *restrict grad, const element *x, long kind, long count) {
    PARALLEL
    for (long first = 0; first < count; first += BLOCK) {
        const long end = first + BLOCK < count ? first + BLOCK : count;
        if (kind == GELU_NEW)
            for (long i = first; i < end; i++) {
                const float v = get(x[i]);
                const float gate = 1.0f / (1.0f + exponential(-1.5957691f * (v + 0.044715f * v * v * v)));
                const float slope = 1.5957691f * (1.0f + 0.134145f * v * v);
                grad[i] = put(get(grad[i]) * gate * (1.0f + v * slope * (1.0f - gate)));
            }
        else if (kind == RELU2)
            for (long i = first; i < end; i++) {
                grad[i] = put(2.0f * sqrtf(get(x[i])) * get(grad[i]));
            }
        else
            for (long i = first; i < end; i++) grad[i] = get(x[i]) <= 0.0f ? 0 : grad[i];
    }
}

/* Cross-entropy in nats of each row of logits, capped where there is a cap, which become their gradients. */
void cross_entropy(element *logits, const int64_t *targets, float *restrict losses, long rows, long vocab, float cap,
                   float share) {
    PARALLEL
    for (long r = 0; r < rows; r++) {
        element *restrict z = logits + r * vocab;
        float v[vocab], total = 0.0f;
        for (long j = 0; j < vocab; j++) v[j] = get(z[j]);
        if (cap > 0.0f)
            for (long j = 0; j < vocab; j++) v[j] = cap * hyperbolic_tangent(v[j] / cap);
        const float most = largest(v, vocab), at_target = v[targets[r]];
        for (long j = 0; j < vocab; j++) {
            v[j] = exponential(v[j] - most);
            total += v[j];
        }
        losses[r] = logf(total) + most - at_target;
        const float inverse = 1.0f / total;
        for (long j = 0; j < vocab; j++) v[j] *= inverse;
        v[targets[r]] -= 1.0f;
        if (cap > 0.0f)
            for (long j = 0; j < vocab; j++) {
                const float capped = hyperbolic_tangent(get(z[j]) / cap);
                z[j] = put(v[j] * share * (1.0f - capped * capped));
            }
        else
            for (long j = 0; j < vocab; j++) z[j] = put(v[j] * share);
    }
}
