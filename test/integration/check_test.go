// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/cli"
	"github.com/berth-dev/berth/pkg/cli/check"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestCheckFindsWhatIsBroken breaks a lab in one way after the other. Whoever looks has the roles berth-view and no other, so
// that nothing can be written; what is to be run is run.
func TestCheckFindsWhatIsBroken(t *testing.T) {
	shipped, err := manifests.FS.ReadFile("scheduler/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte(strings.Replace(string(shipped), "staleAfter: 60s", "staleAfter: 15s", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &checked{T: t}
	c.env = c.withKubectl()
	c.lab = harness.Start(t, "--nodes=2", "--gpus=2", "--scheduler-config", config)
	c.viewer = c.viewerOf()

	c.wantWell()
	out, _ := c.run(c.viewer, "--probe", "-o", "json")
	if got := c.find(out, "policy-refuses"); got == nil || got.Status != check.Unknown || !strings.Contains(got.Message, "cannot impersonate") {
		t.Errorf("probes of somebody who may not make them: %+v", got)
	}
	out, code := c.run(c.lab.Kubeconfig, "--probe", "-o", "json")
	if got := c.find(out, "policy-refuses"); code != 0 || got == nil || got.Status != check.OK {
		t.Errorf("probes of an admin: status %d, %+v", code, got)
	}

	t.Run("a binding is deleted", func(t *testing.T) {
		c := c.in(t)
		bindings := c.lab.Clientset.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
		if err := bindings.Delete(t.Context(), "berth-allocation", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		found := c.eventually(c.viewer, "policy-installed", check.Failed, "berth-allocation: its binding does not exist")
		c.eventually(c.lab.Kubeconfig, "policy-refuses", check.Failed, "berth-allocation: what it has to refuse was let through", "--probe")
		c.do(found.Run)
		c.wantWell()
	})
	t.Run("a field of a CustomResourceDefinition is missing", func(t *testing.T) {
		c := c.in(t)
		crd := &unstructured.Unstructured{}
		crd.SetAPIVersion("apiextensions.k8s.io/v1")
		crd.SetKind("CustomResourceDefinition")
		crd.SetName("gpunodes.berth.dev")
		patch := []byte(`[{"op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/handOff"}]`)
		if err := c.lab.Client.Patch(t.Context(), crd, client.RawPatch(types.JSONPatchType, patch)); err != nil {
			t.Fatal(err)
		}
		c.do(c.eventually(c.viewer, "crd-fields", check.Failed, "gpunodes.berth.dev lacks 1 field that this version writes, which the API server drops without a word: status.handOff").Run)
		c.wantWell()
	})
	t.Run("agents lose their rights", func(t *testing.T) {
		c := c.in(t)
		if err := c.lab.Clientset.RbacV1().RoleBindings(berthv1alpha1.Namespace).Delete(t.Context(), "berth-agent", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.eventually(c.viewer, "agent-fresh", check.Failed, "no agent of 2 nodes was heard of for staleAfter (15s)")
		c.do(c.eventually(c.viewer, "role-bindings", check.Failed, "RoleBinding berth-system/berth-agent does not exist").Run)
		c.wantWell()
	})
	t.Run("the scheduler stands still", func(t *testing.T) {
		c := c.in(t)
		pid := c.lab.Child(t, "scheduler")
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		pod := harness.Create(t, c.lab, bt.MakePod("waits").Memory("1Gi").Obj())
		c.eventually(c.viewer, "scheduler-lease", check.Failed, "the Lease berth-scheduler ran out: ")
		c.eventually(c.viewer, "pods-served", check.Failed, `1 pod waits for the scheduler "berth", and no process leads that serves it`)
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		c.lab.WaitBound(t, pod)
		c.wantWell()
	})
	t.Run("a node has no agent, and one that is not labelled has GPUs", func(t *testing.T) {
		c := c.in(t)
		for name, labels := range map[string]map[string]string{"unreported": {"berth.dev/gpus": "true"}, "unlabelled": {"nvidia.com/gpu.count": "8"}} {
			node := bt.MakeNode(name)
			for k, v := range labels {
				node.Labels[k] = v
			}
			harness.Create(t, c.lab, node)
		}
		c.eventually(c.viewer, "agent-report", check.Failed, "1 node has to have an agent, and no report of one")
		c.do(c.eventually(c.viewer, "node-labelled", check.Warning, "1 node has NVIDIA GPUs").Run)
		c.eventually(c.viewer, "agent-report", check.Failed, "2 nodes have to have an agent")
	})
	t.Run("a snapshot tells the same of what it has", func(t *testing.T) {
		c := c.in(t)
		file := filepath.Join(t.TempDir(), "s.json.gz")
		if out, code := c.command(c.viewer, "snapshot", "-o", file); code != 0 {
			t.Fatal(out)
		}
		out, code := c.run("", "--from", file, "-o", "json")
		for id, want := range map[string]check.Status{"agent-report": check.Failed, "agent-fresh": check.OK, "scheduler-lease": check.OK, "scheduler-config": check.OK, "runtime-class": check.OK, "server-version": check.Unknown} {
			if got := c.find(out, id); got == nil || got.Status != want {
				t.Errorf("%s: %+v, want %s", id, got, want)
			}
		}
		if code != 1 {
			t.Errorf("status %d", code)
		}
	})
}

// checked is a lab that is checked.
type checked struct {
	*testing.T
	lab *harness.Lab
	// viewer is the kubeconfig of an account with the roles berth-view.
	viewer string
	// env is what lines are run with.
	env []string
}

// in is the same lab in a subtest.
func (c *checked) in(t *testing.T) *checked {
	return &checked{T: t, lab: c.lab, viewer: c.viewer, env: c.env}
}

func (c *checked) viewerOf() string {
	c.Helper()
	const name = "viewer"
	subject := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: bt.Namespace, Name: name}}
	harness.Create(c.T, c.lab, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: bt.Namespace, Name: name}})
	harness.Create(c.T, c.lab, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "berth-view"}, Subjects: subject,
	})
	harness.Create(c.T, c.lab, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: berthv1alpha1.Namespace, Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "berth-view"}, Subjects: subject,
	})
	config, account := clientcmdapi.NewConfig(), c.lab.Account(c.T, bt.Namespace, name, nil)
	config.Clusters[name] = &clientcmdapi.Cluster{Server: account.Host, CertificateAuthorityData: account.CAData}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: account.BearerToken}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	file := filepath.Join(c.TempDir(), name+".kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		c.Fatal(err)
	}
	return file
}

