/* Small matrix products on the numbers of `kernels.c`, for one thread: a (M, K) · b (K, N) = c (M, N) in float32.

   a is kept by rows. b is packed, in lanes of 32 bits, each a number of row k, or in bfloat16 one of row 2k and one
   of row 2k + 1. M, N and K are multiples of EDGE, filled up with zeros. */
#ifndef PRODUCTS_H
#define PRODUCTS_H

#include "numbers.h"
#include "vectors.h"

#define PER_LANE (4 / sizeof(element))
#define EDGE 32

typedef uint32_t lane __attribute__((may_alias));

static long padded(long count) { return (count + EDGE - 1) / EDGE * EDGE; }

#define WHOLE(count) ((count) & -(long)EDGE) /* tells the compiler that nothing is left over */

typedef lane lanes __attribute__((vector_size(4 * LANES), aligned(2), may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

#define EVEN1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define ODD1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define EVEN2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define ODD2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define EVEN4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define ODD4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define EVEN8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define ODD8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define SWAP(n)                                 \
    UNROLL for (int i = 0; i < LANES; i++)      \
        if (!(i & n)) {                         \
            const lanes a = v[i], b = v[i + n]; \
            v[i] = SHUFFLE(a, b, EVEN##n);      \
            v[i + n] = SHUFFLE(a, b, ODD##n);   \
        }

/* Turn a block of LANES by LANES. */
static inline __attribute__((always_inline)) void transpose_block(lanes *v) { SWAP(1) SWAP(2) SWAP(4) SWAP(8) }

/* to (columns, rows) = from (rows, columns) transposed, both multiples of LANES. */
static __attribute__((noinline)) void transpose(const lane *from, long ld_from, lane *to, long ld_to, long rows,
                                                long columns) {
#ifdef __AVX512F__
    for (long r = 0; r < rows; r += LANES)
        for (long c = 0; c < columns; c += LANES) {
            lanes v[LANES];
            UNROLL for (int i = 0; i < LANES; i++)
                v[i] = *(const lanes *)(from + (r + i) * ld_from + c);
            transpose_block(v);
            UNROLL for (int i = 0; i < LANES; i++)
                *(lanes *)(to + (c + i) * ld_to + r) = v[i];
        }
#else /* where gcc would shuffle vectors number by number */
    for (long r = 0; r < rows; r += 8)
        for (long c = 0; c < columns; c += 8) UNROLL
            for (int i = 0; i < 8; i++) UNROLL
                for (int j = 0; j < 8; j++) to[(c + j) * ld_to + r + i] = from[(r + i) * ld_from + c + j];
#endif
}

/* Keep a row of numbers, a multiple of EDGE. */
static inline void put_row(const float *restrict from, element *restrict to, long count) {
#if defined(BFLOAT16) && defined(__AVX512BF16__)
    for (long j = 0; j < count; j += 32) {
        const vector first = *(const vector *)(from + j), second = *(const vector *)(from + j + LANES);
        lanes both;
        __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(both) : "v"(first), "v"(second));
        *(lanes *)(to + j) = both;
    }
#else
    for (long j = 0; j < WHOLE(count); j++) to[j] = put(from[j]);
#endif
}

#ifdef BFLOAT16
/* Two rows' numbers in pairs. */
static inline lanes pairs(const element *row, const element *next) {
    return __builtin_convertvector(*(const halves *)row, lanes) | __builtin_convertvector(*(const halves *)next, lanes)
                                                                      << 16;
}
#endif

/* Pack rows (K, N) as they are, or in pairs; N a multiple of LANES. */
static __attribute__((noinline)) void pack(const element *from, long ld_from, lane *to, long ld_to, long rows,
                                           long columns) {
    for (long k = 0; k < rows; k += PER_LANE) {
        const element *row = from + k * ld_from;
        lane *packed = to + k / PER_LANE * ld_to;
#ifdef BFLOAT16
        for (long n = 0; n < columns; n += LANES) *(lanes *)(packed + n) = pairs(row + n, row + n + ld_from);
#else
        memcpy(packed, row, columns * sizeof(lane));
#endif
    }
}

#if defined(__AMX_BF16__) && defined(__linux__) && !defined(NO_TILES)
#define TILES
#define TILE (16 * LANES)
#include <sys/syscall.h>
#include <unistd.h>

/* Ask the system for the processor's tiles of 16 rows of 64 bytes (ARCH_REQ_XCOMP_PERM, XTILEDATA). */
int have_tiles(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

static void tiles_begin(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } all = {.palette = 1};
    for (int t = 0; t < 8; t++) all.bytes[t] = 64, all.rows[t] = 16;
    __asm__ volatile("ldtilecfg %0" ::"m"(all));
}
static void tiles_end(void) { __asm__ volatile("tilerelease"); }

#define TILE_LOAD(t, from, step) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t::"r"(from), "r"(step) : "memory")
#define TILE_STORE(t, to, step) __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(to), "r"(step) : "memory")
#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t::)
#define TILE_ADD(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c::)

/* Begin the sums of c (32, 32), in tiles 0 to 3, from what there is or from 0; and keep them. */
static inline void load_accumulators(const float *c, long ldc, int add) {
    const long step = ldc * sizeof(float);
    const float *lower = c + 16 * ldc;
    if (add) {
        TILE_LOAD(0, c, step);
        TILE_LOAD(1, c + 16, step);
        TILE_LOAD(2, lower, step);
        TILE_LOAD(3, lower + 16, step);
    } else {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    }
}
static inline void store_accumulators(float *c, long ldc) {
    const long step = ldc * sizeof(float);
    float *lower = c + 16 * ldc;
    TILE_STORE(0, c, step);
    TILE_STORE(1, c + 16, step);
    TILE_STORE(2, lower, step);
    TILE_STORE(3, lower + 16, step);
}
#else
int have_tiles(void) { return 1; }
static void tiles_begin(void) {}
static void tiles_end(void) {}
#endif

#if defined(TILES) && defined(BFLOAT16)
static __attribute__((noinline)) void product(const element *a, long lda, const lane *b, long ldb, float *c, long ldc,
                                              long m, long n, long k, int add) {
    const long a_step = lda * sizeof(element), b_step = ldb * sizeof(lane);
    for (long j = 0; j < n; j += 32)
        for (long i = 0; i < m; i += 32) {
            const element *a0 = a + i * lda, *a1 = a0 + 16 * lda;
            float *to = c + i * ldc + j;
            load_accumulators(to, ldc, add);
            const lane *b0 = b + j, *b1 = b0 + 16;
            for (long left = k; left; left -= 32) {
                TILE_LOAD(4, a0, a_step);
                TILE_LOAD(6, b0, b_step);
                TILE_LOAD(5, a1, a_step);
                TILE_LOAD(7, b1, b_step);
                a0 += 32, a1 += 32, b0 += 16 * ldb, b1 += 16 * ldb;
                TILE_ADD(0, 4, 6);
                TILE_ADD(1, 4, 7);
                TILE_ADD(2, 5, 6);
                TILE_ADD(3, 5, 7);
            }
            store_accumulators(to, ldc);
        }
}
#else
#ifdef __AVX512F__ /* 32 registers of 16 numbers */
#define ROWS 8
#define COLUMNS 16
#else
#define ROWS 4
#define COLUMNS 8
#endif
typedef float floats __attribute__((vector_size(4 * COLUMNS), aligned(4), may_alias));
typedef lane packed __attribute__((vector_size(4 * COLUMNS), aligned(4), may_alias));

/* sums += a · b, for the numbers of a lane. */
static inline floats add_product(floats sums, const element *a, packed b) {
#if defined(BFLOAT16) && defined(__AVX512BF16__)
    uint32_t pair;
    memcpy(&pair, a, 4);
    __asm__("vdpbf16ps %1, %2, %0" : "+v"(sums) : "v"((packed){} + pair), "v"(b));
    return sums;
#elif defined(BFLOAT16)
    return sums + (floats)(b << 16) * get(a[0]) + (floats)(b & 0xffff0000u) * get(a[1]);
#else
    return sums + (floats)b * a[0];
#endif
}

static __attribute__((noinline)) void product(const element *a, long lda, const lane *b, long ldb, float *c, long ldc,
                                              long m, long n, long k, int add) {
    for (long j = 0; j < n; j += 2 * COLUMNS)
        for (long i = 0; i < m; i += ROWS) {
            floats sums[ROWS][2];
            UNROLL for (int r = 0; r < ROWS; r++) UNROLL
                for (int h = 0; h < 2; h++)
                    sums[r][h] = add ? *(const floats *)(c + (i + r) * ldc + j + h * COLUMNS) : (floats){0};
            UNROLL_LOOP for (long at = 0; at < k; at += PER_LANE) {
                const packed *row = (const packed *)(b + at / PER_LANE * ldb + j);
                const packed first = row[0], second = row[1];
                UNROLL for (int r = 0; r < ROWS; r++) {
                    const element *x = a + (i + r) * lda + at;
                    sums[r][0] = add_product(sums[r][0], x, first);
                    sums[r][1] = add_product(sums[r][1], x, second);
                }
            }
            UNROLL for (int r = 0; r < ROWS; r++) UNROLL
                for (int h = 0; h < 2; h++) *(floats *)(c + (i + r) * ldc + j + h * COLUMNS) = sums[r][h];
        }
}
#endif
#endif
