// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package containerruntime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

// packagedConfig is where the toolkit's configuration is unless a wrapper of its binaries says otherwise.
const packagedConfig = "/etc/nvidia-container-runtime/config.toml"

// binaryFolders are where a binary is looked for that is named without a folder.
var binaryFolders = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"}

// toolkit is what the configuration of the NVIDIA container toolkit says that decides on the hand-off.
type toolkit struct {
	// path is the file, for people.
	path string
	// mode is that of the runtime: auto, cdi, jit-cdi, legacy or csv.
	mode string
	// kind is what a name without a kind is taken for in mode cdi.
	kind string
	// kindHasUUIDs says that a CDI specification on the node names devices of that kind by UUID.
	kindHasUUIDs bool
	// unprivileged says that the environment of containers without privileges is heeded.
	unprivileged bool
	// hookInAnyMode says that the OCI hook works in every mode of the runtime.
	hookInAnyMode bool
	// disabledHooks are those that specifications that the runtime makes itself lack.
	disabledHooks []string
}

// readToolkit returns the configuration that a binary of the toolkit uses. Its errors tell a binary that is missing
// (fs.ErrNotExist) from one that cannot be looked at.
func (h *host) readToolkit(binary string) (*toolkit, error) {
	path, err := h.toolkitConfig(binary)
	if err != nil {
		return nil, err
	}
	// The defaults are those of its config.GetDefault, which files without the key have as well.
	t := &toolkit{path: path, mode: "auto", kind: "nvidia.com/gpu", unprivileged: true}
	specDirs := []string{"/etc/cdi", "/var/run/cdi"}
	file, err := h.readTOML(path)
	if errors.Is(err, fs.ErrNotExist) {
		file = nil
	} else if err != nil {
		return nil, fmt.Errorf("the toolkit's configuration: %w", errors.Join(err, errNotVisible))
	}
	if accept, ok := file.at("accept-nvidia-visible-devices-envvar-when-unprivileged").(bool); ok {
		t.unprivileged = accept
	}
	if mode := file.text("nvidia-container-runtime", "mode"); mode != "" {
		t.mode = mode
	}
	if kind := file.text("nvidia-container-runtime", "modes", "cdi", "default-kind"); kind != "" {
		t.kind = kind
	}
	if dirs, ok := file.texts("nvidia-container-runtime", "modes", "cdi", "spec-dirs"); ok {
		specDirs = dirs
	}
	t.hookInAnyMode, _ = file.at("nvidia-container-runtime-hook", "skip-mode-detection").(bool)
	t.disabledHooks, _ = file.texts("nvidia-container-runtime", "modes", "jit-cdi", "nvcdi-disable-hooks")
	t.kindHasUUIDs = h.hasUUIDs(t.kind, specDirs)
	return t, nil
}

// wrapped finds in a wrapper script which configuration the binary behind it uses: its path (toolkit 1.18 and later; the
// hook of earlier ones), or the folder that it is below.
var wrapped = regexp.MustCompile(`(?m)^\s*(?:(NVIDIA_CTK_CONFIG_FILE_PATH|XDG_CONFIG_HOME)=|-config\s+)["']?([^"'\s\\]+)`)

// toolkitConfig returns the path of the configuration that a binary of the toolkit uses. The toolkit's installer, and
// so the GPU operator, puts a script before each binary that says it; packages do not.
func (h *host) toolkitConfig(binary string) (string, error) {
	path, err := h.find(binary)
	if err != nil {
		return "", err
	}
	text, err := h.read(path)
	if errors.Is(err, errNotVisible) && strings.HasPrefix(path, "/usr/") && !strings.HasPrefix(path, "/usr/local/") {
		return packagedConfig, nil // there are the binaries of packages
	}
	if err != nil {
		return "", fmt.Errorf("the runtime's binary: %w", err)
	}
	if bytes.HasPrefix(text, []byte("#!")) {
		if m := wrapped.FindSubmatch(text); m != nil {
			if string(m[1]) == "XDG_CONFIG_HOME" {
				return filepath.Join(string(m[2]), "nvidia-container-runtime", "config.toml"), nil
			}
			return string(m[2]), nil
		}
	}
	return packagedConfig, nil
}

// find returns the path of a binary that may be named without a folder.
func (h *host) find(binary string) (string, error) {
	if filepath.IsAbs(binary) {
		return binary, nil
	}
	for _, folder := range binaryFolders {
		path := filepath.Join(folder, binary)
		if _, err := h.read(path); !errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
	}
	return "", fmt.Errorf("the runtime's binary: %s: %w", binary, fs.ErrNotExist)
}

// hasUUIDs says whether a CDI specification in some folders names devices of a kind by UUID. One that cannot be read
// does not count: a form more is never missed, since the other one works as well.
func (h *host) hasUUIDs(kind string, folders []string) bool {
	for _, folder := range folders {
		files, err := h.list(folder, "*")
		if err != nil {
			continue
		}
		for _, file := range files {
			text, err := h.read(file)
			if err != nil {
				continue
			}
			var spec struct {
				Kind    string `json:"kind"`
				Devices []struct {
					Name string `json:"name"`
				} `json:"devices"`
			}
			if filepath.Ext(file) == ".json" {
				err = json.Unmarshal(text, &spec)
			} else {
				err = yaml.Unmarshal(text, &spec)
			}
			if err != nil || spec.Kind != kind {
				continue
			}
			for _, d := range spec.Devices {
				if strings.HasPrefix(d.Name, "GPU-") || strings.HasPrefix(d.Name, "MIG-") {
					return true
				}
			}
		}
	}
	return false
}
