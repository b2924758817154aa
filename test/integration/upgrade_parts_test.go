// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/lab/install"
	"github.com/berth-dev/berth/test/integration/harness"
	"github.com/berth-dev/berth/test/nvmlmock"
)

const (
	// envUpgrade names the folder with the programs, "old" and "new"; envUpgradeSource is the earlier commit's tree.
	envUpgrade       = "BERTH_UPGRADE"
	envUpgradeSource = "BERTH_UPGRADE_SOURCE"
	// envUpgradeGolden names the folder to write to what the earlier version stored; empty = do not.
	envUpgradeGolden = "BERTH_UPGRADE_GOLDEN"
)

// release is a version of Berth: what is installed, and its programs.
type release struct {
	name, bin string
	crds      []*unstructured.Unstructured
	rest      []*unstructured.Unstructured
	// config is the scheduler's.
	config []byte
	// agentArgs are further arguments of its agent.
	agentArgs []string
}

func newRelease(t *testing.T, name, folder string, agentArgs ...string) *release {
	t.Helper()
	r := &release{name: name, bin: filepath.Join(os.Getenv(envUpgrade), name), agentArgs: agentArgs}
	objects, err := manifests.ObjectsIn(os.DirFS(folder), ".")
	if err == nil {
		objects, err = install.Select(objects)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if o.GetKind() == "CustomResourceDefinition" {
			r.crds = append(r.crds, o)
		} else {
			r.rest = append(r.rest, o)
		}
	}
	if r.config, err = os.ReadFile(filepath.Join(folder, "scheduler", "config.yaml")); err != nil {
		t.Fatal(err)
	}
	return r
}

// installation is a lab with nodes whose agents, like the controller and the scheduler, are processes of the test's.
type installation struct {
	*harness.Lab
	t        *testing.T
	dir, lib string
	hub      string
	nodes    []*gpuMachine
	// running are the processes, by their parts.
	running map[string][]*exec.Cmd
	started int
}

// gpuMachine is what an agent sees of its node.
type gpuMachine struct {
	node  *corev1.Node
	dir   string
	state nvmlmock.State
	held  map[types.UID]int
}

func newInstallation(t *testing.T, lab *harness.Lab, hub string, nodes, gpus int) *installation {
	t.Helper()
	i := &installation{Lab: lab, t: t, dir: t.TempDir(), hub: hub, running: map[string][]*exec.Cmd{}}
	var err error
	if i.lib, err = nvmlmock.Build(i.dir); errors.Is(err, nvmlmock.ErrNoCompiler) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	for n := range nodes {
		m := &gpuMachine{
			node: berthtesting.MakeNode(fmt.Sprintf("node-%d", n)), dir: filepath.Join(i.dir, strconv.Itoa(n)),
			state: nvmlmock.DGX(gpus), held: map[types.UID]int{},
		}
		for g := range m.state.GPUs {
			m.state.GPUs[g].UUID = fmt.Sprintf("GPU-%08x-0000-4000-8000-%012x", g, n)
		}
		m.state.Links = nil
		if err := os.MkdirAll(filepath.Join(m.dir, "proc"), 0o755); err != nil {
			t.Fatal(err)
		}
		i.apply(m)
		lab.AddNode(t, m.node, nil)
		i.nodes = append(i.nodes, m)
	}
	t.Cleanup(func() {
		for _, processes := range i.running {
			stopAll(processes)
		}
	})
	return i
}

func (i *installation) apply(m *gpuMachine) {
	i.t.Helper()
	if err := m.state.WriteFile(filepath.Join(m.dir, "state")); err != nil {
		i.t.Fatal(err)
	}
}

