// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// A libcuda.so.1 without a GPU: it writes into the folder BERTH_FAKE_CUDA what its process holds ("PID": UUID and bytes) and
// touches "PID.busy" while it computes. The test makes the GPU's driver say so.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONTEXT = 300 << 20, INVALID_VALUE = 1, INVALID_PTX = 218 };
static unsigned long long held;

static void path(char *to, size_t size, const char *suffix) {
  snprintf(to, size, "%s/%d%s", getenv("BERTH_FAKE_CUDA"), (int)getpid(), suffix);
}

static int tell(void) {
  char name[512], temporary[512];
  path(name, sizeof name, "");
  path(temporary, sizeof temporary, ".new");
  FILE *f = fopen(temporary, "w");
  if (!f) return INVALID_VALUE;
  fprintf(f, "%s %llu\n", getenv("CUDA_VISIBLE_DEVICES"), held);
  fclose(f);
  return rename(temporary, name) ? INVALID_VALUE : 0;
}

int cuInit(unsigned flags) { return flags || !getenv("BERTH_FAKE_CUDA") || !getenv("CUDA_VISIBLE_DEVICES"); }
int cuDeviceGet(int *device, int ordinal) { *device = 0; return ordinal; }
int cuCtxCreate_v2(void **context, unsigned flags, int device) { *context = &held; held = CONTEXT; return flags || device || tell(); }
int cuMemAlloc_v2(uint64_t *pointer, size_t bytes) { *pointer = 4096; held += bytes; return tell(); }
int cuModuleLoadData(void **module, const void *image) {
  *module = &held;
  return strstr(image, ".visible .entry spin(") ? 0 : INVALID_PTX;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
  *function = &held;
  return module != &held || strcmp(name, "spin") != 0;
}
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   void *stream, void **params, void **extra) {
  if (f != &held || gx * gy * gz * bx * by * bz != 1 || shared || stream || extra) return INVALID_VALUE;
  if (*(uint64_t *)params[0] != 4096 || !*(uint64_t *)params[1]) return INVALID_VALUE;
  char name[512];
  path(name, sizeof name, ".busy");
  FILE *file = fopen(name, "w");
  return file ? fclose(file) : INVALID_VALUE;
}
int cuCtxSynchronize(void) { return usleep(20000); }
int cuGetErrorName(int error, const char **name) {
  *name = error == INVALID_PTX ? "CUDA_ERROR_INVALID_PTX" : "CUDA_ERROR_INVALID_VALUE";
  return 0;
}
