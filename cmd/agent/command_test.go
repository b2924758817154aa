// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/test/nvmlmock"
)

func TestOptions(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		env  map[string]string
		// want is part of the error; empty = none.
		want  string
		check func(*options) bool
	}{
		{name: "no node", want: "--node-name (or $NODE_NAME) is required"},
		{name: "a node by flag", args: []string{"--node-name=a"}, check: func(o *options) bool { return o.nodeName == "a" }},
		{name: "a node by environment", env: map[string]string{"NODE_NAME": "b"}, check: func(o *options) bool { return o.nodeName == "b" }},
		{name: "a flag wins", args: []string{"--node-name=a"}, env: map[string]string{"NODE_NAME": "b"}, check: func(o *options) bool { return o.nodeName == "a" }},
		{name: "once needs no node", args: []string{"--once"}, check: func(o *options) bool { return o.nodeName != "" }},
		{name: "a duration by environment", args: []string{"--once"}, env: map[string]string{"READ_INTERVAL": "2s"}, check: func(o *options) bool { return o.readInterval == 2*time.Second }},
		{name: "a bad duration by environment", args: []string{"--once"}, env: map[string]string{"READ_INTERVAL": "2"}, want: "environment variable READ_INTERVAL"},
		{name: "no time between readings", args: []string{"--once", "--read-interval=0s"}, want: "--read-interval must be more than zero, such as 1s"},
		{name: "an unknown format", args: []string{"--once", "-o", "xml"}, want: `--output is yaml or json, not "xml"`},
		{name: "a quantum without meaning", args: []string{"--once", "--memory-quantum=much"}, want: `--memory-quantum is an amount of memory such as 64Mi, not "much"`},
		{name: "a folder of the host that is none", args: []string{"--once", "--host-folders=/etc,usr"}, want: `--host-folders are folders such as /etc, not "usr"`},
		{name: "the defaults", args: []string{"--once"}, check: func(o *options) bool {
			return o.quantumBytes == 64<<20 && o.secureMetrics && o.leaseInterval == 10*time.Second && o.reportInterval == time.Second
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, fs := &options{}, pflag.NewFlagSet("agent", pflag.ContinueOnError)
			o.addFlags(fs)
			if err := fs.Parse(tc.args); err != nil {
				t.Fatal(err)
			}
			err := addEnv(fs, func(name string) (string, bool) { v, ok := tc.env[name]; return v, ok })
			if err == nil {
				err = o.complete()
			}
			switch {
			case tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got error %v, want %q", err, tc.want)
			case tc.check != nil && !tc.check(o):
				t.Errorf("got %+v", o)
			}
		})
	}
}

