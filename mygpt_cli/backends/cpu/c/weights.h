/* Weights of the decoder, in float32, bfloat16, or int8 with a scale for each row: packed as they are read, of ROWS
   rows at a time, two columns in turn (`load`). Zeros fill the last rows, and the columns of weights and activations up
   to a multiple of LANES. */
#ifndef WEIGHTS_H
#define WEIGHTS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "parallel.h"
#include "vectors.h"

#define ROWS (2 * LANES) /* that are read together */

static long padded(long width) { return (width + LANES - 1) / LANES * LANES; }

/* A part of the next two columns of ROWS rows: of the upper and the lower half of the first, then of the second.
   AT is how many weights a part is from the next. */
#if defined(BFLOAT16)
#define AT (2 * PART)
#define TOGETHER 2
typedef uint16_t weight;                /* in each 32 bits, a number of the upper half and one of the lower */
static inline weight rounded(float x) { /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
static inline void load(const weight *from, part halves[4]) {
    for (int column = 0; column < 2; column++) {
        const part_bits both = *(const part_bits *)(from + column * ROWS);
        halves[2 * column] = (part)(both << 16);
        halves[2 * column + 1] = (part)(both & 0xffff0000u);
    }
}
#elif defined(INT8)
#define AT (4 * PART)
#define TOGETHER 4
typedef int8_t weight; /* in each 32 bits, a number of each half of both columns */
static inline weight rounded(float x) { return (weight)rintf(x); }
static inline void load(const weight *from, part halves[4]) {
    const part_whole all = *(const part_whole *)from;
    for (int n = 0; n < 4; n++) halves[n] = __builtin_convertvector((all << (24 - 8 * n)) >> 24, part);
}
#else
#define AT PART
#define TOGETHER 1
typedef float weight;
static inline weight rounded(float x) { return x; }
static inline void load(const weight *from, part halves[4]) {
    for (int n = 0; n < 4; n++) halves[n] = *(const part *)(from + n * LANES);
}
#endif

/* A matrix as Python has it, in float32 or in `halves`, bfloat16. */
typedef struct {
    const void *numbers;
    long rows, columns, row_step, column_step, halves;
} matrix;

#define WIDE 64 /* numbers of a row at a time */

/* Read WIDE numbers of a row, zeros where there are none. */
static void read_row(const matrix *m, long row, long column, float *restrict to) {
    const long many = row >= m->rows ? 0 : m->columns - column < WIDE ? m->columns - column : WIDE;
    const long step = m->column_step, at = row * m->row_step + column * step;
    for (long j = many > 0 ? many : 0; j < WIDE; j++) to[j] = 0.0f;
    if (m->halves) {
        const uint16_t *from = (const uint16_t *)m->numbers + at;
        for (long j = 0; j < many; j++) {
            const uint32_t bits = (uint32_t)from[j * step] << 16;
            memcpy(to + j, &bits, 4);
        }
    } else
        for (long j = 0; j < many; j++) to[j] = ((const float *)m->numbers)[at + j * step];
}

/* A row's largest magnitude in 127 steps. */
static float step_of(const matrix *m, long row) {
    float most = 1e-30f, some[WIDE];
    for (long k = 0; k < m->columns; k += WIDE) {
        read_row(m, row, k, some);
        most = fmaxf(most, fmaxf(largest(some, WIDE), -smallest(some, WIDE)));
    }
    return most / 127.0f;
}

/* Pack a matrix as `load` reads it. With `scales`, each row has 127 steps up to its largest magnitude. */
void pack(const argument *a) {
    const matrix m = {a[0].p, a[3].i, a[4].i, a[5].i, a[6].i, a[7].i};
    float *scales = a[2].p;
    const long in = padded(m.columns);
    const range own = own_range((m.rows + ROWS - 1) / ROWS);
    for (long row = own.first * ROWS; row < own.end * ROWS; row += ROWS) {
        for (long r = 0; scales && r < ROWS; r++) scales[row + r] = step_of(&m, row + r);
        for (long k = 0; k < in; k += WIDE) {
            float some[ROWS][WIDE];
            for (long r = 0; r < ROWS; r++) {
                read_row(&m, row + r, k, some[r]);
                for (long j = 0; scales && j < WIDE; j++) some[r][j] /= scales[row + r];
            }
            for (long j = 0; j < WIDE && k + j < in; j += 2) {
                weight *to = (weight *)a[1].p + row * in + (k + j) * ROWS;
                for (long n = 0; n < 4; n++)
                    for (long lane = 0; lane < LANES; lane++)
                        to[n / TOGETHER * TOGETHER * LANES + lane * TOGETHER + n % TOGETHER] =
                            rounded(some[n % 2 * LANES + lane][j + n / 2]);
            }
        }
    }
}
#endif
