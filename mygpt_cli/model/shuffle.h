/* What compilers spell differently: numbers of two vectors of 16 in another order, and loops whose vectors are to
   stay in registers. */
#include <stdint.h>

typedef int32_t order __attribute__((vector_size(64)));
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define UNROLL _Pragma("unroll")
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (order){__VA_ARGS__})
#define UNROLL _Pragma("GCC unroll 16")
#endif
