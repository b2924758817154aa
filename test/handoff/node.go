// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-dev/berth/test/nvmlmock"
)

// limitsHook is the hook of the toolkit that tells the driver a container's memory limit.
const limitsHook = "apply-cuda-memory-limits"

// packagedConfig is the toolkit's configuration where its packages have it.
const packagedConfig = "/etc/nvidia-container-runtime/config.toml"

// gpus is how many GPUs a node has.
const gpus = 4

// node is a folder that looks like the file system of a node. Its files name each other by the paths that they really
// have: a link in it makes those paths good below its root too.
type node struct {
	root    string
	version string
	state   nvmlmock.State
	// handlers are the binaries of the handlers that were installed, by name; "" is what pods without a RuntimeClass get.
	handlers map[string]string
	// hook is the file of the OCI hook that CRI-O adds to every container, if there is one.
	hook string
}

// newNode makes a node with a driver and the toolkit's binaries, which are in a folder together with the driver's
// library. It skips the test where device nodes cannot be made.
func newNode(t *testing.T, version, binaries string) *node {
	t.Helper()
	n := &node{root: t.TempDir(), version: version, state: nvmlmock.DGX(gpus), handlers: map[string]string{}}
	if err := os.MkdirAll(filepath.Join(n.root, filepath.Dir(n.root)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(n.root, n.root)); err != nil {
		t.Fatal(err)
	}
	n.addDriver(t, binaries)
	for _, command := range []string{runtimeCommand, cdiCommand, legacyCommand, hookCommand} {
		n.link(t, filepath.Join(binaries, command), filepath.Join("/usr/bin", command))
	}
	n.write(t, "/usr/bin/runc", "#!/bin/sh\nexit 0\n")
	n.write(t, "/usr/bin/nvidia-container-cli", "#!/bin/sh\necho \"$@\" >\"$0.arguments\"\n")
	n.write(t, "/etc/containerd/config.toml", "version = 2\n")
	return n
}

// path returns the real path of a file of the node, whose folder it makes.
func (n *node) path(t *testing.T, elements ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{n.root}, elements...)...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// write writes a file of the node, in which ROOT stands for the real path of the node's root.
func (n *node) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(n.path(t, path), []byte(strings.ReplaceAll(text, "ROOT", n.root)), 0o755); err != nil {
		t.Fatal(err)
	}
}

// link makes a file of the node that is the same as one of the machine.
func (n *node) link(t *testing.T, file, path string) {
	t.Helper()
	if err := os.Link(file, n.path(t, path)); err != nil {
		t.Fatal(err)
	}
}

