/* Small matrix products on the numbers of `kernels.c`, for one thread: a (M, K) · b (K, N) = c (M, N) in float32.

   a is kept by rows. b is packed: in LANES of 32 bits, each a number of row k, or in bfloat16 one of row 2k and one
   of row 2k + 1. M, N and K are multiples of BLOCK, filled up with zeros. */

#define PER_LANE (4 / sizeof(element))
#define BLOCK_EDGE 32

typedef uint32_t lane;

static long padded(long count) { return (count + BLOCK_EDGE - 1) / BLOCK_EDGE * BLOCK_EDGE; }

#define LANES 16
typedef lane lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));

#define EVEN1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define ODD1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define EVEN2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define ODD2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define EVEN4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define ODD4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define EVEN8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define ODD8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define SWAP(n)                                                                                                        \
    for (int i = 0; i < LANES; i++)                                                                                    \
        if (!(i & n)) {                                                                                                \
            const lanes a = v[i], b = v[i + n];                                                                        \
            v[i] = __builtin_shufflevector(a, b, EVEN##n);                                                             \
            v[i + n] = __builtin_shufflevector(a, b, ODD##n);                                                          \
        }

/* to (columns, rows) = from (rows, columns) turned, both multiples of LANES. */
static void transpose(const lane *from, long ld_from, lane *to, long ld_to, long rows, long columns) {
    for (long r = 0; r < rows; r += LANES)
        for (long c = 0; c < columns; c += LANES) {
            lanes v[LANES];
            for (int i = 0; i < LANES; i++) v[i] = *(const lanes *)(from + (r + i) * ld_from + c);
            SWAP(1) SWAP(2) SWAP(4) SWAP(8)
            for (int i = 0; i < LANES; i++) *(lanes *)(to + (c + i) * ld_to + r) = v[i];
        }
}

/* Pack rows (K, N) as they are, or in pairs; N a multiple of LANES. */
static void pack(const element *from, long ld_from, lane *to, long ld_to, long rows, long columns) {
    for (long k = 0; k < rows; k += PER_LANE) {
        const element *row = from + k * ld_from;
        lane *packed = to + k / PER_LANE * ld_to;
#ifdef BFLOAT16
        for (long n = 0; n < columns; n++) packed[n] = row[n] | (lane)row[n + ld_from] << 16;
#else
        memcpy(packed, row, columns * sizeof(lane));
#endif
    }
}

#if defined(BFLOAT16) && defined(__AMX_BF16__) && defined(__linux__) && !defined(NO_TILES)
#include <sys/syscall.h>
#include <unistd.h>
#define TILES

/* Whether the system lets this process use the processor's tiles of 16 rows of 64 bytes. */
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

#define TILE_LOAD(t, from, step) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(from), "r"(step) : "memory")
#define TILE_STORE(t, to, step) __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(to), "r"(step) : "memory")
#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t ::)
#define TILE_ADD(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)

static void product(const element *a, long lda, const lane *b, long ldb, float *c, long ldc, long m, long n, long k,
                    int add) {
    const long a_step = lda * sizeof(element), b_step = ldb * sizeof(lane), c_step = ldc * sizeof(float);
    for (long j = 0; j < n; j += 32)
        for (long i = 0; i < m; i += 32) {
            const element *a0 = a + i * lda, *a1 = a0 + 16 * lda;
            float *c0 = c + i * ldc + j, *c1 = c0 + 16 * ldc;
            if (add) {
                TILE_LOAD(0, c0, c_step);
                TILE_LOAD(1, c0 + 16, c_step);
                TILE_LOAD(2, c1, c_step);
                TILE_LOAD(3, c1 + 16, c_step);
            } else {
                TILE_ZERO(0);
                TILE_ZERO(1);
                TILE_ZERO(2);
                TILE_ZERO(3);
            }
            for (long at = 0; at < k; at += 32) {
                const lane *b0 = b + at / 2 * ldb + j;
                TILE_LOAD(4, a0 + at, a_step);
                TILE_LOAD(6, b0, b_step);
                TILE_LOAD(5, a1 + at, a_step);
                TILE_LOAD(7, b0 + 16, b_step);
                TILE_ADD(0, 4, 6);
                TILE_ADD(1, 4, 7);
                TILE_ADD(2, 5, 6);
                TILE_ADD(3, 5, 7);
            }
            TILE_STORE(0, c0, c_step);
            TILE_STORE(1, c0 + 16, c_step);
            TILE_STORE(2, c1, c_step);
            TILE_STORE(3, c1 + 16, c_step);
        }
}
#else
int have_tiles(void) { return 1; }
static void tiles_begin(void) {}
static void tiles_end(void) {}

#define ROWS 8

static void product(const element *a, long lda, const lane *b, long ldb, float *c, long ldc, long m, long n, long k,
                    int add) {
    for (long j = 0; j < n; j += 2 * LANES)
        for (long i = 0; i < m; i += ROWS) {
            floats sums[ROWS][2];
            for (int r = 0; r < ROWS; r++)
                for (int h = 0; h < 2; h++)
                    sums[r][h] = add ? *(const floats *)(c + (i + r) * ldc + j + h * LANES) : (floats){0};
            for (long at = 0; at < k; at += PER_LANE) {
                const lanes *row = (const lanes *)(b + at / PER_LANE * ldb + j);
                const lanes first = row[0], second = row[1];
                for (int r = 0; r < ROWS; r++) {
                    const element *x = a + (i + r) * lda + at;
#ifdef BFLOAT16
                    sums[r][0] += (floats)(first << 16) * get(x[0]) + (floats)(first & 0xffff0000u) * get(x[1]);
                    sums[r][1] += (floats)(second << 16) * get(x[0]) + (floats)(second & 0xffff0000u) * get(x[1]);
#else
                    sums[r][0] += (floats)first * x[0];
                    sums[r][1] += (floats)second * x[0];
#endif
                }
            }
            for (int r = 0; r < ROWS; r++)
                for (int h = 0; h < 2; h++) *(floats *)(c + (i + r) * ldc + j + h * LANES) = sums[r][h];
        }
}
#endif
