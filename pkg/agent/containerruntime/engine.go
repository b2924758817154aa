// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package containerruntime

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// engine is what the configuration of containerd or CRI-O says.
type engine struct {
	// binaries are the low-level runtimes by handler; empty if the handler names none.
	binaries map[string]string
	// byDefault is the handler of pods without a RuntimeClass; empty = the one that CRI-O was built with.
	byDefault string
	// hook is the path of the toolkit's OCI hook that every container of the node runs through, if there is one.
	hook string
	// hookUnknown says that there may be a hook: the folders of hooks cannot be looked at.
	hookUnknown bool
}

// containerdConfigs are the main configuration files of containerd: as packages have it, of MicroK8s and of k0s.
var containerdConfigs = []string{
	"/etc/containerd/config.toml",
	"/var/snap/microk8s/current/args/containerd.toml",
	"/etc/k0s/containerd.toml",
}

// rancherConfigs are those of k3s and RKE2, whose containerd calls itself "2.1.4-k3s1". They leave alone what else is on
// the machine.
var rancherConfigs = []string{
	"/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
	"/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
}

// containerdDropIns is what containerd 2.2 and later includes without a configuration file (its
// defaults.DefaultConfigIncludePattern).
const containerdDropIns = "/etc/containerd/conf.d"

// criPlugins are the names of containerd's CRI plugin in its configuration of version 3, 2 and 1.
var criPlugins = []string{"io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "cri"}

// maxImports is how many files one configuration may consist of.
const maxImports = 64

// readContainerd returns what the containerd of the host is told. Files override those that import them, as in
// containerd's server/config.LoadConfig.
func (h *host) readContainerd(version string) (*engine, error) {
	pending, err := h.containerdStart(version)
	if err != nil {
		return nil, err
	}
	e := &engine{binaries: map[string]string{}, byDefault: "runc"}
	loaded := map[string]bool{}
	for len(pending) > 0 {
		path := pending[0]
		pending = pending[1:]
		if loaded[path] {
			continue
		}
		if loaded[path] = true; len(loaded) > maxImports {
			return nil, fmt.Errorf("containerd's configuration has more than %d files", maxImports)
		}
		t, err := h.readTOML(path)
		if err != nil {
			return nil, fmt.Errorf("containerd's configuration: %w", err)
		}
		e.addContainerd(t)
		imports, _ := t.texts("imports")
		for _, pattern := range imports {
			if !filepath.IsAbs(pattern) {
				pattern = filepath.Join(filepath.Dir(path), pattern)
			}
			files := []string{pattern}
			if strings.Contains(pattern, "*") {
				if files, err = h.list(filepath.Dir(pattern), filepath.Base(pattern)); err != nil {
					return nil, fmt.Errorf("containerd's configuration: %w", err)
				}
			}
			pending = append(pending, files...)
		}
	}
	return e, nil
}

// containerdStart returns the files from which containerd starts.
func (h *host) containerdStart(version string) ([]string, error) {
	configs, dropIns := containerdConfigs, true
	if strings.Contains(version, "-k3s") {
		configs, dropIns = rancherConfigs, false
	}
	var unread []error
	for _, path := range configs {
		_, err := h.read(path)
		if err == nil {
			return []string{path}, nil
		}
		unread = append(unread, err)
	}
	if files, err := h.list(containerdDropIns, "*.toml"); dropIns && err == nil && len(files) > 0 {
		return files, nil
	}
	return nil, fmt.Errorf("no configuration of containerd: %w", errors.Join(unread...))
}

func (e *engine) addContainerd(t tree) {
	for _, plugin := range criPlugins {
		cri := t.table("plugins", plugin, "containerd")
		if name := cri.text("default_runtime_name"); name != "" {
			e.byDefault = name
		}
		runtimes := cri.table("runtimes")
		for name := range runtimes {
			if binary := runtimes.text(name, "options", "BinaryName"); binary != "" || e.binaries[name] == "" {
				e.binaries[name] = binary
			}
		}
	}
}

// CRI-O's files, in the order in which it reads them: the later one wins.
const (
	crioConfig  = "/etc/crio/crio.conf"
	crioDropIns = "/etc/crio/crio.conf.d"
)

// crioHooks are where CRI-O looks for OCI hooks when its hooks_dir says nothing (/usr/share), and where they are put by
// admins (/etc) and, on OpenShift, by the GPU operator (/run).
var crioHooks = []string{"/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d", "/run/containers/oci/hooks.d"}

// readCRIO returns what the CRI-O of the host is told.
func (h *host) readCRIO() (*engine, error) {
	dropIns, err := h.list(crioDropIns, "*")
	if err != nil {
		return nil, fmt.Errorf("CRI-O's configuration: %w", err)
	}
	e := &engine{binaries: map[string]string{}}
	folders := crioHooks
	found := false
	for _, path := range append([]string{crioConfig}, dropIns...) {
		t, err := h.readTOML(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("CRI-O's configuration: %w", err)
		}
		found = true
		if name := t.text("crio", "runtime", "default_runtime"); name != "" {
			e.byDefault = name
		}
		runtimes := t.table("crio", "runtime", "runtimes")
		for name := range runtimes {
			if binary := runtimes.text(name, "runtime_path"); binary != "" || e.binaries[name] == "" {
				e.binaries[name] = binary
			}
		}
		if dirs, ok := t.texts("crio", "runtime", "hooks_dir"); ok {
			folders = dirs
		}
	}
	if !found {
		return nil, errors.New("no configuration of CRI-O")
	}
	e.hook, e.hookUnknown = h.findHook(folders)
	return e, nil
}
