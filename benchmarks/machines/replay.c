/* Replay recorded calls of kernels: load a library, make each call on the numbers that it had where it was recorded,
   and compare every number that it writes. Usage: replay LIBRARY FILE; `arm.py` writes FILE and says what is in it. */

#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"

typedef struct {
    int64_t size, kind; /* in bytes; what its numbers are: `f`, `h` (bfloat16), `b` (bytes), or `-` not compared */
    char *now, *expected;
} buffer;

static int64_t number(FILE *from) {
    int64_t value;
    if (fread(&value, sizeof value, 1, from) != 1) exit(2);
    return value;
}
static char *bytes(FILE *from, int64_t size) {
    char *all = aligned_alloc(64, (size + 64) / 64 * 64);
    if (!all || fread(all, 1, size, from) != (size_t)size) exit(2);
    return all;
}

static float value(const buffer *b, const char *of, long i) {
    uint32_t bits = 0;
    if (b->kind == 'f')
        memcpy(&bits, of + 4 * i, 4);
    else
        memcpy((char *)&bits + 2, of + 2 * i, 2);
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* The largest difference beside the largest number: 0 is equal. */
static float difference(const buffer *b) {
    float most = 1e-30f, worst = 0.0f;
    if (b->kind == '-') return 0.0f;
    if (b->kind == 'b') return memcmp(b->now, b->expected, b->size) ? INFINITY : 0.0f;
    const long count = b->size / (b->kind == 'f' ? 4 : 2);
    for (long i = 0; i < count; i++) {
        const float now = value(b, b->now, i), then = value(b, b->expected, i);
        if (isfinite(then) && fabsf(then) > most) most = fabsf(then);
        if (isfinite(now) != isfinite(then)) return INFINITY;
        if (isfinite(now) && fabsf(now - then) > worst) worst = fabsf(now - then);
    }
    return worst / most;
}

int main(int count, char **names) {
    void *library = count == 3 ? dlopen(names[1], RTLD_NOW) : 0;
    FILE *from = count == 3 ? fopen(names[2], "rb") : 0;
    if (!library || !from) return fprintf(stderr, "cannot be read: %s\n", library ? names[2] : dlerror()), 2;
    typedef void runner(kernel *, const argument *, int);
    runner *run_there = (runner *)dlsym(library, "run");
    int failed = 0;
    for (int64_t calls = number(from); calls; calls--) {
        char name[64] = {0};
        for (int64_t i = 0, length = number(from); i < length; i++) name[i] = (char)fgetc(from);
        const double allowed = number(from) * 1e-9;
        const int64_t buffers = number(from);
        buffer *all = calloc(buffers, sizeof *all);
        for (buffer *b = all; b < all + buffers; b++) {
            b->size = number(from), b->kind = number(from);
            b->now = bytes(from, b->size), b->expected = bytes(from, b->size);
        }
        for (int64_t links = number(from); links; links--) { /* addresses within buffers */
            buffer *b = all + number(from);
            char *at = b->now + number(from), *to = all[number(from)].now;
            memcpy(at, &to, sizeof to);
        }
        argument arguments[32] = {0};
        for (int64_t i = 0, many = number(from); i < many; i++) {
            const int64_t kind = number(from), what = number(from);
            arguments[i].i = what;
            if (kind == 't') arguments[i].p = what < 0 ? 0 : all[what].now;
        }
        run_there((kernel *)dlsym(library, name), arguments, 0);
        float worst = 0.0f;
        for (buffer *b = all; b < all + buffers; b++) {
            const float found = difference(b);
            worst = found > worst ? found : worst;
            free(b->now), free(b->expected);
        }
        free(all);
        printf("%s %g\n", name, worst);
        if (!(worst <= allowed)) failed = 1;
    }
    return failed;
}
