/* Numbers as tensors have them, in bfloat16 or float32, and functions of one number. */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

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
#endif
