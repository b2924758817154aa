// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package containerruntime

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// limitsHook is the hook by which the toolkit (1.20.1 and later, internal/discover/hooks.go) tells the driver a container's
// memory limit. A runtime that adds it to containers has its name in its binary.
const limitsHook = "apply-cuda-memory-limits"

// maxBinary is how much of a binary is looked at, in bytes. The toolkit's have a tenth of it.
const maxBinary = 128 << 20

// limits returns what becomes of a memory limit in the environment of a handler's containers, whose GPUs are named by qualified
// names; nil if it is not known. Whether the driver can do what it is told is not looked at here.
func (h *host) limits(binary, mode string, t *toolkit) *berthv1alpha1.MemoryLimits {
	if mode == "legacy" || mode == "hook" { // of nvidia-container-cli, where the limit's hook is one of CDI
		return ignored("mode %s of the container toolkit does not read it", mode)
	}
	for _, name := range t.disabledHooks {
		if name == limitsHook || name == "all" {
			return ignored("%s is among nvidia-container-runtime.modes.jit-cdi.nvcdi-disable-hooks of %s", name, t.path)
		}
	}
	path, err := h.find(binary)
	if err != nil {
		return nil
	}
	if text, err := h.read(path); err == nil && bytes.HasPrefix(text, []byte("#!")) {
		path += ".real" // as the toolkit's installer has it
	}
	found, err := h.contains(path, limitsHook)
	switch {
	case err != nil:
		return nil
	case !found:
		return ignored("%s is older than the container toolkit 1.20.1, which reads it", path)
	}
	return &berthv1alpha1.MemoryLimits{State: berthv1alpha1.MemoryLimitEnforced, Message: fmt.Sprintf("%s has the driver enforce it", path)}
}

// contains says whether a file of the host has some text in it, wherever.
func (h *host) contains(path, text string) (bool, error) {
	f, err := h.open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	content, buffer := io.LimitReader(f, maxBinary), make([]byte, 1<<16)
	kept := 0 // of the part before: as much as the text can begin in
	for {
		n, err := content.Read(buffer[kept:])
		if bytes.Contains(buffer[:kept+n], []byte(text)) {
			return true, nil
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return false, err
		}
		end := kept + n
		kept = min(end, len(text)-1)
		copy(buffer, buffer[end-kept:end])
	}
}

func ignored(format string, args ...any) *berthv1alpha1.MemoryLimits {
	return &berthv1alpha1.MemoryLimits{State: berthv1alpha1.MemoryLimitIgnored, Message: fmt.Sprintf(format, args...)}
}
