/* Work shared out among the threads that torch has already started: those of the OpenMP runtime that it has loaded,
   GNU's or LLVM's, which have the same entry points. So the compiler needs no OpenMP of its own. Where there is no such
   runtime, one thread does everything.

   A kernel is called by every thread with the same arguments, and does its own part. */
#ifndef PARALLEL_H
#define PARALLEL_H

#include <stdint.h>

#define RUNTIME __attribute__((weak)) extern
RUNTIME void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned);
RUNTIME void GOMP_barrier(void);
RUNTIME int omp_get_thread_num(void);
RUNTIME int omp_get_num_threads(void);

/* One argument of a kernel: an address, an integer or a real number. */
typedef union {
    void *p;
    int64_t i;
    double r;
} argument;

typedef void kernel(const argument *);
typedef struct {
    kernel *call;
    const argument *arguments;
} work;
static void do_work(void *what) {
    const work *w = what;
    w->call(w->arguments);
}

/* Call a kernel on all threads, or on the calling thread alone; return when all are done. */
void run(kernel *call, const argument *arguments, int alone) {
    work what = {call, arguments};
    if (GOMP_parallel && !alone)
        GOMP_parallel(do_work, &what, 0, 0);
    else
        do_work(&what);
}

static inline long thread_number(void) { return omp_get_thread_num ? omp_get_thread_num() : 0; }
static inline long thread_count(void) { return omp_get_num_threads ? omp_get_num_threads() : 1; }

/* Wait for all threads. */
static inline void barrier(void) {
    if (GOMP_barrier) GOMP_barrier();
}

typedef struct {
    long first, end;
} range;

/* What is this thread's of so many: a stretch as long as the others', or longer by one. */
static inline range own_range(long count) {
    const long each = count / thread_count(), more = count % thread_count(), own = thread_number();
    const long first = own * each + (own < more ? own : more);
    return (range){first, first + each + (own < more)};
}
#endif
