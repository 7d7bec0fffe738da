/* Causal attention of B sequences of T tokens over H heads of D channels, one head of one sequence at a time, with
   what it works on in the thread's own cache. Scores are never kept: the way back makes them anew from each row's
   `levels`, the logarithm of the sum over which its weights are shares (Dao, 2023, arXiv:2307.08691). */

typedef struct {
    char *at;
} room;

static void *take(room *from, long count) { /* so many numbers of 32 bits */
    char *taken = from->at;
    from->at += (count * 4 + 63) / 64 * 64;
    return taken;
}

/* How many numbers of 32 bits each thread needs. */
long attention_room(long time, long width) {
    const long t = padded(time), d = padded(width);
    return 10 * t * d + 5 * EDGE * t + 3 * t + 64 * 20;
}

/* A head's rows lie too far apart for the processor to see what comes next: bring the one near that is needed soon. */
static inline void prefetch_row(const element *rows, long step, long row, long time, long width) {
    if (row + 16 < time)
        for (long j = 0; j < width; j += 64 / sizeof(element)) __builtin_prefetch(rows + (row + 16) * step + j);
}

/* Copy the rows of one head (T, D), filled up with zeros. */
static __attribute__((noinline)) void gather(const element *from, long step, element *to, long time, long width) {
    const long t = padded(time), d = padded(width);
    for (long r = 0; r < t; r++) {
        prefetch_row(from, step, r, time, width);
        memset(to + r * d, 0, d * sizeof(element));
        if (r < time) memcpy(to + r * d, from + r * step, width * sizeof(element));
    }
}

/* Turn a head's channels by the position and normalise them; the scale comes back. */
static float turn(element *x, const float *restrict cosines, const float *restrict sines, long width, float eps) {
    const long half = width / 2;
    element *restrict left = x, *restrict right = x + half;
    float square = 0.0f;
    for (long j = 0; j < half; j++) square += get(left[j]) * get(left[j]) + get(right[j]) * get(right[j]);
    const float scale = 1.0f / sqrtf(square / width + eps);
    for (long j = 0; j < half; j++) {
        const float first = get(left[j]), second = get(right[j]);
        left[j] = put((first * cosines[j] + second * sines[j]) * scale);
        right[j] = put((second * cosines[j] - first * sines[j]) * scale);
    }
    return scale;
}

/* The gradient before `turn`, given that after it and what came of it; without tables nothing was turned. */
static void turn_back(const float *grad, const element *turned, float scale, const float *restrict cosines,
                      const float *restrict sines, long row, element *before, long width) {
    const long half = width / 2;
    if (!cosines) {
        for (long j = 0; j < width; j++) before[j] = put(grad[j]);
        return;
    }
    cosines += row * half, sines += row * half;
    element *restrict left = before, *restrict right = before + half;
    float along = 0.0f;
    for (long j = 0; j < width; j++) along += grad[j] * get(turned[j]);
    along /= width;
    for (long j = 0; j < half; j++) {
        const float first = (grad[j] - get(turned[j]) * along) * scale;
        const float second = (grad[half + j] - get(turned[half + j]) * along) * scale;
        left[j] = put(first * cosines[j] - second * sines[j]);
        right[j] = put(second * cosines[j] + first * sines[j]);
    }
}

/* From rows of queries, keys and values, (B·T, 3·H·D), to what each head gathers, as rows (B·T, H·D). With tables of
   cosines and sines, (T, D/2), queries and keys are turned first, where they are. Keeps `scales` (B·T, 2·H) and
   `levels` (B·H, T); `rooms` are those of the threads. */
void attend(const argument *a) {
    element *rows = a[0].p, *restrict mixed = a[1].p;
    float *restrict scales = a[2].p, *restrict levels = a[3].p;
    const float *cosines = a[4].p, *sines = a[5].p, eps = a[12].r;
    const long batch = a[8].i, time = a[9].i, heads = a[10].i, width = a[11].i;
    const long t = padded(time), d = padded(width), step = 3 * heads * width;
    const float factor = 1.0f / sqrtf((float)width);
    tiles_begin();
    room own = {(char *)((float *)a[6].p + thread_number() * a[7].i)};
    element *queries = take(&own, t * d), *values = take(&own, t * d), *weights = take(&own, EDGE * t);
    lane *keys = take(&own, t * d), *packed = take(&own, t * d);
    float *scores = take(&own, EDGE * t), *out = take(&own, EDGE * d);
    const range some_heads = own_range(batch * heads);
    for (long i = some_heads.first; i < some_heads.end; i++) {
        const long b = i / heads, h = i % heads;
        element *q = rows + b * time * step + h * width, *k = q + heads * width, *v = k + heads * width;
        if (cosines)
            for (long r = 0; r < time; r++) {
                const float *c = cosines + r * (width / 2), *s = sines + r * (width / 2);
                float *scale = scales + (b * time + r) * 2 * heads + h;
                prefetch_row(q, step, r, time, width);
                prefetch_row(k, step, r, time, width);
                scale[0] = turn(q + r * step, c, s, width, eps);
                scale[heads] = turn(k + r * step, c, s, width, eps);
            }
        gather(k, step, queries, time, width);
        transpose((lane *)queries, d / PER_LANE, keys, t, t, d / PER_LANE);
        gather(q, step, queries, time, width);
        gather(v, step, values, time, width);
        pack(values, d, packed, d, t, d);
        for (long first = 0; first < t; first += EDGE) {
            const long end = first + EDGE;
            float shares[EDGE];
            product(queries + first * d, d, keys, t, scores, t, EDGE, end, d, 0);
            for (long r = 0; r < EDGE; r++) {
                float *restrict s = scores + r * t, total = 0.0f;
                element *restrict w = weights + r * t;
                for (long j = 0; j < EDGE; j++) s[first + j] = j > r ? -INFINITY : s[first + j];
                const float most = largest(s, WHOLE(end)) * factor;
                for (long j = 0; j < WHOLE(end); j++) {
                    s[j] = exponential(s[j] * factor - most);
                    total += s[j];
                }
                put_row(s, w, end);
                shares[r] = 1.0f / total;
                if (first + r < time) levels[i * time + first + r] = most + logf(total);
            }
            product(weights, t, packed, d, out, d, EDGE, d, end, 0);
            for (long r = 0; r < EDGE && first + r < time; r++) {
                element *restrict y = mixed + ((b * time + first + r) * heads + h) * width;
                for (long j = 0; j < width; j++) y[j] = put(out[r * d + j] * shares[r]);
            }
        }
    }
    tiles_end();
}