func TestBooked(t *testing.T) {
	for _, tc := range []struct {
		name, annotation string
		want             map[string]uint64
		wantErr          bool
	}{
		{name: "no allocation"},
		{name: "an allocation", annotation: `{"version":1,"devices":[{"uuid":"GPU-a","memory":"21474836480"}]}`, want: map[string]uint64{"GPU-a": 20 * gib}},
		{name: "one of a later version", annotation: `{"version":9,"devices":[{"uuid":"GPU-a","share":"half"}]}`, want: map[string]uint64{"GPU-a": 0}},
		{name: "not an allocation", annotation: `GPU-a`, wantErr: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := &corev1.Pod{}
			if tc.annotation != "" {
				pod.Annotations = map[string]string{berthv1alpha1.AnnotationAllocation: tc.annotation}
			}
			got, err := gpustate.BookedOn(pod)
			if (err != nil) != tc.wantErr {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("booked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOncePrintsTheReport(t *testing.T) {
	m := newMachine(t)
	m.use(0, 100, 7, 20*gib)
	m.use(1, 101, -1, gib)
	m.apply()
	for _, format := range []string{"yaml", "json"} {
		out, err := m.command("--once", "-o", format, "--nvml-library="+m.library, "--proc-root="+m.path("proc"), "--node-name=n").Output()
		if err != nil {
			t.Fatal(err)
		}
		gn := &berthv1alpha1.GPUNode{}
		if format == "json" {
			err = json.Unmarshal(out, gn)
		} else {
			err = yaml.UnmarshalStrict(out, gn)
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, out)
		}
		if gn.Kind != "GPUNode" || gn.Name != "n" || len(gn.Status.Devices) != 8 || gn.Status.Summary.GPUs != 8 ||
			!right(&gn.Status.Devices[0], &m.state.GPUs[0]) || string(gn.Status.Devices[0].Processes[0].PodUID) != uid(7) ||
			gn.Status.Devices[1].Processes[0].PodUID != "" {
			t.Errorf("%s:\n%s", format, out)
		}
	}
}

func TestOnceWithoutADriverSaysSo(t *testing.T) {
	m := newMachine(t)
	for name, args := range map[string][]string{
		"no library": {"--once", "--nvml-library=" + m.path("none")},
		"no driver":  {"--once", "--nvml-library=" + m.library},
	} {
		if err := os.RemoveAll(m.path("state")); err != nil {
			t.Fatal(err)
		}
		cmd := m.command(args...)
		stderr := &strings.Builder{}
		cmd.Stderr = stderr
		out, err := cmd.Output()
		if err == nil || cmd.ProcessState.ExitCode() != 1 || len(out) != 0 {
			t.Errorf("%s: %v, printed %q", name, err, out)
		}
		if !strings.HasPrefix(stderr.String(), "agent: no NVIDIA driver: ") || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: said %q", name, stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	m := newMachine(t)
	out, err := m.command("--version").Output()
	if err != nil || !strings.HasPrefix(string(out), "agent version v") {
		t.Errorf("got %q, %v", out, err)
	}
}

// TestAgentFindsOutHowGPUsAreNamed: by the files of a node with the GPU operator's defaults, and the kubelet's answer.
func TestAgentFindsOutHowGPUsAreNamed(t *testing.T) {
	m := newMachine(t)
	for path, text := range map[string]string{
		"etc/containerd/config.toml": "version = 2\nimports = ['/etc/containerd/conf.d/*.toml']\n",
		"etc/containerd/conf.d/99-nvidia.toml": "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.nvidia.options]\n" +
			"BinaryName = '/usr/local/nvidia/toolkit/nvidia-container-runtime'\n",
		"usr/local/nvidia/toolkit/nvidia-container-runtime": "#! /bin/sh\nNVIDIA_CTK_CONFIG_FILE_PATH=/usr/local/nvidia/toolkit/config.toml \\\nx\n",
		"usr/local/nvidia/toolkit/config.toml":              "[nvidia-container-runtime]\nmode = 'cdi'\n[nvidia-container-runtime.modes.cdi]\ndefault-kind = 'management.nvidia.com/gpu'\n",
	} {
		file := m.path("host/" + path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m.start("--host-root="+m.path("host"), "--host-folders=/etc,/usr/local")
	want := []string{` "": [] `, ` "nvidia": [CDI] cdi`}
	m.until("it is reported", func() bool {
		node := m.server.Node()
		if node == nil || node.Status.HandOff == nil {
			return false
		}
		var got []string
		for _, r := range node.Status.HandOff.Runtimes {
			got = append(got, fmt.Sprintf(" %q: %v %s", r.Handler, r.Accepts, r.Mode))
		}
		return slices.Equal(got, want)
	})
}

// TestAgentWritesASpecificationForNRI: from the toolkit's, with the device nodes that the driver tells of.
func TestAgentWritesASpecificationForNRI(t *testing.T) {
	m := newMachine(t)
	m.state = nvmlmock.DGX(2)
	m.apply()
	if err := os.Mkdir(m.path("cdi"), 0o755); err != nil {
		t.Fatal(err)
	}
	management := `{"cdiVersion":"0.5.0","kind":"management.nvidia.com/gpu","devices":[{"name":"all","containerEdits":{
"deviceNodes":[{"path":"/dev/nvidia0"},{"path":"/dev/nvidia1"},{"path":"/dev/nvidiactl"}]}}]}`
	if err := os.WriteFile(m.path("cdi/management.nvidia.com-gpu.json"), []byte(management), 0o644); err != nil {
		t.Fatal(err)
	}
	m.start("--nri", "--cdi-spec-dir="+m.path("cdi"))
	m.until("it is reported", func() bool {
		node := m.server.Node()
		return node != nil && node.Status.HandOff != nil && slices.Equal(node.Status.HandOff.Runtimes[0].Accepts, []berthv1alpha1.DeviceForm{"NRI"})
	})
	text, err := os.ReadFile(m.path("cdi/berth.dev-gpu.json"))
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Devices []struct {
			Name           string
			ContainerEdits struct{ DeviceNodes []struct{ Path string } }
		}
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range spec.Devices {
		got = append(got, d.Name+" "+d.ContainerEdits.DeviceNodes[0].Path)
	}
	want := []string{m.state.GPUs[0].UUID + " /dev/nvidia0", m.state.GPUs[1].UUID + " /dev/nvidia1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
}

func TestAgentAsAProcess(t *testing.T) {
	m := newMachine(t)
	address := freeAddress(t)
	if err := os.MkdirAll(m.path("pods/ns_server_"+uid(1)), 0o755); err != nil {
		t.Fatal(err)
	}
	m.start("--listen-address="+address, "--pod-logs-dir="+m.path("pods"))
	m.until("the first report", m.allRight)

	t.Run("a foreign process is reported within 2 s, and gone when it ends", func(t *testing.T) {
		m.t = t
		before := m.state.GPUs[0]
		m.use(0, 500, -1, 60*gib)
		m.apply()
		start := time.Now()
		m.until("it is seen", m.allRight)
		m.state.GPUs[0] = before
		m.apply()
		m.until("it is gone", m.allRight)
		if d := time.Since(start); d > 4*time.Second {
			t.Errorf("both took %s, want 2 s each", d)
		}
	})
	t.Run("memory is charged to the pod that holds it", func(t *testing.T) {
		m.t = t
		m.use(1, 600, 1, 15*gib)
		m.use(2, 600, 1, gib)
		m.apply()
		m.until("it is", func() bool {
			p := m.device(2).Processes
			return len(p) == 1 && p[0].PodUID == types.UID(uid(1))
		})
	})
	t.Run("a pod that stops computing is idle from that moment", func(t *testing.T) {
		m.t = t
		active := func() bool { p := m.device(1).Processes; return len(p) == 1 && p[0].Active }
		m.until("it computes", active)
		m.state.GPUs[1].Processes[0].Utilization = 0
		m.apply()
		stopped := time.Now()
		m.until("it is idle", func() bool { return !active() })
		// The time in the report is of whole seconds.
		last := m.device(1).Processes[0].LastActiveTime
		if d := last.Time.Sub(stopped); d < -1600*time.Millisecond || d > 0 {
			t.Errorf("it was last active %s after it stopped", d)
		}
		m.state.GPUs[1].Processes[0].Utilization = 1
		m.apply()
		m.until("it computes again", active)
	})
	t.Run("metrics and health are served, metrics to those who may have them", func(t *testing.T) {
		m.server.Token("prometheus", true)
		m.server.Token("tenant", false)
		for _, tc := range []struct {
			path, token string
			code        int
			want        []string
		}{
			{"/healthz", "", http.StatusOK, []string{"ok"}},
			{"/readyz", "", http.StatusOK, []string{"ok"}},
			{"/metrics", "", http.StatusUnauthorized, nil},
			{"/metrics", "unknown", http.StatusInternalServerError, nil}, // as controller-runtime answers it
			{"/metrics", "tenant", http.StatusForbidden, nil},
			{"/metrics", "prometheus", http.StatusOK, []string{
				`berth_pod_gpu_memory_used_bytes{UUID="` + m.state.GPUs[2].UUID + `",namespace="ns",pod="server"} 1.073741824e+09`,
				`berth_agent_report_age_seconds `, `process_resident_memory_bytes `,
			}},
		} {
			code, body := scrape(t, "https://"+address+tc.path, tc.token)
			if code != tc.code {
				t.Errorf("%s as %q: %d, want %d", tc.path, tc.token, code, tc.code)
			}
			for _, w := range tc.want {
				if !strings.Contains(body, w) {
					t.Errorf("%s does not have %q:\n%s", tc.path, w, body)
				}
			}
			if tc.want == nil && strings.Contains(body, "berth_") {
				t.Errorf("%s as %q shows metrics:\n%s", tc.path, tc.token, body)
			}
		}
	})
	t.Run("a termination signal ends it cleanly", func(t *testing.T) {
		if err := m.agent.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- m.agent.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("it did not end")
			_ = m.agent.Process.Kill()
		}
	})
}

func TestAnAgentThatIsKilledAndStartedAgainLeavesNoGap(t *testing.T) {
	m := newMachine(t)
	m.use(0, 100, 1, 20*gib)
	m.state.GPUs[0].Processes[0].Utilization = 0
	m.apply()
	m.start()
	m.until("the pod is idle", func() bool {
		p := m.device(0).Processes
		return len(p) == 1 && p[0].LastActiveTime != nil
	})
	idle := m.device(0).Processes[0].LastActiveTime
	if err := m.agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = m.agent.Wait()
	reports := len(m.server.Reports())
	time.Sleep(1100 * time.Millisecond) // the times are in seconds
	m.start()
	m.until("it reports again", func() bool { return len(m.server.Reports()) > reports })
	for _, r := range m.server.Reports()[reports:] {
		if !right(&r.Status.Devices[0], &m.state.GPUs[0]) || !r.Status.Devices[0].Processes[0].LastActiveTime.Equal(idle) {
			t.Errorf("after the restart: %+v", r.Status.Devices[0])
		}
	}
}

// scrape asks an agent, whose certificate is its own, with a token or none.
func scrape(t testing.TB, url, token string) (code int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
