/* Tokens drawn by a quick way to the choice of the exact rule, which is `choose` of sampler.py after the filters: all
   tokens lie end to end in the order of their ids, each as long as its probability, and the one is taken on which a
   number from [0, 1) falls. Here each token's weight is 1 for the best and less for the others, and only what is
   needed is added up. Both ways err by less than NEAR of the whole: a weight by 1e-11 at most while the logits are
   below FAR temperatures, and a sum of n numbers by n · 1e-16. So where nothing lies as NEAR to the edge that it is
   held against, both choose the same token. Elsewhere the answer is UNSURE. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "parallel.h"
#include "vectors.h"

#define NEAR 1e-9
#define FAR 1e4
#define MOST (1 << 20) /* tokens of a vocabulary */
#define BLOCK 256      /* tokens whose weights are added up first */
#define UNSURE (-1)

/* 2 to the y, for y up to 0, by 2^n · e^f with n whole and f no more than half of log 2 from 0. */
static inline double power(double y) {
    const double magic = 0x1.8p52; /* added, it rounds, and leaves n in the lowest bits */
    y = y < -1000.0 ? -1000.0 : y;
    const double n = y + magic, f = (y - (n - magic)) * 0x1.62e42fefa39efp-1;
    double e = 1.0 / 3628800;
    e = e * f + 1.0 / 362880;
    e = e * f + 1.0 / 40320;
    e = e * f + 1.0 / 5040;
    e = e * f + 1.0 / 720;
    e = e * f + 1.0 / 120;
    e = e * f + 1.0 / 24;
    e = e * f + 1.0 / 6;
    e = e * f + 0.5;
    e = e * f + 1.0;
    e = e * f + 1.0;
    uint64_t bits, whole;
    memcpy(&bits, &e, sizeof e);
    memcpy(&whole, &n, sizeof n);
    bits += whole << 52;
    memcpy(&e, &bits, sizeof e);
    return e;
}

/* The weights of logits from `least` on, and their sum; the others weigh nothing. `scale` turns differences into
   powers of 2. */
static double weigh(const float *x, double *w, long n, float least, float most, double scale) {
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++) {
        const double weight = power((x[i] - (double)most) * scale);
        w[i] = x[i] < least ? 0.0 : weight;
        sum += w[i];
    }
    return sum;
}

/* The same, where only the sums are wanted: of each BLOCK, and of all. */
static double add_up(const float *x, double *sums, long n, float least, float most, double scale) {
    double w[BLOCK], total = 0.0;
    for (long i = 0; i < n; i += BLOCK)
        total += sums[i / BLOCK] = weigh(x + i, w, n - i < BLOCK ? n - i : BLOCK, least, most, scale);
    return total;
}

/* The least of the best logits that reach a goal together: in number, or in weight where there are weights. Halves
   the range until one logit is left in it. NAN when unsure, as where several are equal. */
static inline float reach(const float *x, const double *w, long n, float least, float most, double scale, double all,
                          double goal) {
    float low = least, high = nextafterf(most, INFINITY);
    double enough = all, missing = 0.0;
    while (enough - missing > (w ? 1.5 * power((low - (double)most) * scale) : 1.0)) {
        const float middle = low / 2 + high / 2;
        if (!(middle > low && middle < high)) return NAN;
        double sum = 0.0;
        int count = 0;
        if (w)
#pragma omp simd reduction(+ : sum)
            for (long i = 0; i < n; i++) sum += x[i] < middle ? 0.0 : w[i];
        else
#pragma omp simd reduction(+ : count)
            for (long i = 0; i < n; i++) count += x[i] >= middle;
        sum += count;
        if (sum < goal)
            high = middle, missing = sum;
        else
            low = middle, enough = sum;
    }
    const double near = w ? NEAR * all : 0.0;
    return enough - goal < near || goal - missing < near ? NAN : low;
}

/* The token on which a number falls, of the logits from `least` on. */
static int64_t fall(const float *x, long n, double number, float least, float most, double scale) {
    double sums[MOST / BLOCK], w[BLOCK], before = 0.0;
    const double total = add_up(x, sums, n, least, most, scale), place = number * total, near = NEAR * total;
    long first = 0, i = 0;
    for (; first + BLOCK < n && before + sums[first / BLOCK] <= place; first += BLOCK) before += sums[first / BLOCK];
    const long some = n - first < BLOCK ? n - first : BLOCK;
    weigh(x + first, w, some, least, most, scale);
    for (; i < some && before + w[i] <= place; i++) before += w[i];
    return i < some && place - before >= near && before + w[i] - place >= near ? first + i : UNSURE;
}

static int64_t sample_one(const float *x, double *workspace, long n, double number, double temperature, long k,
                          double p, double min_p) {
    const double scale = 0x1.71547652b82fep0 / temperature;
    float least = smallest(x, n), most = largest(x, n);
    int32_t *ids = 0;
    if (n > MOST || !(fabs(most) < FAR * temperature)) return UNSURE;
    if (k && k < n) least = reach(x, 0, n, least, most, scale, n, k);
    if (p < 1.0) { /* those below `low` weigh less than 1 - p together: only the others are looked at further */
        const double total = add_up(x, workspace, n, least, most, scale);
        const double low = most + log2((1.0 - p) * total / n) / scale;
        float *better = (float *)(workspace + n);
        ids = (int32_t *)(better + n);
        long count = 0;
        for (long i = 0; i < n; i++) {
            better[count] = x[i];
            ids[count] = i;
            count += x[i] >= low;
        }
        x = better, n = count;
        const double all = weigh(x, workspace, n, least, most, scale);
        least = reach(x, workspace, n, least, most, scale, all, p * total);
    }
    if (min_p > 0.0) {
        const double edge = most + log2(min_p) / scale;
        int close = 0;
#pragma omp simd reduction(+ : close)
        for (long i = 0; i < n; i++) close += fabs(x[i] - edge) * scale < NEAR;
        float from = edge;
        if (from < edge) from = nextafterf(from, INFINITY);
        least = close ? NAN : from > least ? from : least;
    }
    if (isnan(least)) return UNSURE;
    const int64_t at = fall(x, n, number, least, most, scale);
    return ids && at != UNSURE ? ids[at] : at;
}

/* Pick a token for each row of finite logits (count, vocab), by a number in [0, 1): of each row from the k best
   (0: all), of these from the best that hold a share p, of these from those at least min_p times as probable as the
   best. `workspace` is for twice as many numbers as there are logits. */
void sample(const argument *a) {
    const float *logits = a[0].p;
    const double *numbers = a[1].p, temperature = a[4].r, p = a[6].r, min_p = a[7].r;
    const long count = a[2].i, vocab = a[3].i, k = a[5].i;
    double *workspace = a[8].p;
    int64_t *ids = a[9].p;
    const range own = own_range(count);
    for (long n = own.first; n < own.end; n++)
        ids[n] = sample_one(logits + n * vocab, workspace + 2 * n * vocab, vocab, numbers[n], temperature, k, p, min_p);
}
