// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package containerruntime

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	// maxHandlers, maxName and maxMessage are the API's limits.
	maxHandlers = 16
	maxName     = 63
	maxMessage  = 1024
)

// Node is what the kubelet tells of the node's container runtime.
type Node struct {
	// Version is status.nodeInfo.containerRuntimeVersion, "containerd://2.1.4"; empty = not known.
	Version string
	// Handlers are the names in status.runtimeHandlers; nil = the kubelet, or the runtime, does not tell.
	Handlers []string
}

// Found is what the files of a node say.
type Found struct {
	// Runtimes are the handlers of which something is known, by name.
	Runtimes []berthv1alpha1.RuntimeHandOff
	// Unknown says what could not be read, for the log; nil if all could.
	Unknown error
	// Changed is when the newest of the files that were read was changed.
	Changed time.Time
}

// Read looks at the files of the host. root is where the host's file system is for this process, and folders are the
// folders of the host that are really there ("/" for all), so that a missing file is told from one out of sight.
func Read(root string, folders []string, node Node) Found {
	h := &host{root: root}
	for _, f := range folders {
		h.folders = append(h.folders, filepath.Clean("/"+f))
	}
	e, err := h.readEngine(node.Version)
	if err != nil {
		return Found{Unknown: err, Changed: h.newest}
	}
	found := Found{}
	for _, name := range slices.Sorted(maps.Keys(e.binaries)) {
		if !isNVIDIA(e.binaries[name]) || len(name) > maxName || len(found.Runtimes) == maxHandlers-1 {
			continue
		}
		found.add(h.handler(name, e.binaries[name], node.Handlers))
	}
	found.add(h.byDefault(e))
	slices.SortFunc(found.Runtimes, func(a, b berthv1alpha1.RuntimeHandOff) int { return strings.Compare(a.Handler, b.Handler) })
	found.Changed = h.newest
	return found
}

func (f *Found) add(r berthv1alpha1.RuntimeHandOff, err error) {
	if err != nil {
		f.Unknown = errors.Join(f.Unknown, fmt.Errorf("handler %q: %w", r.Handler, err))
		return
	}
	if len(r.Message) > maxMessage {
		r.Message = strings.ToValidUTF8(r.Message[:maxMessage], "")
	}
	f.Runtimes = append(f.Runtimes, r)
}

// readEngine reads the configuration of the runtime that the node has; of the one that there is if that is not known.
func (h *host) readEngine(version string) (*engine, error) {
	name, _, _ := strings.Cut(version, "://")
	switch name {
	case "containerd":
		return h.readContainerd(version)
	case "cri-o":
		return h.readCRIO()
	case "":
		e, err := h.readContainerd("")
		if err != nil {
			var crioErr error
			if e, crioErr = h.readCRIO(); crioErr != nil {
				return nil, errors.Join(err, crioErr)
			}
		}
		return e, nil
	}
	return nil, fmt.Errorf("container runtime %q is not known", version)
}

// handler returns what a handler takes whose binary is the toolkit's runtime.
func (h *host) handler(name, binary string, loaded []string) (berthv1alpha1.RuntimeHandOff, error) {
	r := berthv1alpha1.RuntimeHandOff{Handler: name}
	if len(loaded) > 0 && !slices.Contains(loaded, name) {
		r.Message = "the handler is configured, but the node's container runtime does not have it: restart it, or see its log"
		return r, nil
	}
	t, err := h.readToolkit(binary)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotVisible):
		r.Message = fmt.Sprintf("%s does not exist: install the NVIDIA container toolkit, or remove the handler", binary)
		return r, nil
	case err != nil:
		return r, err
	}
	r = runtimeForms(name, binary, t)
	if len(r.Accepts) > 0 {
		r.MemoryLimits = h.limits(binary, r.Mode, t)
	}
	return r, nil
}

// byDefault returns what pods without a RuntimeClass can be given.
func (h *host) byDefault(e *engine) (berthv1alpha1.RuntimeHandOff, error) {
	r := berthv1alpha1.RuntimeHandOff{}
	switch binary := e.binaries[e.byDefault]; {
	case isNVIDIA(binary):
		return h.handler("", binary, nil)
	case e.hook != "":
		r.Mode = "hook"
		t, err := h.readToolkit(e.hook)
		if err != nil {
			return r, err
		}
		if r = hookForms(r, t); len(r.Accepts) > 0 {
			r.MemoryLimits = h.limits(e.hook, r.Mode, t)
		}
		return r, nil
	case e.hookUnknown:
		return r, errors.New("folders of OCI hooks are not visible to the agent")
	}
	r.Message = strings.TrimSpace("the default runtime "+e.byDefault) + " hands out no GPUs: name a RuntimeClass"
	return r, nil
}
