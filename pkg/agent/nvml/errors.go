// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// returnError is a return code of the library. The library's own text for it is not asked for: it may be gone.
type returnError nvml.Return

func (e returnError) Error() string {
	name, ok := map[nvml.Return]string{
		nvml.ERROR_UNINITIALIZED:           "not initialized",
		nvml.ERROR_INVALID_ARGUMENT:        "invalid argument",
		nvml.ERROR_NOT_SUPPORTED:           "not supported",
		nvml.ERROR_NO_PERMISSION:           "no permission",
		nvml.ERROR_NOT_FOUND:               "not found",
		nvml.ERROR_DRIVER_NOT_LOADED:       "driver not loaded",
		nvml.ERROR_TIMEOUT:                 "timeout",
		nvml.ERROR_LIBRARY_NOT_FOUND:       "library not found",
		nvml.ERROR_FUNCTION_NOT_FOUND:      "function not in this library",
		nvml.ERROR_GPU_IS_LOST:             "GPU is lost",
		nvml.ERROR_RESET_REQUIRED:          "GPU requires a reset",
		nvml.ERROR_LIB_RM_VERSION_MISMATCH: "library and driver are of different versions",
		nvml.ERROR_IN_USE:                  "in use",
		nvml.ERROR_GPU_NOT_FOUND:           "GPU not found",
		nvml.ERROR_UNKNOWN:                 "unknown error",
	}[nvml.Return(e)]
	if !ok {
		return fmt.Sprintf("NVML error %d", int(e))
	}
	return fmt.Sprintf("%s (NVML error %d)", name, int(e))
}

// lost says whether a device that answers so is gone, as opposed to one that cannot answer this.
func lost(ret nvml.Return) bool {
	return ret == nvml.ERROR_GPU_IS_LOST || ret == nvml.ERROR_GPU_NOT_FOUND
}

// absent says whether a call does not exist for a device, and will not tomorrow.
func absent(ret nvml.Return) bool {
	return ret == nvml.ERROR_NOT_SUPPORTED || ret == nvml.ERROR_FUNCTION_NOT_FOUND ||
		ret == nvml.ERROR_ARGUMENT_VERSION_MISMATCH || ret == nvml.ERROR_DEPRECATED
}
