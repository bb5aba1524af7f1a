/* Kernels in C for ABI `holo` v1. One kernel or task per module:
 *
 *   clang --target=wasm32 -O3 -msimd128 -nostdlib -Wl,--no-entry,--export=holo_abi -o add.wasm add.c
 *
 *   #include "holo.h"
 *   HOLO_ABI;
 *   HOLO_EXPORT(holo_tile) int32_t add(const holo_tile_t *tile) {
 *     const float *x = holo_operand(tile, 0, HOLO_FLOAT32, HOLO_IN);
 *     const float *y = holo_operand(tile, 1, HOLO_FLOAT32, HOLO_IN);
 *     float *out = holo_operand(tile, 2, HOLO_FLOAT32, HOLO_OUT);
 *     if (!x || !y || !out) return -1;
 *     for (uint32_t i = 0; i < tile->elems; i++) out[i] = x[i] + y[i];
 *     return 0;
 *   }
 *
 * The other exports: holo_init(params, len), holo_finish(out, cap), holo_combine(a, a_len, b, b_len, out, cap) and
 * holo_task(args, len); docs/kernel-abi.md has their contracts. */
#ifndef HOLO_H
#define HOLO_H

#include <stddef.h>
#include <stdint.h>

#define HOLO_EXPORT(name) __attribute__((export_name(#name)))
#define HOLO_IMPORT(name) __attribute__((import_module("holo"), import_name(#name)))
/* The version of the ABI: the host reads the constant at the exported address. */
#define HOLO_ABI __attribute__((used)) const int32_t holo_abi = 1

enum {
  HOLO_BOOL = 1, HOLO_INT8, HOLO_INT16, HOLO_INT32, HOLO_INT64,
  HOLO_UINT8, HOLO_UINT16, HOLO_UINT32, HOLO_UINT64, HOLO_FLOAT32, HOLO_FLOAT64,
};
enum { HOLO_IN = 0, HOLO_OUT = 1 };

typedef struct {
  uint32_t pointer, bytes;
  uint16_t dtype, mode;
  uint32_t stride;
} holo_operand_t;

typedef struct {
  uint32_t size, operand_count;
  uint64_t first_index; /* flat C-order index in the array of the tile's first element */
  uint32_t elems, flags;
  holo_operand_t operands[];
} holo_tile_t;

/* The elements of an operand; NULL when there is none of that dtype and mode. */
static inline void *holo_operand(const holo_tile_t *tile, uint32_t index, uint16_t dtype, uint16_t mode) {
  if (index >= tile->operand_count) return NULL;
  const holo_operand_t *operand = &tile->operands[index];
  return operand->dtype == dtype && operand->mode == mode ? (void *)(uintptr_t)operand->pointer : NULL;
}

/* Each import but holo_fail needs the capability named beside it; a module imports only what it calls. */
HOLO_IMPORT(fail) void holo_fail(int32_t code, const char *message, size_t len);
HOLO_IMPORT(log) void holo_log(int32_t level, const char *text, size_t len); /* log */
HOLO_IMPORT(result) int32_t holo_result(const void *bytes, size_t len);      /* result */
HOLO_IMPORT(rand64) int64_t holo_rand64(void);                              /* random */
HOLO_IMPORT(clock_monotonic) int64_t holo_clock_monotonic(void);            /* clock.monotonic, nanoseconds */

#endif
