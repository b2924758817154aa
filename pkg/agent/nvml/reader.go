// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package nvml reads GPUs through NVIDIA's management library. It is the only importer of go-nvml: cgo ends here.
//
// Three properties of the library shape the code:
//
//   - Calls fail in their own ways on single GPUs (lost, being reset, unified memory, MIG), so every call stands
//     alone, and what a device cannot tell is left out of its reading. go-nvml itself can panic on a short answer, and
//     the dynamic linker ends the process when a function is missing in an older driver, so each call goes through
//     call, which checks for both.
//   - glibc never unloads the library once a function of it was called, and loading it again yields the old one. A
//     process that outlives a driver upgrade therefore cannot follow it: the reader notices that its library was
//     replaced and says so (agent.ErrStaleLibrary).
//   - An open library holds the GPUs. A reset, or a change of the MIG mode, waits for all clients to let go, so while
//     a GPU needs either the reader opens the library for each reading only.
package nvml

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/pkg/agent"
)

// ErrUnavailable says that there is no driver to read from, at least not now.
var ErrUnavailable = errors.New("no NVIDIA driver")

const (
	// mismatchTolerated is how long the library and the driver may be of different versions, as they are in the
	// middle of an upgrade, before only a new container with the new library can help.
	mismatchTolerated = time.Minute
	// slowInterval is the time between checks of what changes seldom: error counters and reset state.
	slowInterval = 2 * time.Second
	// releaseAlways is for how long a GPU that needs it makes the reader let go after each reading. Opening the driver
	// can take a second, so a GPU that nobody repairs makes it do so only for releaseWindow of each minute after that.
	releaseAlways = 5 * time.Minute
	releaseWindow = 10 * time.Second
)

// Options are the settings of a Reader.
type Options struct {
	// LibraryPath is the library to load; empty = libnvidia-ml.so.1, by the dynamic linker's search path.
	LibraryPath string
	// Library is used instead of a library that is loaded, for tests.
	Library nvml.Interface
	// Now tells the time; nil = time.Now.
	Now func() time.Time
}

// Reader reads the GPUs of this machine. It implements agent.Reader and is not safe for concurrent use.
type Reader struct {
	lib     nvml.Interface
	library *loadedLibrary
	now     func() time.Time

	open          bool
	symbols       map[string]bool
	driverVersion string
	events        nvml.EventSet
	// mismatchSince is since when the library and the driver have been of different versions.
	mismatchSince time.Time
	// releaseSince is since when a GPU has waited for its clients to let go.
	releaseSince time.Time
	// slowAt is when what changes seldom was last read.
	slowAt time.Time

	// devices is all that was ever read, by UUID: a GPU that is lost can no longer tell its name.
	devices map[string]*device
	links   linkCache
}

// New returns a reader. Nothing is loaded before the first Read.
func New(o Options) *Reader {
	r := &Reader{lib: o.Library, now: o.Now, devices: map[string]*device{}}
	if r.now == nil {
		r.now = time.Now
	}
	if r.lib == nil {
		var options []nvml.LibraryOption
		if o.LibraryPath != "" {
			options = append(options, nvml.WithLibraryPath(o.LibraryPath))
		}
		r.lib = nvml.New(options...)
		r.library = &loadedLibrary{}
	}
	return r
}

// Read returns what the devices hold now.
func (r *Reader) Read(ctx context.Context) (*agent.Reading, error) {
	if r.library.replaced() {
		return nil, agent.ErrLibraryReplaced
	}
	if err := r.openLibrary(ctx); err != nil {
		return nil, err
	}
	count, ret := call(r, r.lib.DeviceGetCount, "nvmlDeviceGetCount_v2", "nvmlDeviceGetCount")
	if ret != nvml.SUCCESS {
		r.closeLibrary()
		return nil, r.unavailable("count devices", ret)
	}
	r.pollEvents(ctx)
	reading := &agent.Reading{
		DriverVersion: r.driverVersion, Devices: r.readDevices(ctx, count), LimitsMemory: r.limitsMemory(),
	}
	if len(reading.Devices) > 0 && allUnreadable(reading.Devices) {
		// The driver may have gone in the middle of it.
		if _, ret := call(r, r.lib.DeviceGetCount, "nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"); ret != nvml.SUCCESS {
			r.closeLibrary()
			return nil, r.unavailable("count devices", ret)
		}
	}
	if r.mustRelease() {
		r.closeLibrary()
		reading.Released = true
	}
	return reading, nil
}

