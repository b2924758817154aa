// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/cli"
	"github.com/berth-dev/berth/pkg/lab/gpusim"
	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
	"github.com/berth-dev/berth/test/integration/harness"
)

// envUpdate has the pages written anew with what the commands print.
const envUpdate = "BERTH_UPDATE_DOCS"

// questionPages have a question each, and commands that answer it. The cluster is the same for all.
var questionPages = []string{"my-pod-waits.md", "can-i-drain-this-node.md", "who-uses-what.md"}

// TestTheQuestionsOfTheDocumentation runs the commands of pages on a lab, as they are written there, and compares what they
// print, but for what differs from lab to lab: identities of GPUs, times and how long something lasts.
func TestTheQuestionsOfTheDocumentation(t *testing.T) {
	hub := modeltest.NewServer(t, nil)
	hub.Add("/acme/chat/resolve/main/chat.gguf", modeltest.Tiny.GGUF())
	lab := harness.Start(t, "--nodes", "2", "--gpus", "2", "--controller-arg=--hf-endpoint="+hub.URL)
	askedAbout(t, lab)
	for _, page := range questionPages {
		t.Run(page, func(t *testing.T) {
			file := filepath.Join("..", "..", "docs", page)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			blocks := 0
			now := shown.ReplaceAllStringFunc(string(text), func(block string) string {
				blocks++
				parts := shown.FindStringSubmatch(block)
				command, want := parts[1], parts[2]
				got := ask(t, lab, command, "")
				if diff := cmp.Diff(withoutChance(want), withoutChance(got)); diff != "" && os.Getenv(envUpdate) == "" {
					t.Errorf("%s (-page +now; %s=1 writes the page)\n%s", command, envUpdate, diff)
				}
				return "```\n$ " + command + "\n" + got + "```"
			})
			if blocks == 0 {
				t.Error("the page has no commands")
			}
			if os.Getenv(envUpdate) != "" {
				if err := os.WriteFile(file, []byte(now), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	t.Run("the server admits a manifest and stores nothing, or refuses it in its own words", func(t *testing.T) { askTheServer(t, lab) })
	t.Run("a file with other names is answered alike", func(t *testing.T) { askAFile(t, lab) })
}

// askTheServer asks about a Deployment, which a policy of the cluster refuses from then on.
func askTheServer(t *testing.T, lab *harness.Lab) {
	const manifest = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: asked}, spec: {replicas: 2, selector: {matchLabels: {a: b}},
  template: {metadata: {labels: {a: b}, annotations: {berth.dev/gpu-memory: 5Gi}}, spec: {schedulerName: berth, containers: [{name: c, image: i}]}}}}`
	const command = "kubectl berth what-if --dry-run=server -f -"
	if out := ask(t, lab, command, manifest); !strings.Contains(out, "2 of 2 pods would be placed, and nobody evicted.") {
		t.Errorf("%s", out)
	}
	harness.Create(t, lab, &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "small"},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create}, Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}}}},
			Validations: []admissionv1.Validation{{Expression: "!has(object.metadata.labels) || !('a' in object.metadata.labels)", Message: "no pods of a here"}},
		},
	})
	harness.Create(t, lab, &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "small"},
		Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "small", ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}},
	})
	harness.Eventually(t, "the policy refuses the pods", func(context.Context) (bool, string) {
		out := ask(t, lab, command, manifest)
		return strings.Contains(out, "pod default/asked-0 would be refused") && strings.Contains(out, "no pods of a here"), out
	})
	deployments := &appsv1.DeploymentList{}
	pods := &corev1.PodList{}
	if err := lab.Client.List(t.Context(), deployments); err != nil || len(deployments.Items) > 0 {
		t.Errorf("Deployments: %v, %v", deployments.Items, err)
	}
	if err := lab.Client.List(t.Context(), pods, client.MatchingLabels{"a": "b"}); err != nil || len(pods.Items) > 0 {
		t.Errorf("pods: %v, %v", pods.Items, err)
	}
}

// askAFile asks the cluster, and a file of it in which pods have other names.
func askAFile(t *testing.T, lab *harness.Lab) {
	file := filepath.Join(t.TempDir(), "s.json.gz")
	if out := ask(t, lab, "kubectl berth snapshot --replace-names -o "+file, ""); !strings.Contains(out, "objects") {
		t.Fatal(out)
	}
	const question = "kubectl berth what-if --drain gpu-0 --add-node h100-80x2 -o json"
	answer := func(line string) (devices []any, pods string) {
		out := ask(t, lab, line, "")
		var a struct {
			Pods []struct {
				Name    string
				Node    string
				Devices []any
			}
		}
		if err := json.Unmarshal([]byte(out), &a); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, p := range a.Pods {
			devices, pods = append(devices, p.Node, p.Devices), pods+p.Name+" "
		}
		return devices, pods
	}
	want, names := answer(question)
	got, others := answer(question + " --from " + file)
	if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
		t.Errorf("(-cluster +file)\n%s", diff)
	}
	if names == others || strings.Contains(others, "chat") {
		t.Errorf("the pods of the file are %s", others)
	}
}

// shown is a command of a page, with what it prints.
var shown = regexp.MustCompile("(?m)^```\n\\$ (kubectl berth [^\n]*)\n((?:[^`][^\n]*\n|\n)*)```")

// chance is what differs from lab to lab.
var chance = []struct {
	pattern *regexp.Regexp
	is      string
}{
	{regexp.MustCompile(`GPU-[0-9a-f]{8}-[0-9a-f-]*`), "GPU-x"},
	{regexp.MustCompile(`[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]*Z`), "TIME"},
	{regexp.MustCompile(`\b([0-9.]+(h|m|s))+\b`), "SPAN"},
	{regexp.MustCompile(` +`), " "},
}

func withoutChance(text string) string {
	for _, c := range chance {
		text = c.pattern.ReplaceAllString(text, c.is)
	}
	return text
}

// ask runs a command line of kubectl berth in this process, and returns all that it prints.
func ask(t *testing.T, lab *harness.Lab, line, stdin string) string {
	t.Helper()
	var out bytes.Buffer
	command := cli.NewCommand(genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: &out, ErrOut: &out})
	command.SetArgs(append(strings.Fields(strings.TrimPrefix(line, "kubectl berth ")), "--kubeconfig", lab.Kubeconfig))
	_ = command.ExecuteContext(t.Context()) // an error is printed, and "not all pods are placed" is an answer
	return out.String()
}

// askedAbout makes the cluster of the pages: two nodes of two GPUs, each of which a pod has, and one that waits. Kim may read
// the namespace default.
func askedAbout(t *testing.T, lab *harness.Lab) {
	harness.Create(t, lab, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "search"}})
	harness.Create(t, lab, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kim"}, Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "kim"}},
		RoleRef: rbacv1.RoleRef{Kind: "Role", APIGroup: rbacv1.GroupName, Name: "reader"},
	})
	harness.Create(t, lab, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "reader"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"", "apps"}, Resources: []string{"pods", "events", "replicasets", "statefulsets"}, Verbs: []string{"get", "list"}}},
	})
	holds := func(p *berthtesting.Pod, memory string) *berthtesting.Pod {
		p.Annotations[gpusim.AnnotationGPUMemory] = memory
		return p
	}
	chat := holds(berthtesting.MakePod("chat"), "31Gi").Memory("72Gi").Model("hf://acme/chat/chat.gguf").Runtime(berthv1alpha1.RuntimeLlamaCpp).
		GPUCount("1").Annotation("context-length", "8192")
	code := holds(berthtesting.MakePod("code"), "58Gi").Memory("60Gi").Model("hf://acme/code").Runtime(berthv1alpha1.RuntimeVLLM).GPUCount("1").
		Args("--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)")
	embed := holds(berthtesting.MakePod("embed"), "38Gi").Memory("40Gi").Annotation("idle-after", "1h")
	embed.Namespace, embed.Annotations[gpusim.AnnotationGPUActive] = "search", "false"
	// Of two nodes that are alike, chance says which one gets a pod: the other is cordoned meanwhile.
	place := func(node string, s *appsv1.StatefulSet) {
		t.Helper()
		for _, name := range []string{"gpu-0", "gpu-1"} {
			patch(t, lab, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, fmt.Sprintf(`{"spec":{"unschedulable":%t}}`, name != node))
		}
		if s.ResourceVersion == "" {
			harness.Create(t, lab, s)
		} else {
			patch(t, lab, s, fmt.Sprintf(`{"spec":{"replicas":%d}}`, *s.Spec.Replicas+1))
		}
		lab.WaitReady(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: fmt.Sprintf("%s-%d", s.Name, *s.Spec.Replicas-1)}})
	}
	chats := statefulSet(chat, 1)
	place("gpu-0", chats)
	place("gpu-1", chats)
	place("gpu-0", statefulSet(code, 1))
	place("gpu-1", statefulSet(embed, 1))
	patch(t, lab, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gpu-0"}}, `{"spec":{"unschedulable":false}}`)
	harness.Create(t, lab, statefulSet(berthtesting.MakePod("report").Memory("60Gi"), 1))
	lab.WaitUnschedulable(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "report-0"}})
	harness.Eventually(t, "all pods are measured, and embed-0 to be idle", func(ctx context.Context) (bool, string) {
		reports := &berthv1alpha1.GPUNodeList{}
		if err := lab.Client.List(ctx, reports); err != nil {
			return false, err.Error()
		}
		measured, idle := resource.Quantity{}, 0
		for i := range reports.Items {
			for _, d := range reports.Items[i].Status.Devices {
				for _, p := range d.Processes {
					measured.Add(p.Memory)
					if p.LastActiveTime != nil {
						idle++
					}
				}
			}
		}
		// Models take their memory bit by bit.
		return measured.Cmp(resource.MustParse("158Gi")) == 0 && idle == 1, fmt.Sprintf("%s measured, %d idle", measured.String(), idle)
	})
	harness.Eventually(t, "the peaks of chat are known", func(ctx context.Context) (bool, string) {
		profile := &berthv1alpha1.ModelProfile{}
		err := lab.Client.Get(ctx, client.ObjectKey{Name: berthv1alpha1.ModelProfileName("hf://acme/chat/chat.gguf")}, profile)
		peaks := profile.Status.ObservedPeaks
		return err == nil && len(peaks) == 1 && peaks[0].Samples == 2 && peaks[0].Devices[0].Cmp(resource.MustParse("31Gi")) == 0, fmt.Sprint(err, peaks)
	})
}

// statefulSet returns one whose pods end at once.
func patch(t *testing.T, lab *harness.Lab, object client.Object, merge string) {
	t.Helper()
	if err := lab.Client.Patch(t.Context(), object, client.RawPatch(types.MergePatchType, []byte(merge))); err != nil {
		t.Fatal(err)
	}
}

func statefulSet(p *berthtesting.Pod, replicas int32) *appsv1.StatefulSet {
	pod := p.NoReference().Obj()
	pod.Spec.TerminationGracePeriodSeconds = new(int64)
	labels := map[string]string{"app": pod.Name}
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: pod.Annotations}, Spec: pod.Spec},
		},
	}
}