// hold makes processes of a bound pod hold what it booked.
func (i *installation) hold(pod *corev1.Pod) {
	i.t.Helper()
	_, allocation := i.WaitBound(i.t, pod)
	for _, m := range i.nodes {
		if m.node.Name != pod.Spec.NodeName {
			continue
		}
		pid := 1000 + len(m.held)
		m.held[pod.UID] = pid
		dir := filepath.Join(m.dir, "proc", strconv.Itoa(pid))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			i.t.Fatal(err)
		}
		for name, text := range map[string]string{
			"cgroup": "0::/kubepods/burstable/pod" + string(pod.UID) + "/0123\n",
			"stat":   fmt.Sprintf("%d (server) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", pid, pid),
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				i.t.Fatal(err)
			}
		}
		for _, d := range allocation.Devices {
			for g := range m.state.GPUs {
				if gpu := &m.state.GPUs[g]; gpu.UUID == d.UUID {
					gpu.Processes = append(gpu.Processes, nvmlmock.Process{PID: pid, Memory: uint64(d.Memory.Int64()), Utilization: 50})
					gpu.Memory.Used += uint64(d.Memory.Int64())
				}
			}
		}
		i.apply(m)
	}
}

// letGo ends the processes of a pod.
func (i *installation) letGo(pod *corev1.Pod) {
	i.t.Helper()
	for _, m := range i.nodes {
		pid, ok := m.held[pod.UID]
		if !ok {
			continue
		}
		for g := range m.state.GPUs {
			gpu := &m.state.GPUs[g]
			gpu.Processes = slices.DeleteFunc(gpu.Processes, func(p nvmlmock.Process) bool {
				if p.PID == pid {
					gpu.Memory.Used -= p.Memory
				}
				return p.PID == pid
			})
		}
		i.apply(m)
	}
}

// installObjects applies manifests.
func (i *installation) installObjects(objects []*unstructured.Unstructured) {
	i.t.Helper()
	if err := install.Apply(i.t.Context(), dynamic.NewForConfigOrDie(i.Config), objects); err != nil {
		i.t.Fatal(err)
	}
}

// Parts that are upgraded one after the other.
const (
	partAgent      = "agent"
	partController = "controller"
	partScheduler  = "scheduler"
)

// replace makes a part of an installation be of a release, as its rollout does: agents end before the new ones begin, of
// the others both are there until the new one leads.
func (i *installation) replace(part string, r *release) {
	i.t.Helper()
	before := i.running[part]
	switch part {
	case partAgent:
		stopAll(before)
		i.running[part] = nil
		since := time.Now()
		for _, m := range i.nodes {
			i.start(part, r, m)
		}
		i.waitReports(since)
		return
	case partController, partScheduler:
		holder := i.holder("berth-" + part)
		i.running[part] = nil
		i.start(part, r, nil)
		stopAll(before)
		harness.Eventually(i.t, "the "+r.name+" "+part+" leads", func(context.Context) (bool, string) {
			now := i.holder("berth-" + part)
			return now != "" && now != holder, "the lease is held by " + now
		})
	}
}

