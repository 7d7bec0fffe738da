/* Vectors of 16 numbers, and what compilers spell differently: numbers of two vectors in another order, and loops whose
   vectors are to stay in registers. */
#ifndef VECTORS_H
#define VECTORS_H

#include <math.h>
#include <stdint.h>

/* No vector goes from one file to another, so that it does not matter how it would. */
#pragma GCC diagnostic ignored "-Wpsabi"

#define LANES 16
typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t whole __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef int32_t order __attribute__((vector_size(64)));
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define UNROLL _Pragma("unroll")
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (order){__VA_ARGS__})
#define UNROLL _Pragma("GCC unroll 16")
#endif

static inline vector choose(whole where, vector yes, vector no) {
    return (vector)((where & (whole)yes) | (~where & (whole)no));
}

/* The largest and the smallest of some numbers, NaN left aside. */
static inline float largest(const float *x, long count) {
    vector some = (vector){0} - INFINITY;
    long i = 0;
    for (; i + LANES <= count; i += LANES) {
        const vector v = *(const vector *)(x + i);
        some = choose(v > some, v, some);
    }
    float most = -INFINITY;
    for (int lane = 0; lane < LANES; lane++) most = some[lane] > most ? some[lane] : most;
    for (; i < count; i++) most = x[i] > most ? x[i] : most;
    return most;
}
static inline float smallest(const float *x, long count) {
    vector some = (vector){0} + INFINITY;
    long i = 0;
    for (; i + LANES <= count; i += LANES) {
        const vector v = *(const vector *)(x + i);
        some = choose(v < some, v, some);
    }
    float least = INFINITY;
    for (int lane = 0; lane < LANES; lane++) least = some[lane] < least ? some[lane] : least;
    for (; i < count; i++) least = x[i] < least ? x[i] : least;
    return least;
}
#endif
