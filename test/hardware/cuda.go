// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// The functions of the CUDA driver API that are used here, by their names in the library.
static struct {
  int (*init)(unsigned flags);
  int (*device_get)(int *device, int ordinal);
  int (*ctx_create)(void **context, unsigned flags, int device);
  int (*mem_alloc)(uint64_t *pointer, size_t bytes);
  int (*module_load)(void **module, const void *image);
  int (*module_function)(void **function, void *module, const char *name);
  int (*launch)(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                unsigned shared, void *stream, void **params, void **extra);
  int (*synchronize)(void);
  int (*error_name)(int error, const char **name);
} cu;

// cuda_load returns what is missing, or NULL.
static const char *cuda_load(const char *library) {
  void *lib = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!lib) return dlerror();
  const struct { const char *name; void *to; } symbols[] = {
    {"cuInit", &cu.init}, {"cuDeviceGet", &cu.device_get}, {"cuCtxCreate_v2", &cu.ctx_create},
    {"cuMemAlloc_v2", &cu.mem_alloc}, {"cuModuleLoadData", &cu.module_load},
    {"cuModuleGetFunction", &cu.module_function}, {"cuLaunchKernel", &cu.launch},
    {"cuCtxSynchronize", &cu.synchronize}, {"cuGetErrorName", &cu.error_name},
  };
  for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
    void *f = dlsym(lib, symbols[i].name);
    if (!f) return dlerror();
    *(void **)symbols[i].to = f;
  }
  return NULL;
}

static void *context, *function;

// cuda_open makes a context on the only GPU that this process sees.
static int cuda_open(void) {
  int device, ret = cu.init(0);
  if (!ret) ret = cu.device_get(&device, 0);
  if (!ret) ret = cu.ctx_create(&context, 0, device);
  return ret;
}

static int cuda_alloc(size_t bytes, uint64_t *pointer) { return cu.mem_alloc(pointer, bytes); }

static int cuda_load_spin(const char *ptx) {
  void *module;
  int ret = cu.module_load(&module, ptx);
  return ret ? ret : cu.module_function(&function, module, "spin");
}

// cuda_spin runs one thread for a number of cycles, and waits for it.
static int cuda_spin(uint64_t out, uint64_t cycles) {
  void *params[] = {&out, &cycles};
  int ret = cu.launch(function, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL);
  return ret ? ret : cu.synchronize();
}

static const char *cuda_error(int ret) {
  const char *name = NULL;
  cu.error_name(ret, &name);
  return name ? name : "unknown error";
}
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// spinPTX is a kernel that does nothing but wait. Reads of the clock are volatile, so that no compiler takes the loop away.
// Every GPU since Maxwell (compute capability 5.0) runs it, compiled by the driver.
const spinPTX = `.version 6.0
.target sm_50
.address_size 64

.visible .entry spin(.param .u64 out, .param .u64 cycles)
{
	.reg .pred %more;
	.reg .u64 %begin, %now, %limit, %to;

	ld.param.u64 %to, [out];
	ld.param.u64 %limit, [cycles];
	cvta.to.global.u64 %to, %to;
	mov.u64 %begin, %clock64;
again:
	mov.u64 %now, %clock64;
	sub.u64 %now, %now, %begin;
	setp.lt.u64 %more, %now, %limit;
	@%more bra again;
	st.global.u64 [%to], %now;
	ret;
}
`

// spinCycles takes some 20 ms on a GPU of 1.5 GHz.
const spinCycles = 30_000_000

// cuda is the CUDA driver, with a context of this thread.
type cuda struct {
	// pointer is the newest allocation.
	pointer C.uint64_t
	spins   bool
}

// errNoCUDA says that there is no CUDA driver.
type errNoCUDA struct{ why string }

func (e errNoCUDA) Error() string { return "no CUDA driver: " + e.why }

// openCUDA makes a context on the first GPU that this process sees. The context belongs to the thread.
func openCUDA(library string) (*cuda, error) {
	name := C.CString(library)
	defer C.free(unsafe.Pointer(name))
	if missing := C.cuda_load(name); missing != nil {
		return nil, errNoCUDA{C.GoString(missing)}
	}
	return &cuda{}, cudaError("make a context", C.cuda_open())
}

func (c *cuda) alloc(bytes uint64) error {
	return cudaError("allocate", C.cuda_alloc(C.size_t(bytes), &c.pointer))
}

// spin computes for some 20 ms. Something must have been allocated.
func (c *cuda) spin() error {
	if !c.spins {
		ptx := C.CString(spinPTX)
		defer C.free(unsafe.Pointer(ptx))
		if err := cudaError("load a kernel", C.cuda_load_spin(ptx)); err != nil {
			return err
		}
		c.spins = true
	}
	return cudaError("run a kernel", C.cuda_spin(c.pointer, spinCycles))
}

func cudaError(what string, ret C.int) error {
	if ret == 0 {
		return nil
	}
	return fmt.Errorf("CUDA: %s: %s (%d)", what, C.GoString(C.cuda_error(ret)), int(ret))
}