/* The gradient of the rows that `attend` was given, from that of what it mixed; `rows` are as it left them. */
void attend_backward(const argument *a) {
    const element *grad = a[0].p, *mixed = a[1].p, *rows = a[2].p;
    const float *scales = a[3].p, *levels = a[4].p, *cosines = a[5].p, *sines = a[6].p;
    element *restrict before = a[7].p;
    const long batch = a[10].i, time = a[11].i, heads = a[12].i, width = a[13].i;
    const long t = padded(time), d = padded(width), step = 3 * heads * width, c_step = heads * width;
    const float factor = 1.0f / sqrtf((float)width);
    tiles_begin();
    room own = {(char *)((float *)a[8].p + thread_number() * a[9].i)};
    element *keys = take(&own, t * d), *values = take(&own, t * d), *some = take(&own, t * d);
    element *keys_turned = take(&own, t * d), *weights = take(&own, EDGE * t);
    element *slopes = take(&own, EDGE * t);
    lane *queries = take(&own, t * d), *queries_turned = take(&own, t * d);
    lane *grads = take(&own, t * d), *grads_turned = take(&own, t * d), *packed = take(&own, EDGE * t);
    float *of_queries = take(&own, t * d), *scores = take(&own, EDGE * t), *out = take(&own, EDGE * t);
    float *level = take(&own, t), *along = take(&own, t);
    float *of_block = take(&own, t * d);
    const range some_heads = own_range(batch * heads);
    for (long i = some_heads.first; i < some_heads.end; i++) {
        const long b = i / heads, h = i % heads;
        const element *q = rows + b * time * step + h * width, *k = q + c_step, *v = k + c_step;
        const element *g = grad + b * time * c_step + h * width, *y = mixed + b * time * c_step + h * width;
        element *to = before + b * time * step + h * width;
        for (long r = 0; r < t; r++) {
            level[r] = r < time ? levels[i * time + r] : INFINITY;
            along[r] = 0.0f;
            prefetch_row(g, c_step, r, time, width);
            prefetch_row(y, c_step, r, time, width);
            if (r < time)
                for (long j = 0; j < width; j++) along[r] += get(g[r * c_step + j]) * get(y[r * c_step + j]);
        }
        gather(k, step, keys, time, width);
        pack(keys, d, queries, d, t, d);
        transpose(queries, d, (lane *)keys_turned, t / PER_LANE, t / PER_LANE, d);
        gather(v, step, values, time, width);
        gather(q, step, some, time, width);
        pack(some, d, queries, d, t, d);
        transpose((lane *)some, d / PER_LANE, queries_turned, t, t, d / PER_LANE);
        gather(g, c_step, some, time, width);
        pack(some, d, grads, d, t, d);
        transpose((lane *)some, d / PER_LANE, grads_turned, t, t, d / PER_LANE);
        memset(of_queries, 0, t * d * sizeof(float));
        for (long first = 0; first < t; first += EDGE) {
            const long count = t - first; /* from the first query that sees these keys */
            product(keys + first * d, d, queries_turned + first, t, scores, t, EDGE, count, d, 0);
            product(values + first * d, d, grads_turned + first, t, out, t, EDGE, count, d, 0);
            for (long r = 0; r < EDGE; r++) {
                float *restrict s = scores + r * t, *restrict o = out + r * t;
                const float *of = level + first, *means = along + first;
                for (long j = 0; j < EDGE; j++) s[j] = j < r ? -INFINITY : s[j];
                for (long j = 0; j < WHOLE(count); j++) {
                    s[j] = exponential(s[j] * factor - of[j]);
                    o[j] = s[j] * (o[j] - means[j]) * factor;
                }
                put_row(s, weights + r * t, count);
                put_row(o, slopes + r * t, count);
            }
            const long at = first / PER_LANE * d;
            product(weights, t, grads + at, d, of_block, d, EDGE, d, count, 0);
            for (long r = 0; r < EDGE && first + r < time; r++)
                for (long j = 0; j < width; j++)
                    to[(first + r) * step + 2 * c_step + j] = put(of_block[r * d + j]);
            product(slopes, t, queries + at, d, of_block, d, EDGE, d, count, 0);
            for (long r = 0; r < EDGE && first + r < time; r++) {
                const long row = first + r;
                turn_back(of_block + r * d, k + row * step, scales[(b * time + row) * 2 * heads + heads + h],
                          cosines, sines, row, to + row * step + c_step, width);
            }
            pack(slopes, t, packed, t, EDGE, count);
            product(keys_turned + first, t, packed, t, of_queries + first, t, d, count, EDGE, 1);
        }
        transpose((lane *)of_queries, t, (lane *)of_block, d, d, t);
        for (long r = 0; r < time; r++)
            turn_back(of_block + r * d, q + r * step, scales[(b * time + r) * 2 * heads + h], cosines, sines, r,
                      to + r * step, width);
    }
    tiles_end();
}
