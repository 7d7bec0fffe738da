/* What a training step does: here what is done with each row, one trip through memory each; attention in
   `attention.h`, Muon in `muon.h`, and the products of these in `products.h`. Where the processor has AMX, the linear
   layers are in `linear.h`, or in float32 their products in `matmul.h`; elsewhere these are torch's, as are large ones.

   Rows are B sequences of T tokens, one after the other: row b * T + t. Numbers are kept as `element`, bfloat16
   or float32, and computed in float32. Each output is written by one thread alone, and sums over rows are kept
   by thread, so that the same number of threads gives the same bits. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "parallel.h"
#include "vectors.h"

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

static inline long least(long a, long b) { return a < b ? a : b; }

/* e to the x by 2^n · 2^f with f in [-1/2, 1/2], and 0 for what is smaller than a number can be; NaN stays NaN. */
static inline float exponential(float v) {
    const float x = v < -87.0f ? -87.0f : v > 88.0f ? 88.0f : v;
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
    return v < -87.0f ? 0.0f : p * power;
}

static inline float hyperbolic_tangent(float x) { return 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f); }

/* out = x + mask · branch, and normed = norm(out): RMSNorm, or LayerNorm where `means` are wanted.
   Any of x, branch, mask, out and bias may be missing, and the gain of an RMSNorm without bias. Keeps each row's mean
   (of LayerNorm) and rstd. */
void add_norm(const argument *a) {
    const element *x = a[0].p, *branch = a[1].p, *mask = a[2].p;
    element *restrict out = a[3].p, *restrict normed = a[4].p;
    float *restrict means = a[5].p, *restrict rstds = a[6].p;
    const float *gain = a[7].p, *bias = a[8].p, eps = a[11].r;
    const long rows = a[9].i, width = a[10].i;
    const range own = own_range(rows);
    for (long r = own.first; r < own.end; r++) {
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
        if (means) {
            for (long j = 0; j < width; j++) mean += v[j];
            mean /= width;
            means[r] = mean;
        }
        for (long j = 0; j < width; j++) square += (v[j] - mean) * (v[j] - mean);
        const float rstd = 1.0f / sqrtf(square / width + eps);
        rstds[r] = rstd;
        if (gain && bias)
            for (long j = 0; j < width; j++) normed[at + j] = put((v[j] - mean) * rstd * gain[j] + bias[j]);
        else if (gain)
            for (long j = 0; j < width; j++) normed[at + j] = put((v[j] - mean) * rstd * gain[j]);
        else
            for (long j = 0; j < width; j++) normed[at + j] = put(v[j] * rstd);
    }
}

/* grad = before + the gradient before the norm, given that after it; masked = mask · grad, where there is one.
   `x` is what was normalised where there is a gain, and else what came of it. `by_thread`, (threads, 2, width),
   collects the gradients of gain and bias. */
void norm_backward(const argument *a) {
    const element *grad_normed = a[0].p, *x = a[1].p;
    const float *means = a[2].p, *rstds = a[3].p, *gain = a[4].p;
    const element *before = a[5].p, *mask = a[6].p;
    element *restrict grad = a[7].p, *restrict masked = a[8].p;
    const long rows = a[10].i, width = a[11].i;
    float *by_thread = a[9].p, *restrict grad_gain = by_thread, *restrict grad_bias = by_thread;
    if (gain) grad_gain = by_thread + thread_number() * 2 * width, grad_bias = grad_gain + width;
    const range own = own_range(rows);
    for (long r = own.first; r < own.end; r++) {
        const long at = r * width;
        float d[width], unit[width];
        const float rstd = rstds[r];
        float dot = 0.0f, mean = 0.0f;
        if (gain) {
            const float center = means ? means[r] : 0.0f;
            for (long j = 0; j < width; j++) {
                const float g = get(grad_normed[at + j]);
                unit[j] = (get(x[at + j]) - center) * rstd;
                grad_gain[j] += g * unit[j];
                grad_bias[j] += g;
                d[j] = g * gain[j];
                mean += d[j];
                dot += d[j] * unit[j];
            }
            mean = means ? mean / width : 0.0f;
        } else
            for (long j = 0; j < width; j++) {
                d[j] = get(grad_normed[at + j]);
                unit[j] = get(x[at + j]);
                dot += d[j] * unit[j];
            }
        dot /= width;
        for (long j = 0; j < width; j++) d[j] = rstd * (d[j] - mean - unit[j] * dot);
        if (before)
            for (long j = 0; j < width; j++) d[j] += get(before[at + j]);
        for (long j = 0; j < width; j++) grad[at + j] = put(d[j]);
        if (mask)
            for (long j = 0; j < width; j++) masked[at + j] = put(d[j] * get(mask[at + j]));
    }
}

enum { RELU, RELU2, GELU_NEW, SILU };

#define BLOCK 1024

static inline float sigmoid(float v) { return 1.0f / (1.0f + exponential(-v)); }
static inline float gelu_sigmoid(float v) { return sigmoid(1.5957691f * (v + 0.044715f * v * v * v)); }

