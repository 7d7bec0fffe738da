/* The activations of feed-forward units, and their slopes. */
#ifndef ACTIVATIONS_H
#define ACTIVATIONS_H

#include "numbers.h"

enum { RELU, RELU2, GELU_NEW, SILU };

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
#endif
