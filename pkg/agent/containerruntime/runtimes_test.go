// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package containerruntime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// files are those of a host, by path. What ends in -> is a link to what follows.
type files map[string]string

func (f files) write(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range f {
		file := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		target, isLink := strings.CutPrefix(text, "->")
		var err error
		if isLink {
			err = os.Symlink(target, file)
		} else {
			err = os.WriteFile(file, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	elf      = "\x7fELF"
	packaged = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia.options]\nBinaryName = \"/usr/bin/nvidia-container-runtime\"\n"
	v3       = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\nruntime_type = 'io.containerd.runc.v2'\n" +
		"[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]\nBinaryName = '/usr/local/nvidia/toolkit/nvidia-container-runtime'\n"
	wrapper = "#! /bin/sh\nNVIDIA_CTK_CONFIG_FILE_PATH=/usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml \\\n" +
		"\t/usr/local/nvidia/toolkit/nvidia-container-runtime.real \\\n\t\t\"$@\"\n"
	legacy = "[nvidia-container-runtime]\nmode = \"legacy\"\n"
)

func TestRead(t *testing.T) {
	noDefault := ` []: the default runtime runc hands out no GPUs`
	for _, tc := range []struct {
		name    string
		files   files
		folders string
		node    Node
		// want are the handlers as `"name" mode [forms]: beginning of the message`, and unknown is part of the error.
		want    []string
		unknown string
	}{
		{
			name:    "no configuration of a runtime is not guessed",
			files:   files{"/etc/hosts": ""},
			unknown: "no configuration of containerd",
		},
		{
			name:  "packages, whose binary is out of sight and whose configuration is not written",
			files: files{"/etc/containerd/config.toml": packaged},
			want:  []string{`""` + noDefault, `"nvidia" auto [CDI UUID]: mode auto of /etc/nvidia-container-runtime/config.toml takes both forms`},
		},
		{
			name:  "a drop-in of version 3 that names an installer's wrapper",
			files: files{"/etc/containerd/config.toml": "imports = ['conf.d/*.toml']\n", "/etc/containerd/conf.d/99-nvidia.toml": v3, "/usr/local/nvidia/toolkit/nvidia-container-runtime": wrapper, "/usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml": legacy},
			want:  []string{`""` + noDefault, `"nvidia" legacy [UUID]: the toolkit's hook takes UUIDs only`},
		},
		{
			name:  "drop-ins without a main configuration",
			files: files{"/etc/containerd/conf.d/99-nvidia.toml": v3, "/usr/local/nvidia/toolkit/nvidia-container-runtime": elf},
			want:  []string{`""` + noDefault, `"nvidia" auto [CDI UUID]`},
		},
		{
			name:  "an import overrides the file that imports it",
			files: files{"/etc/containerd/config.toml": "imports = ['/etc/containerd/more.toml']\n" + packaged, "/etc/containerd/more.toml": "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"nvidia\"\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia.options]\nBinaryName = \"/usr/local/bin/nvidia-container-runtime.cdi\"\n", "/usr/local/bin/nvidia-container-runtime.cdi": elf},
			want:  []string{`"" cdi [CDI]: mode cdi of`, `"nvidia" cdi [CDI]: mode cdi of`},
		},
		{
			name:    "an import out of sight could override everything",
			files:   files{"/etc/containerd/config.toml": "imports = ['/opt/*.toml']\n" + packaged},
			unknown: "/opt: not visible to the agent",
		},
		{
			name:    "an import that is missing",
			files:   files{"/etc/containerd/config.toml": "imports = ['/etc/none.toml']\n" + packaged},
			unknown: "no such file",
		},
		{
			name:    "a configuration that is no TOML",
			files:   files{"/etc/containerd/config.toml": "version = = 2"},
			unknown: "/etc/containerd/config.toml: toml",
		},
		{
			name:    "a binary out of sight that no package installs",
			files:   files{"/etc/containerd/config.toml": strings.ReplaceAll(packaged, "/usr/bin", "/opt/bin")},
			want:    []string{`""` + noDefault},
			unknown: `handler "nvidia": the runtime's binary: /opt/bin/nvidia-container-runtime: not visible to the agent`,
		},
		{
			name:  "a binary that is gone",
			files: files{"/etc/containerd/config.toml": v3, "/usr/local/x": ""},
			want:  []string{`""` + noDefault, `"nvidia"  []: /usr/local/nvidia/toolkit/nvidia-container-runtime does not exist`},
		},
		{
			name:    "the toolkit's configuration is no TOML",
			files:   files{"/etc/containerd/config.toml": packaged, packagedConfig: "mode"},
			want:    []string{`""` + noDefault},
			unknown: `handler "nvidia": the toolkit's configuration`,
		},
		{
			name:    "the wrapper's configuration is out of sight",
			files:   files{"/etc/containerd/config.toml": v3, "/usr/local/nvidia/toolkit/nvidia-container-runtime": "#!/bin/sh\nXDG_CONFIG_HOME=/opt/.config \\\nx \"$@\"\n"},
			want:    []string{`""` + noDefault},
			unknown: "/opt/.config/nvidia-container-runtime/config.toml: not visible",
		},
		{
			name:  "links are followed as the host would",
			files: files{"/etc/containerd/config.toml": packaged, packagedConfig: "->/etc/static/toolkit.toml", "/etc/static/toolkit.toml": legacy},
			want:  []string{`""` + noDefault, `"nvidia" legacy [UUID]`},
		},
		{
			name:    "a link that leads out of sight",
			files:   files{"/etc/containerd/config.toml": packaged, packagedConfig: "->/nix/store/toolkit.toml", "/nix/store/toolkit.toml": legacy},
			want:    []string{`""` + noDefault},
			unknown: "not visible",
		},
		{
			name:  "a handler that the runtime has not loaded",
			files: files{"/etc/containerd/config.toml": packaged},
			node:  Node{Version: "containerd://2.1.4", Handlers: []string{"", "runc"}},
			want:  []string{`""` + noDefault, `"nvidia"  []: the handler is configured, but the node's container runtime does not have it`},
		},
		{
			name:    "k3s, whose files are elsewhere, beside a containerd that nobody uses",
			files:   files{"/etc/containerd/config.toml": strings.ReplaceAll(packaged, "runtimes.nvidia.", "runtimes.old."), "/var/lib/rancher/k3s/agent/etc/containerd/config.toml": packaged},
			folders: "/etc,/usr/local,/var/lib/rancher",
			node:    Node{Version: "containerd://2.1.4-k3s1"},
			want:    []string{`""` + noDefault, `"nvidia" auto [CDI UUID]`},
		},
		{
			name:    "k3s, whose files are out of sight",
			files:   files{"/etc/containerd/config.toml": packaged, "/var/lib/rancher/k3s/agent/etc/containerd/config.toml": packaged},
			node:    Node{Version: "containerd://2.1.4-k3s1"},
			unknown: "/var/lib/rancher/k3s/agent/etc/containerd/config.toml: not visible to the agent",
		},
		{
			name:  "CRI-O, beside a containerd that nobody uses",
			files: files{"/etc/containerd/config.toml": packaged, "/etc/crio/crio.conf.d/10-crio.conf": "[crio.runtime]\nhooks_dir = ['/etc/hooks']\n", "/etc/crio/crio.conf.d/99-nvidia.toml": "[crio.runtime.runtimes.gpu]\nruntime_path = '/usr/bin/nvidia-container-runtime'\n"},
			node:  Node{Version: "cri-o://1.34.0"},
			want:  []string{`""  []: the default runtime hands out no GPUs: name a RuntimeClass`, `"gpu" auto [CDI UUID]`},
		},
		{
			name:    "CRI-O, whose hooks are out of sight",
			files:   files{"/etc/crio/crio.conf": "[crio.runtime]\ndefault_runtime = 'crun'\n"},
			node:    Node{Version: "cri-o://1.34.0"},
			unknown: `handler "": folders of OCI hooks are not visible`,
		},
		{
			name:    "another runtime",
			files:   files{"/etc/containerd/config.toml": packaged},
			node:    Node{Version: "docker://27"},
			unknown: `container runtime "docker://27" is not known`,
		},
		{
			name:  "a mode of the toolkit that is not for such GPUs",
			files: files{"/etc/containerd/config.toml": packaged, packagedConfig: "[nvidia-container-runtime]\nmode = \"csv\"\n"},
			want:  []string{`""` + noDefault, `"nvidia" csv []: mode csv takes no GPUs from Berth: set nvidia-container-runtime.mode in /etc/nvidia-container-runtime/config.toml to auto`},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.folders == "" {
				tc.folders = "/etc,/usr/local"
			}
			found := Read(tc.files.write(t), strings.Split(tc.folders, ","), tc.node)
			var got []string
			for i, r := range found.Runtimes {
				got = append(got, text(&r))
				if i < len(tc.want) && strings.HasPrefix(got[i], strings.Replace(tc.want[i], `"" []`, `""  []`, 1)) {
					got[i] = tc.want[i]
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("handlers (-want +got):\n%s", diff)
			}
			if (found.Unknown == nil) != (tc.unknown == "") || found.Unknown != nil && !strings.Contains(found.Unknown.Error(), tc.unknown) {
				t.Errorf("not read: %v, want %q", found.Unknown, tc.unknown)
			}
		})
	}
}

func text(r *berthv1alpha1.RuntimeHandOff) string {
	forms := make([]string, 0, len(r.Accepts))
	for _, f := range r.Accepts {
		forms = append(forms, string(f))
	}
	return `"` + r.Handler + `" ` + r.Mode + " [" + strings.Join(forms, " ") + "]: " + r.Message
}

func TestReadTellsWhenTheNewestFileChanged(t *testing.T) {
	root := files{"/etc/containerd/config.toml": packaged, packagedConfig: legacy, "/usr/bin/nvidia-container-runtime": elf}.write(t)
	newest := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for path, at := range map[string]time.Time{
		"/etc/containerd/config.toml": newest.Add(-time.Hour), packagedConfig: newest, "/usr/bin/nvidia-container-runtime": newest.Add(-time.Minute),
	} {
		if err := os.Chtimes(filepath.Join(root, path), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if found := Read(root, []string{"/"}, Node{}); !found.Changed.Equal(newest) {
		t.Errorf("changed at %v, want %v", found.Changed, newest)
	}
}

func TestHandlersAreLimitedToWhatTheAPITakes(t *testing.T) {
	var b strings.Builder
	for _, name := range strings.Split("a b c d e f g h i j k l m n o p q r s t u v w x y z", " ") {
		b.WriteString("[crio.runtime.runtimes." + name + "]\nruntime_path = '/usr/bin/nvidia-container-runtime'\n")
	}
	root := files{"/etc/crio/crio.conf": b.String()}.write(t)
	found := Read(root, []string{"/"}, Node{Version: "cri-o://1.34.0"})
	if n := len(found.Runtimes); n != 16 || found.Runtimes[0].Handler != "" {
		t.Errorf("%d handlers, the first %q", n, found.Runtimes[0].Handler)
	}
}