func (i *installation) holder(lease string) string {
	var l coordinationv1.Lease
	if err := i.Client.Get(i.t.Context(), types.NamespacedName{Namespace: berthv1alpha1.Namespace, Name: lease}, &l); err != nil || l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

func (i *installation) start(part string, r *release, m *gpuMachine) {
	i.t.Helper()
	i.started++
	dir := filepath.Join(i.dir, fmt.Sprintf("%s-%s-%d", r.name, part, i.started))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		i.t.Fatal(err)
	}
	var node *corev1.Node
	if m != nil {
		node = m.node
	}
	kubeconfig := i.kubeconfig(dir, "berth-"+part, node)
	args := []string{"--kubeconfig=" + kubeconfig}
	var env []string
	switch part {
	case partAgent:
		args = append(args, "--node-name="+node.Name, "--nvml-library="+i.lib, "--proc-root="+filepath.Join(m.dir, "proc"),
			"--pod-resources-socket=", "--listen-address=")
		args = append(args, r.agentArgs...)
		env = []string{nvmlmock.EnvState + "=" + filepath.Join(m.dir, "state")}
	case partController:
		args = append(args, "--metrics-bind-address=0", "--health-probe-bind-address=0", "--leader-elect-lease-duration=6s",
			"--leader-elect-renew-deadline=4s", "--leader-elect-retry-period=500ms", "--hf-endpoint="+i.hub)
	case partScheduler:
		args = []string{
			"--config=" + i.schedulerConfig(dir, r, kubeconfig), "--secure-port=0", "--v=2",
			"--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		}
	}
	log, err := os.OpenFile(filepath.Join(i.LogDir, r.name+"-"+part+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		i.t.Fatal(err)
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(filepath.Join(r.bin, part), args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	i.running[part] = append(i.running[part], cmd)
}

// schedulerConfig writes the configuration that a release ships, with quick leader election.
func (i *installation) schedulerConfig(dir string, r *release, kubeconfig string) string {
	i.t.Helper()
	var config map[string]any
	if err := yaml.Unmarshal(r.config, &config); err != nil {
		i.t.Fatal(err)
	}
	config["clientConnection"].(map[string]any)["kubeconfig"] = kubeconfig
	election := config["leaderElection"].(map[string]any)
	election["leaseDuration"], election["renewDeadline"], election["retryPeriod"] = "6s", "4s", "500ms"
	plugins := config["profiles"].([]any)[0].(map[string]any)["pluginConfig"].([]any)
	plugins[0].(map[string]any)["args"].(map[string]any)["bindTimeout"] = "1500ms"
	text, err := yaml.Marshal(config)
	if err != nil {
		i.t.Fatal(err)
	}
	file := filepath.Join(dir, "scheduler.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		i.t.Fatal(err)
	}
	return file
}

func (i *installation) kubeconfig(dir, account string, node *corev1.Node) string {
	i.t.Helper()
	c := i.Account(i.t, berthv1alpha1.Namespace, account, node)
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: c.Host, CertificateAuthorityData: c.CAData, CertificateAuthority: c.CAFile}
	config.AuthInfos["berth"] = &clientcmdapi.AuthInfo{Token: c.BearerToken}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "berth"}
	config.CurrentContext = "lab"
	file := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		i.t.Fatal(err)
	}
	return file
}

// stopAll ends processes as a kubelet does.
func stopAll(processes []*exec.Cmd) {
	for _, p := range processes {
		_ = p.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range processes {
		_ = p.Wait() // a leader that loses its lease ends with an error
	}
}

// waitReports waits until agents have said, after a time, that the reports are of the processes that there are.
func (i *installation) waitReports(since time.Time) {
	i.t.Helper()
	for _, m := range i.nodes {
		harness.Eventually(i.t, "the report of "+m.node.Name+" is true", func(ctx context.Context) (bool, string) {
			var gn berthv1alpha1.GPUNode
			if err := i.Client.Get(ctx, types.NamespacedName{Name: m.node.Name}, &gn); err != nil {
				return false, err.Error()
			}
			var lease coordinationv1.Lease
			if err := i.Client.Get(ctx, types.NamespacedName{Namespace: berthv1alpha1.Namespace, Name: m.node.Name}, &lease); err != nil {
				return false, err.Error()
			}
			renewed := lease.Spec.RenewTime != nil && lease.Spec.RenewTime.After(since)
			return renewed && reportSays(&gn, m), fmt.Sprintf("renewed: %t, %+v", renewed, gn.Status.Devices)
		})
	}
}

// remakeReports deletes the reports and restarts the agents, which write them anew.
func (i *installation) remakeReports(r *release) {
	i.t.Helper()
	if err := i.Client.DeleteAllOf(i.t.Context(), &berthv1alpha1.GPUNode{}); err != nil {
		i.t.Fatal(err)
	}
	i.replace(partAgent, r)
}

// reportSays says whether a report has the devices of a machine, and what its pods hold there.
func reportSays(gn *berthv1alpha1.GPUNode, m *gpuMachine) bool {
	want, got := map[string]int64{}, map[string]int64{}
	for g := range m.state.GPUs {
		gpu := &m.state.GPUs[g]
		want[gpu.UUID] = int64(gpu.Memory.Used)
		for pod, pid := range m.held {
			for _, p := range gpu.Processes {
				if p.PID == pid {
					want[gpu.UUID+" "+string(pod)] = int64(p.Memory)
				}
			}
		}
	}
	for _, d := range gn.Status.Devices {
		got[d.UUID] = d.Memory.Used.Value()
		for _, p := range d.Processes {
			got[d.UUID+" "+string(p.PodUID)] = p.Memory.Value()
		}
	}
	return maps.Equal(want, got)
}