// command runs kubectl berth, and returns what it printed and its exit status.
func (c *checked) command(kubeconfig string, args ...string) (out string, code int) {
	c.Helper()
	var stdout, stderr bytes.Buffer
	command := cli.NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &stdout, ErrOut: &stderr})
	if kubeconfig != "" {
		args = append(args, "--kubeconfig", kubeconfig)
	}
	command.SetArgs(args)
	err := command.ExecuteContext(c.Context())
	if code = cli.ExitCode(err); code > 1 {
		c.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	return stdout.String(), code
}

func (c *checked) run(kubeconfig string, args ...string) (out string, code int) {
	c.Helper()
	return c.command(kubeconfig, append([]string{"check"}, args...)...)
}

// find returns what the JSON form says of a check, the worst first; nil if it says nothing.
func (c *checked) find(out, id string) (found *check.Result) {
	c.Helper()
	var r check.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		c.Fatalf("%v\n%s", err, out)
	}
	for _, g := range r.Groups {
		for i := range g.Checks {
			if g.Checks[i].ID == id && (found == nil || found.Status == check.OK) {
				found = &g.Checks[i]
			}
		}
	}
	return found
}

// eventually waits until a check finds something: agents fall silent, and Leases run out, after a while.
func (c *checked) eventually(kubeconfig, id string, status check.Status, message string, args ...string) (found *check.Result) {
	c.Helper()
	harness.Eventually(c.T, fmt.Sprintf("%s %s: …%s…", id, status, message), func(context.Context) (bool, string) {
		out, code := c.run(kubeconfig, append(args, "-o", "json")...)
		found = c.find(out, id)
		if found == nil || found.Status != status || !strings.Contains(found.Message, message) {
			return false, fmt.Sprintf("%+v", found)
		}
		if code != 1 && status == check.Failed {
			c.Errorf("%s: the exit status is %d", id, code)
		}
		return true, ""
	})
	return found
}

// ofALab is what is to be said of every lab: processes tell no versions, and its agents have no kubelet to ask.
var ofALab = []string{"nothing tells their versions", "--pod-resources-socket is empty"}

// wantWell waits until nothing else is to be said.
func (c *checked) wantWell() {
	c.Helper()
	harness.Eventually(c.T, "all is well", func(context.Context) (bool, string) {
		out, code := c.run(c.viewer)
		var bad []string
		for line := range strings.Lines(out) {
			isWell := !slices.ContainsFunc([]string{"×", "!", "?"}, func(sign string) bool { return strings.HasPrefix(line, "  "+sign+" ") })
			if !isWell && !slices.ContainsFunc(ofALab, func(known string) bool { return strings.Contains(line, known) }) {
				bad = append(bad, line)
			}
		}
		return code == 0 && len(bad) == 0, strings.Join(bad, "")
	})
}

// root is the root of the repository, where lines are run.
var root = filepath.Join("..", "..")

// withKubectl returns an environment in which there is a kubectl: that of make build, or the system's. Without one, the test is
// skipped.
func (c *checked) withKubectl() []string {
	c.Helper()
	bin, err := filepath.Abs(filepath.Join(root, "bin"))
	if err != nil {
		c.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "kubectl")); err != nil {
		if _, err := exec.LookPath("kubectl"); err != nil {
			c.Skip("there is no kubectl: make build")
		}
	}
	return append(os.Environ(), "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
}

// do runs lines as an admin.
func (c *checked) do(lines []string) {
	c.Helper()
	if len(lines) == 0 {
		c.Error("there is nothing to run")
	}
	for _, line := range lines {
		cmd := exec.CommandContext(c.Context(), "bash", "-c", line)
		cmd.Dir, cmd.Env = root, append(c.env, "KUBECONFIG="+c.lab.Kubeconfig)
		if out, err := cmd.CombinedOutput(); err != nil {
			c.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
}
