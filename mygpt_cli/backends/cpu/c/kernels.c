/* What a training step does: here what is done with each row, one trip through memory each; attention in
   `attention.h`, Muon in `muon.h`, and the products of these in `products.h`. Where the processor has AMX, the linear
   layers are in `linear.h`, or in float32 their products in `matmul.h`; elsewhere these are torch's, as are large ones.

   Rows are B sequences of T tokens, one after the other: row b * T + t. Numbers are kept as `element`, bfloat16
   or float32, and computed in float32. Each output is written by one thread alone, and sums over rows are kept
   by thread, so that the same number of threads gives the same bits. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "activations.h"
#include "attention.h"
#include "linear.h"
#include "matmul.h"
#include "muon.h"
#include "numbers.h"
#include "parallel.h"
#include "vectors.h"

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

#define BLOCK 1024

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
