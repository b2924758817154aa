// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// configuration is what an installer leaves on a node.
type configuration struct {
	name    string
	install install
	// without are the versions of the toolkit that do not have it.
	without []string
	// want is what becomes of it, by handler.
	want map[string]wanted
}

// wanted is what one handler does.
type wanted struct {
	// forms are those by which exactly the booked GPUs arrive.
	forms []berthv1alpha1.DeviceForm
	mode  string
	// failures say how a container cannot start, by form. With a form that is neither here nor in forms it starts
	// without any GPU.
	failures map[berthv1alpha1.DeviceForm]string
	// setting is what the agent's message names when nothing arrives.
	setting string
}

type forms = []berthv1alpha1.DeviceForm
type failures = map[berthv1alpha1.DeviceForm]string

const (
	cdi  = berthv1alpha1.DeviceFormCDI
	uuid = berthv1alpha1.DeviceFormUUID
)

const (
	managementKind = "management.nvidia.com/gpu"

	unresolvable = "unresolvable CDI devices management.nvidia.com/gpu=GPU-"
	unknown      = "nvidia-container-cli: device error: runtime.nvidia.com/gpu=GPU-"
	hookRefuses  = "invoking the NVIDIA Container Runtime Hook directly"
	acceptKey    = "accept-nvidia-visible-devices-envvar-when-unprivileged"
)

var configurations = []configuration{
	{
		name:    "packages and nvidia-ctk runtime configure, without a configuration of the toolkit",
		install: packages(""),
		want:    map[string]wanted{"nvidia": {forms: forms{cdi, uuid}, mode: "auto"}},
	},
	{
		name:    "packages, as they configure the toolkit",
		install: packages(`accept-nvidia-visible-devices-envvar-when-unprivileged = true`),
		want: map[string]wanted{
			"nvidia": {forms: forms{cdi, uuid}, mode: "auto"},
		},
	},
	{
		name:    "nvidia as the default runtime",
		install: packagesOf("", "nvidia", runtimeCommand, true),
		want:    map[string]wanted{"": {forms: forms{cdi, uuid}, mode: "auto"}},
	},
	{
		name:    "explicit legacy",
		install: packages("[nvidia-container-runtime]\nmode = \"legacy\""),
		want:    map[string]wanted{"nvidia": {forms: forms{uuid}, mode: "legacy", failures: failures{cdi: unknown}}},
	},
	{
		name:    "jit-cdi",
		install: packages("[nvidia-container-runtime]\nmode = \"jit-cdi\""),
		without: []string{"1.17.8"},
		want:    map[string]wanted{"nvidia": {forms: forms{cdi, uuid}, mode: "jit-cdi"}},
	},
	{
		name: "cdi with a specification by nvidia-ctk cdi generate",
		install: func(t *testing.T, n *node, binaries string) {
			packages("[nvidia-container-runtime]\nmode = \"cdi\"\n[nvidia-container-runtime.modes.cdi]\nspec-dirs = [\"ROOT/var/run/cdi\"]")(t, n, binaries)
			n.ctk(t, binaries, "cdi", "generate", "--driver-root="+n.root, "--output="+n.path(t, "/var/run/cdi/nvidia.yaml"),
				"--device-name-strategy=uuid", "--nvidia-cdi-hook-path=/usr/bin/nvidia-cdi-hook", "--ldconfig-path=/sbin/ldconfig")
		},
		want: map[string]wanted{"nvidia": {forms: forms{cdi, uuid}, mode: "cdi"}},
	},
	{
		name:    "cdi without a specification",
		install: packages("[nvidia-container-runtime]\nmode = \"cdi\"\n[nvidia-container-runtime.modes.cdi]\nspec-dirs = [\"ROOT/var/run/cdi\"]"),
		want: map[string]wanted{"nvidia": {forms: forms{cdi}, mode: "cdi",
			failures: failures{uuid: "unresolvable CDI devices nvidia.com/gpu=GPU-"}}},
	},
	{
		name:    "GPU operator 25.10 and later",
		install: operator(managementKind, "cdi", true, false),
		want: map[string]wanted{
			"nvidia":        {forms: forms{cdi}, mode: "cdi", failures: failures{uuid: unresolvable}},
			"nvidia-cdi":    {forms: forms{cdi}, mode: "cdi", failures: failures{uuid: unresolvable}},
			"nvidia-legacy": {forms: forms{uuid}, mode: "legacy", failures: failures{cdi: unknown}},
		},
	},
	{
		name:    "GPU operator with CDI off",
		install: operator(managementKind, "auto", true, true),
		want: map[string]wanted{
			"nvidia": {forms: forms{cdi, uuid}, mode: "auto"},
			"":       {forms: forms{cdi, uuid}, mode: "auto"},
		},
	},
	{
		name:    "GPU operator with runtime.nvidia.com/gpu as the default kind",
		install: operator("runtime.nvidia.com/gpu", "cdi", true, false),
		want:    map[string]wanted{"nvidia": {forms: forms{cdi, uuid}, mode: "cdi"}},
	},
	{
		name:    "the environment of unprivileged containers is not heeded, in mode auto",
		install: packages("accept-nvidia-visible-devices-envvar-when-unprivileged = false"),
		want:    map[string]wanted{"nvidia": {mode: "auto", setting: acceptKey}},
	},
	{
		name:    "the environment of unprivileged containers is not heeded, with the GPU operator",
		install: operator(managementKind, "cdi", false, false),
		want: map[string]wanted{
			"nvidia":        {mode: "cdi", setting: acceptKey},
			"nvidia-legacy": {mode: "legacy", setting: acceptKey},
		},
	},
	{
		name:    "the legacy runtime beside a configuration of mode cdi",
		install: packagesOf("[nvidia-container-runtime]\nmode = \"cdi\"", "nvidia-legacy", legacyCommand, false),
		want: map[string]wanted{"nvidia-legacy": {mode: "legacy", setting: "skip-mode-detection",
			failures: failures{cdi: hookRefuses, uuid: hookRefuses}}},
	},
	{
		name:    "CRI-O with a handler",
		install: crio(""),
		want:    map[string]wanted{"nvidia": {forms: forms{cdi, uuid}, mode: "auto"}},
	},
	{
		name:    "CRI-O with the OCI hook alone",
		install: crioHook(""),
		want:    map[string]wanted{"": {forms: forms{uuid}, mode: "hook", failures: failures{cdi: hookRefuses}}},
	},
	{
		name:    "CRI-O with the OCI hook of an installer that skips its check",
		install: crioHook("[nvidia-container-runtime]\nmode = \"cdi\"\n[nvidia-container-runtime-hook]\nskip-mode-detection = true"),
		want:    map[string]wanted{"": {forms: forms{uuid}, mode: "hook", failures: failures{cdi: unknown}}},
	},
	{
		name:    "CRI-O with the OCI hook, which mode cdi forbids",
		install: crioHook("[nvidia-container-runtime]\nmode = \"cdi\""),
		want: map[string]wanted{"": {mode: "hook", setting: "skip-mode-detection",
			failures: failures{cdi: hookRefuses, uuid: hookRefuses}}},
	},
}