// addDriver makes what the toolkit looks for of a driver: libraries by its version, and device nodes.
func (n *node) addDriver(t *testing.T, binaries string) {
	t.Helper()
	versioned := "libnvidia-ml.so." + n.state.Driver
	n.link(t, filepath.Join(binaries, nvmlmock.LibraryName), "/usr/lib64/"+versioned)
	if err := os.Symlink(versioned, n.path(t, "/usr/lib64", nvmlmock.LibraryName)); err != nil {
		t.Fatal(err)
	}
	n.write(t, "/usr/lib64/libcuda.so."+n.state.Driver, "")
	if err := n.state.WriteFile(n.path(t, "/state")); err != nil {
		t.Fatal(err)
	}
	names := []string{"nvidiactl", "nvidia-uvm"}
	for i := range gpus {
		names = append(names, filepath.Base(deviceFile(i)))
	}
	for i, name := range names {
		err := syscall.Mknod(n.path(t, "/dev", name), syscall.S_IFCHR|0o666, 195<<8|i)
		if errors.Is(err, syscall.EPERM) {
			t.Skip("device nodes cannot be made here: ", err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// deviceFile is the device node of the index-th GPU.
func deviceFile(index int) string { return fmt.Sprintf("/dev/nvidia%d", index) }

// outcome is what became of a container.
type outcome struct {
	// devices are the UUIDs of the GPUs whose device nodes the specification of the container has, and of those that
	// nvidia-container-cli was told of.
	devices []string
	// mounts are the places in the container where something of the host is.
	mounts []string
	// limits are the hooks that tell the driver the container's memory limit, before it starts.
	limits []*exec.Cmd
	// failure is why the container was not made.
	failure string
}

// start makes a container as containerd or CRI-O does, by a handler, with a value of NVIDIA_VISIBLE_DEVICES.
func (n *node) start(t *testing.T, handler, visible string, more ...string) outcome {
	t.Helper()
	binary, ok := n.handlers[handler]
	if !ok {
		t.Fatalf("handler %q is not installed", handler)
	}
	bundle := t.TempDir()
	if err := os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(bundle, "config.json")
	spec := map[string]any{
		"ociVersion": "1.1.0",
		"process":    map[string]any{"args": []string{"sleep"}, "cwd": "/", "env": append([]string{"NVIDIA_VISIBLE_DEVICES=" + visible}, more...)},
		"root":       map[string]any{"path": filepath.Join(bundle, "rootfs")},
		"linux":      map[string]any{},
	}
	if n.hook != "" {
		spec["hooks"] = map[string]any{"prestart": []any{n.readHook(t)}}
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := n.command(binary, nil, "create", "--bundle", bundle, "c1").CombinedOutput(); err != nil {
		return outcome{failure: string(out)}
	}
	return n.result(t, bundle, config)
}

// readHook returns the hook of the node's file.
func (n *node) readHook(t *testing.T) json.RawMessage {
	t.Helper()
	text, err := os.ReadFile(n.hook)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Hook json.RawMessage }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file.Hook
}

// result reads the specification that the low-level runtime was handed, and runs the toolkit's hook if it has it.
func (n *node) result(t *testing.T, bundle, config string) outcome {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Mounts []struct{ Destination string } `json:"mounts"`
		Linux  struct {
			Devices []struct{ Path string } `json:"devices"`
		} `json:"linux"`
		Hooks struct {
			Prestart      []hook `json:"prestart"`
			CreateRuntime []hook `json:"createRuntime"`
		} `json:"hooks"`
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	o := outcome{}
	for _, m := range spec.Mounts {
		o.mounts = append(o.mounts, m.Destination)
	}
	for _, d := range spec.Linux.Devices {
		for i := range gpus {
			if d.Path == deviceFile(i) {
				o.devices = append(o.devices, n.state.GPUs[i].UUID)
			}
		}
	}
	for _, hook := range spec.Hooks.Prestart {
		if strings.HasPrefix(filepath.Base(hook.Path), hookCommand) {
			h := n.runHook(t, hook.Path, bundle)
			o.devices, o.failure = append(o.devices, h.devices...), h.failure
		}
	}
	for _, hook := range spec.Hooks.CreateRuntime {
		if slices.Contains(hook.Args, limitsHook) {
			o.limits = append(o.limits, n.command(hook.Path, containerState(t, bundle), hook.Args[1:]...))
		}
	}
	slices.Sort(o.devices)
	return o
}

// hook is an OCI hook.
type hook struct {
	Path string
	Args []string
}

// containerState is what a low-level runtime tells hooks of a container, whose process is this one.
func containerState(t *testing.T, bundle string) []byte {
	t.Helper()
	state, err := json.Marshal(map[string]any{"ociVersion": "1.1.0", "id": "c1", "pid": os.Getpid(), "bundle": bundle})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// runHook runs the toolkit's OCI hook, as runc does before it starts the container.
func (n *node) runHook(t *testing.T, path, bundle string) outcome {
	t.Helper()
	arguments := []string{"prestart"}
	config := filepath.Join(n.root, packagedConfig)
	if _, err := os.Stat(config); err == nil && n.version == "1.17.8" && strings.HasPrefix(path, n.path(t, "/usr/bin")) {
		// This one heeds no variable, and would read the machine's.
		arguments = append([]string{"-config", config}, arguments...)
	}
	if out, err := n.command(path, containerState(t, bundle), arguments...).CombinedOutput(); err != nil {
		return outcome{failure: string(out)}
	}
	told := n.path(t, "/usr/bin/nvidia-container-cli.arguments")
	text, err := os.ReadFile(told)
	if errors.Is(err, os.ErrNotExist) {
		return outcome{} // not told to hand out anything
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(told); err != nil {
		t.Fatal(err)
	}
	for _, argument := range strings.Fields(string(text)) {
		names, ok := strings.CutPrefix(argument, "--device=")
		if !ok {
			continue
		}
		for name := range strings.SplitSeq(names, ",") {
			// It knows devices by UUID, PCI address or index and ends with "unknown device" otherwise (libnvidia-container,
			// src/cli/common.c).
			if !slices.ContainsFunc(n.state.GPUs, func(g nvmlmock.GPU) bool { return g.UUID == name }) {
				return outcome{failure: "nvidia-container-cli: device error: " + name + ": unknown device"}
			}
		}
		return outcome{devices: strings.Split(names, ",")}
	}
	return outcome{}
}

// command returns a command that sees the node's driver. Binaries of packages read /etc, which only a variable can move
// into the node; wrappers set their own.
func (n *node) command(path string, stdin []byte, arguments ...string) *exec.Cmd {
	cmd := exec.Command(path, arguments...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = []string{
		"PATH=" + filepath.Join(n.root, "usr/bin") + ":/usr/sbin:/usr/bin:/sbin:/bin",
		"XDG_CONFIG_HOME=" + filepath.Join(n.root, "etc"),
		nvmlmock.EnvState + "=" + filepath.Join(n.root, "state"),
	}
	return cmd
}