// limitsMemory says whether the driver has the function by which the memory of a cgroup is limited. Whether it can do so for
// each GPU, it says only when it is told to.
func (r *Reader) limitsMemory() bool { return r.has([]string{"nvmlDeviceSetMemoryLimits_v1"}) }

// Close lets go of the driver.
func (r *Reader) Close() error {
	r.closeLibrary()
	return nil
}

func (r *Reader) openLibrary(ctx context.Context) error {
	if r.open {
		return nil
	}
	if ret := r.lib.Init(); ret != nvml.SUCCESS {
		return r.unavailable("open the driver", ret)
	}
	r.open, r.mismatchSince = true, time.Time{}
	r.symbols = map[string]bool{}
	r.slowAt = time.Time{}
	r.library.loaded()
	if version, ret := call(r, r.lib.SystemGetDriverVersion, "nvmlSystemGetDriverVersion"); ret == nvml.SUCCESS {
		r.driverVersion = version
	}
	r.subscribe(ctx)
	return nil
}

func (r *Reader) closeLibrary() {
	if !r.open {
		return
	}
	r.unsubscribe()
	// It cannot be shut down more than this: a driver that is gone does not answer.
	_, _ = call(r, func() (struct{}, nvml.Return) { return struct{}{}, r.lib.Shutdown() })
	r.open = false
}

// unavailable turns a failure of the whole library into an error, and forgets what a new driver has reset.
func (r *Reader) unavailable(what string, ret nvml.Return) error {
	for _, d := range r.devices {
		d.forgetErrors()
	}
	switch ret {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return fmt.Errorf("%w: libnvidia-ml.so.1 cannot be loaded; install the driver, "+
			"run the container with runtimeClassName nvidia, or name the library with --nvml-library", ErrUnavailable)
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		if r.mismatchSince.IsZero() {
			r.mismatchSince = r.now()
		} else if r.now().Sub(r.mismatchSince) > mismatchTolerated {
			return fmt.Errorf("%w: it and the driver have been of different versions for %s",
				agent.ErrStaleLibrary, mismatchTolerated)
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, what, returnError(ret))
}

// mustRelease says whether to let go of the driver until the next reading, for a GPU that waits for all clients to.
func (r *Reader) mustRelease() bool {
	awaited := false
	for _, d := range r.devices {
		awaited = awaited || d.awaitsRelease
	}
	if !awaited {
		r.releaseSince = time.Time{}
		return false
	}
	now := r.now()
	if r.releaseSince.IsZero() || now.Before(r.releaseSince) {
		r.releaseSince = now
	}
	return now.Sub(r.releaseSince) < releaseAlways || now.Sub(now.Truncate(time.Minute)) < releaseWindow
}

func allUnreadable(devices []agent.Device) bool {
	for i := range devices {
		if devices[i].Reason != agent.ReasonUnreadable && devices[i].Reason != agent.ReasonDeviceLost {
			return false
		}
	}
	return true
}

// call makes one call into the library. Its result is nvml.ERROR_FUNCTION_NOT_FOUND if the library has none of the
// symbols, which must not be called then, and nvml.ERROR_UNKNOWN if go-nvml panics.
func call[T any](r *Reader, f func() (T, nvml.Return), symbols ...string) (v T, ret nvml.Return) {
	if len(symbols) > 0 && !r.has(symbols) {
		return v, nvml.ERROR_FUNCTION_NOT_FOUND
	}
	defer func() {
		if p := recover(); p != nil {
			klog.Background().V(4).Info("Call into NVML panicked", "symbols", symbols, "panic", p)
			ret = nvml.ERROR_UNKNOWN
		}
	}()
	return f()
}

// has says whether the library has any of the symbols.
func (r *Reader) has(symbols []string) bool {
	found, known := r.symbols[symbols[0]]
	if known {
		return found
	}
	for _, s := range symbols {
		if r.lib.Extensions().LookupSymbol(s) == nil {
			found = true
			break
		}
	}
	r.symbols[symbols[0]] = found
	return found
}
