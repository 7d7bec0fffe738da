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
#define UNROLL_LOOP
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (order){__VA_ARGS__})
#define UNROLL _Pragma("GCC unroll 16")
#define UNROLL_LOOP _Pragma("GCC unroll 4") /* which gcc leaves to others with -O2; half as fast again on AVX2 */
#endif

/* As much of a vector as one register holds. What is added up again and again is kept in these: gcc keeps larger
   vectors in memory. */
#if defined(__AVX512F__)
#define PART 16
#elif defined(__AVX__)
#define PART 8
#else
#define PART 4
#endif
typedef float part __attribute__((vector_size(4 * PART), aligned(4), may_alias));
typedef uint32_t part_bits __attribute__((vector_size(4 * PART), aligned(4), may_alias));
typedef int32_t part_whole __attribute__((vector_size(4 * PART), aligned(4), may_alias));
#define PARTS_OF_VECTOR (LANES / PART)

static inline vector choose(whole where, vector yes, vector no) {
    return (vector)((where & (whole)yes) | (~where & (whole)no));
}

/* The largest and the smallest of some numbers, NaN left aside; by vectors of 8, which AVX2 has registers for. */
typedef float eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(32), may_alias));
#define EXTREME(name, beyond, first)                                                               \
    static inline float name(const float *x, long count) {                                         \
        eight some = (eight){0} + (first);                                                         \
        long i = 0;                                                                                \
        for (; i + 8 <= count; i += 8) {                                                           \
            const eight v = *(const eight *)(x + i);                                               \
            const mask better = v beyond some;                                                     \
            some = (eight)((better & (mask)v) | (~better & (mask)some));                           \
        }                                                                                          \
        float found = first;                                                                       \
        for (int lane = 0; lane < 8; lane++) found = some[lane] beyond found ? some[lane] : found; \
        for (; i < count; i++) found = x[i] beyond found ? x[i] : found;                           \
        return found;                                                                              \
    }
EXTREME(largest, >, -INFINITY)
EXTREME(smallest, <, INFINITY)
#endif