/* The activation of some numbers. */
static inline void activate_some(const float *x, float *y, long kind, long count) {
    if (kind == GELU_NEW)
        for (long i = 0; i < count; i++) y[i] = x[i] * gelu_sigmoid(x[i]);
    else if (kind == SILU)
        for (long i = 0; i < count; i++) y[i] = x[i] * sigmoid(x[i]);
    else if (kind == RELU2)
        for (long i = 0; i < count; i++) y[i] = x[i] < 0.0f ? 0.0f : x[i] * x[i];
    else
        for (long i = 0; i < count; i++) y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

/* grad, of what the activation gave, becomes that of x, what it was given. */
static inline void activate_some_backward(const float *x, float *restrict grad, long kind, long count) {
    if (kind == GELU_NEW)
        for (long i = 0; i < count; i++) {
            const float v = x[i], g = gelu_sigmoid(v), slope = 1.5957691f * (1.0f + 0.134145f * v * v);
            grad[i] *= g * (1.0f + v * slope * (1.0f - g));
        }
    else if (kind == SILU)
        for (long i = 0; i < count; i++) {
            const float g = sigmoid(x[i]);
            grad[i] *= g * (1.0f + x[i] * (1.0f - g));
        }
    else if (kind == RELU2)
        for (long i = 0; i < count; i++) grad[i] *= x[i] < 0.0f ? 0.0f : 2.0f * x[i];
    else
        for (long i = 0; i < count; i++) grad[i] = x[i] <= 0.0f ? 0.0f : grad[i];
}

/* y = activation(x), times `up` where the feed-forward part is gated; where no `mlp` has it. */
void activate(const argument *a) {
    const element *x = a[0].p, *up = a[1].p;
    element *restrict y = a[2].p;
    const long kind = a[3].i, count = a[4].i;
    const range own = own_range((count + BLOCK - 1) / BLOCK);
    for (long first = own.first * BLOCK; first < own.end * BLOCK; first += BLOCK) {
        const long many = least(BLOCK, count - first);
        float v[BLOCK];
        for (long i = 0; i < many; i++) v[i] = get(x[first + i]);
        activate_some(v, v, kind, many);
        if (up)
            for (long i = 0; i < many; i++) v[i] *= get(up[first + i]);
        for (long i = 0; i < many; i++) y[first + i] = put(v[i]);
    }
}

/* grad, of y, becomes that of x; and `up`, where there is one, its own gradient. */
void activate_backward(const argument *a) {
    element *restrict grad = a[0].p, *restrict up = a[2].p;
    const element *x = a[1].p;
    const long kind = a[3].i, count = a[4].i;
    const range own = own_range((count + BLOCK - 1) / BLOCK);
    for (long first = own.first * BLOCK; first < own.end * BLOCK; first += BLOCK) {
        const long many = least(BLOCK, count - first);
        float v[BLOCK], g[BLOCK];
        for (long i = 0; i < many; i++) v[i] = get(x[first + i]), g[i] = get(grad[first + i]);
        if (up) {
            float active[BLOCK];
            activate_some(v, active, kind, many);
            for (long i = 0; i < many; i++) {
                const float factor = get(up[first + i]);
                up[first + i] = put(g[i] * active[i]);
                g[i] *= factor;
            }
        }
        activate_some_backward(v, g, kind, many);
        for (long i = 0; i < many; i++) grad[first + i] = put(g[i]);
    }
}

/* Cross-entropy in nats of each row of logits, capped where there is a cap, which become their gradients. Each thread
   needs a row of workspace. */
long cross_entropy_workspace_size(long vocab, long rows) { return rows ? vocab : 0; }
void cross_entropy(const argument *a) {
    element *logits = a[0].p;
    const int64_t *targets = a[1].p;
    float *restrict losses = a[2].p, *restrict v = (float *)a[3].p + thread_number() * a[4].i;
    const long rows = a[5].i, vocab = a[6].i;
    const float cap = a[7].r, loss_scale = a[8].r;
    const range own = own_range(rows);
    for (long r = own.first; r < own.end; r++) {
        element *restrict z = logits + r * vocab;
        float total = 0.0f;
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
                z[j] = put(v[j] * loss_scale * (1.0f - capped * capped));
            }
        else
            for (long j = 0; j < vocab; j++) z[j] = put(v[j] * loss_scale);
    }
}

#include "products.h"
#include "attention.h"
#include "muon.h"
#ifdef TILES
/* What is this thread's of so many rows or columns, of which EDGE stay together. */
static long own_part(long count, long *end) {
    const long threads = thread_count(), own = thread_number(), panels = padded(count) / EDGE;
    *end = least(panels * (own + 1) / threads * EDGE, count);
    return panels * own / threads * EDGE;
}

#ifdef BFLOAT16
#include "linear.h"
#else
#include "matmul.h"
#endif
#endif
