// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/lab/gpusim"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestAlerts makes true in a lab what alerts are about, and asks promtool which would fire if the scheduler went on to tell for
// 25 minutes what it tells then. Those on what only the controller and the agents tell are left out.
func TestAlerts(t *testing.T) {
	a := alerts{t: t, promtool: findTool(t, "tools/promtool", "test-monitoring")}
	lab := harness.Start(t, "--nodes", "1", "--gpus", "1", "--gpu-model", "H100-80", "--no-controller", "--scheduler-config", impatient(t))
	a.lab = lab
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gpu-0"}}
	a.fire("all is well")

	pod := harness.Create(t, lab, berthtesting.MakePod("waits").Memory("500Gi").Obj())
	a.fire("a pod waits", "BerthPodsPendingLong")
	lab.Delete(t, pod, 0)
	lab.WaitGone(t, pod)

	lab.Annotate(t, node, gpusim.AnnotationUnhealthy, "0=Xid79")
	a.fire("a GPU is unhealthy", "BerthGPUUnhealthy")
	lab.Annotate(t, node, gpusim.AnnotationUnhealthy, "")
	a.fire("it is healthy again")

	greedy := berthtesting.MakePod("greedy").Memory("10Gi").Obj()
	greedy.Annotations[gpusim.AnnotationGPUMemory] = "50Gi"
	harness.Create(t, lab, greedy)
	a.fire("a pod holds more than it booked", "BerthMemoryOveruse")
	lab.Delete(t, greedy, 0)
	lab.WaitGone(t, greedy)
	a.fire("it is gone")

	bindings := lab.Clientset.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	binding, err := bindings.Get(t.Context(), "berth-allocation", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := bindings.Delete(t.Context(), binding.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	a.fire("a policy is missing, and nothing is placed", "BerthPoliciesMissing", "BerthSchedulerPlacesNothing")
	binding.ObjectMeta = metav1.ObjectMeta{Name: binding.Name}
	if _, err := bindings.Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	a.fire("it is in force again")

	// From here on by reports that the test writes, as an agent would.
	held := berthtesting.MakeGPUNode("held").GPU("GPU-held", "80Gi").Process("gone", "30Gi")
	lab.AddNode(t, berthtesting.MakeNode("held"), held.Obj())
	a.again = func() {
		held.Status.ObservedTime = metav1.Now() // heard of, though nothing has changed
		lab.Report(t, held.Obj())
	}
	a.fire("memory of a pod that is gone is not back", "BerthMemoryNotReturned")
	held = berthtesting.MakeGPUNode("held").GPU("GPU-held", "80Gi")
	a.fire("it is back")
	a.again = nil
	a.fire("the agent is killed", "BerthAgentSilent")
}

// alerts asks which alerts a lab's scheduler would make fire.
type alerts struct {
	t        *testing.T
	lab      *harness.Lab
	promtool string
	// again, if it is set, is done before each look.
	again func()
}

// fire waits until exactly these alerts would fire.
func (a *alerts) fire(what string, want ...string) {
	a.t.Helper()
	harness.Eventually(a.t, fmt.Sprintf("%s: %v fires", what, want), func(context.Context) (bool, string) {
		if a.again != nil {
			a.again()
		}
		return a.wouldFire(want)
	})
}

type promtoolTest struct {
	RuleFiles          []string         `json:"rule_files"`
	EvaluationInterval string           `json:"evaluation_interval"`
	Tests              []map[string]any `json:"tests"`
}

func (a *alerts) wouldFire(want []string) (ok bool, state string) {
	a.t.Helper()
	var input, samples []map[string]any
	for line := range strings.Lines(schedulerMetrics(a.t, a.lab)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if i := strings.LastIndex(line, "} "); i >= 0 {
			name, value = line[:i+1], strings.TrimSpace(line[i+2:])
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || !strings.HasPrefix(name, "berth_") {
			continue
		}
		input = append(input, map[string]any{"series": name, "values": strconv.FormatFloat(v, 'f', -1, 64) + "x25"})
	}
	for _, alert := range want {
		samples = append(samples, map[string]any{"labels": `{alertname="` + alert + `"}`, "value": 1})
	}
	text, err := yaml.Marshal(promtoolTest{
		RuleFiles: []string{rulesForAnyAge(a.t)}, EvaluationInterval: "1m",
		Tests: []map[string]any{{
			"interval": "1m", "input_series": input,
			"promql_expr_test": []map[string]any{{
				"expr":      `group by (alertname) (ALERTS{alertstate="firing", alertname!~"BerthController.*|BerthAgentsNotScraped"})`,
				"eval_time": "25m", "exp_samples": samples,
			}},
		}},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	file := filepath.Join(a.t.TempDir(), "test.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	out, err := exec.CommandContext(a.t.Context(), a.promtool, "test", "rules", file).CombinedOutput()
	return err == nil, string(out)
}

// rulesForAnyAge returns the shipped rules, but that pods have waited long at once: the test has no hour.
func rulesForAnyAge(t *testing.T) string {
	t.Helper()
	shipped, err := os.ReadFile(filepath.Join("..", "..", "monitoring", "rendered", "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	const hour, any = `age=~\"1h\"`, `age=~\"0s|1m|10m|1h\"`
	if !strings.Contains(string(shipped), hour) {
		t.Fatalf("the rules have no %s", hour)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(shipped), hour, any)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// impatient returns a configuration of the scheduler under which what takes minutes takes seconds.
func impatient(t *testing.T) string {
	t.Helper()
	shipped, err := manifests.FS.ReadFile("scheduler/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := string(shipped)
	for before, after := range map[string]string{
		"policyCheckInterval: 5m": "policyCheckInterval: 1s", "onMissingPolicies: Report": "onMissingPolicies: StopPlacing",
		"staleAfter: 60s": "staleAfter: 15s", "memoryReturnTimeout: 2m": "memoryReturnTimeout: 1s",
	} {
		if !strings.Contains(config, before) {
			t.Fatalf("the shipped configuration has no %s", before)
		}
		config = strings.Replace(config, before, after, 1)
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// findTool returns the program that "make target" builds into bin, or the one of that name that is installed.
func findTool(t *testing.T, file, target string) string {
	t.Helper()
	if built, err := filepath.Abs(filepath.Join("..", "..", "bin", file)); err == nil {
		if _, err := os.Stat(built); err == nil {
			return built
		}
	}
	name := filepath.Base(file)
	installed, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("there is no %s: make %s builds it", name, target)
	}
	return installed
}