// ctk runs the real nvidia-ctk.
func (n *node) ctk(t *testing.T, binaries string, arguments ...string) {
	t.Helper()
	for i := range arguments {
		arguments[i] = strings.ReplaceAll(arguments[i], "ROOT", n.root)
	}
	cmd := n.command(filepath.Join(binaries, ctkCommand), nil, arguments...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// configure runs nvidia-ctk runtime configure for a handler, which since 1.18 leaves the main configuration alone and
// writes another.
func (n *node) configure(t *testing.T, binaries, engine, main, dropIn, handler, binary string, byDefault bool) {
	t.Helper()
	arguments := []string{"runtime", "configure", "--runtime=" + engine, "--nvidia-runtime-name=" + handler, "--runtime-path=ROOT" + binary}
	n.handlers[handler] = n.path(t, binary)
	if byDefault {
		arguments = append(arguments, "--set-as-default")
		n.handlers[""] = n.path(t, binary)
	}
	if n.version == "1.17.8" {
		if engine == "crio" {
			main = dropIn
		}
		arguments = append(arguments, "--config="+n.path(t, main))
	} else {
		arguments = append(arguments, "--config="+n.path(t, main), "--drop-in-config="+n.path(t, dropIn))
	}
	n.ctk(t, binaries, arguments...)
}

// toolkitConfig writes the toolkit's configuration: what is to be tested, and where the node's parts are.
func (n *node) toolkitConfig(t *testing.T, path, hookDir, text string) {
	t.Helper()
	parts := []string{
		"[nvidia-container-cli]\nroot = \"ROOT\"\npath = \"ROOT/usr/bin/nvidia-container-cli\"",
		"[nvidia-container-runtime-hook]\npath = \"ROOT" + hookDir + "/nvidia-container-runtime-hook\"",
		"[nvidia-container-runtime]\nruntimes = [\"ROOT/usr/bin/runc\"]",
	}
	for _, part := range parts {
		table, values, _ := strings.Cut(part, "\n")
		if strings.Contains(text, table+"\n") {
			text = strings.Replace(text, table+"\n", table+"\n"+values+"\n", 1)
		} else {
			text += "\n" + part
		}
	}
	n.write(t, path, text+"\n")
}

type install = func(t *testing.T, n *node, binaries string)

// packages installs the toolkit as a distribution's packages do, and runs nvidia-ctk for containerd.
func packages(config string) install { return packagesOf(config, "nvidia", runtimeCommand, false) }

func packagesOf(config, handler, command string, byDefault bool) install {
	return func(t *testing.T, n *node, binaries string) {
		n.toolkitConfig(t, packagedConfig, "/usr/bin", config)
		n.configure(t, binaries, "containerd", containerdMain, containerdDropIns+"99-nvidia.toml", handler, "/usr/bin/"+command, byDefault)
	}
}

const (
	containerdMain    = "/etc/containerd/config.toml"
	containerdDropIns = "/etc/containerd/conf.d/"
)

// operator installs the toolkit as the toolkit container of the GPU operator does. The wrappers are those of the
// toolkit's installer, but for the check that the driver's modules are loaded.
func operator(kind, mode string, accept, byDefault bool) install {
	return func(t *testing.T, n *node, binaries string) {
		const dir = "/usr/local/nvidia/toolkit"
		n.toolkitConfig(t, dir+"/.config/nvidia-container-runtime/config.toml", dir, fmt.Sprintf(
			"accept-nvidia-visible-devices-envvar-when-unprivileged = %t\n[nvidia-container-runtime]\nmode = %q\n"+
				"[nvidia-container-runtime.modes.cdi]\ndefault-kind = %q\nspec-dirs = [\"ROOT/var/run/cdi\"]\n"+
				"[nvidia-container-runtime-hook]\nskip-mode-detection = true", accept, mode, kind))
		config := "ROOT" + dir + "/.config/nvidia-container-runtime/config.toml"
		wrapper := func(command string) {
			variable, argument := "NVIDIA_CTK_CONFIG_FILE_PATH="+config, ""
			if n.version == "1.17.8" {
				variable = "XDG_CONFIG_HOME=ROOT" + dir + "/.config"
				if command == hookCommand {
					variable, argument = "A=b", "\t-config \""+config+"\" \\\n"
				}
			}
			n.link(t, filepath.Join(binaries, command), dir+"/"+command+".real")
			n.write(t, dir+"/"+command, fmt.Sprintf("#! /bin/sh\n%s \\\nPATH=ROOT%s:$PATH \\\n\tROOT%s/%s.real \\\n%s\t\t\"$@\"\n",
				variable, dir, dir, command, argument))
		}
		wrapper(hookCommand)
		for _, r := range []struct{ handler, command string }{
			{"nvidia", runtimeCommand}, {"nvidia-cdi", cdiCommand}, {"nvidia-legacy", legacyCommand},
		} {
			wrapper(r.command)
			n.configure(t, binaries, "containerd", containerdMain, containerdDropIns+"99-"+r.handler+".toml", r.handler,
				dir+"/"+r.command, byDefault && r.handler == "nvidia")
		}
		n.write(t, "/var/run/cdi/management.nvidia.com-gpu.json", `{"cdiVersion": "0.5.0",
			"kind": "management.nvidia.com/gpu", "devices": [{"name": "all", "containerEdits": {"env": ["A=b"]}}]}`)
		// A file of packages that were there before, which nobody reads any more.
		n.write(t, packagedConfig, "[nvidia-container-runtime]\nmode = \"csv\"\n")
	}
}

// crio installs the toolkit's packages, and runs nvidia-ctk for CRI-O.
func crio(config string) install {
	return func(t *testing.T, n *node, binaries string) {
		n.toolkitConfig(t, packagedConfig, "/usr/bin", config)
		n.write(t, "/etc/crio/crio.conf", "[crio.runtime]\ndefault_runtime = \"crun\"\n")
		n.configure(t, binaries, "crio", "/etc/crio/crio.conf", "/etc/crio/crio.conf.d/99-nvidia.toml", "nvidia", "/usr/bin/"+runtimeCommand, false)
	}
}

// crioHook installs the toolkit's packages, and the OCI hook as the GPU operator with CDI off does.
func crioHook(config string) install {
	return func(t *testing.T, n *node, binaries string) {
		n.toolkitConfig(t, packagedConfig, "/usr/bin", config)
		n.write(t, "/etc/crio/crio.conf", "[crio.runtime]\ndefault_runtime = \"crun\"\n")
		n.hook = n.path(t, "/usr/share/containers/oci/hooks.d/oci-nvidia-hook.json")
		n.ctk(t, binaries, "runtime", "configure", "--runtime=crio", "--config-mode=oci-hook", "--oci-hook-path="+n.hook,
			"--nvidia-runtime-hook-path=ROOT/usr/bin/"+hookCommand)
		n.handlers[""] = n.path(t, "/usr/bin/runc")
	}
}
