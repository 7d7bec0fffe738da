/* What a thread has to work in, and which rows are its own. */
#ifndef WORKSPACE_H
#define WORKSPACE_H

#include "parallel.h"
#include "products.h"

typedef struct {
    char *at;
} workspace;

static inline void *allocate(workspace *from, long count) { /* so many numbers of 32 bits */
    char *taken = from->at;
    from->at += (count * 4 + 63) / 64 * 64;
    return taken;
}

/* What is this thread's of so many rows or columns, of which EDGE stay together. */
static inline long own_part(long count, long *end) {
    const long threads = thread_count(), own = thread_number(), panels = padded(count) / EDGE;
    *end = least(panels * (own + 1) / threads * EDGE, count);
    return panels * own / threads * EDGE;
}
#endif
