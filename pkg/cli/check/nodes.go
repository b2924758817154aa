// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// handedOver is the GPU operator's label by which a node's device plugin is stopped.
const handedOver = "nvidia.com/gpu.deploy.device-plugin"

// nodes judges whether each node with GPUs is Berth's or somebody else's, and hands GPUs over.
func (c *judge) nodes() []Result {
	if why := c.unread(Nodes); why != "" {
		return []Result{unknown(idLabelled, "nodes could not be read: %s", why)}
	}
	if why := c.unread(GPUNodes); why != "" {
		return []Result{unknown(idHandOff, "GPUNodes could not be read: %s", why)}
	}
	out := c.owners()
	out = append(out, c.handOffs()...)
	out = append(out, c.limits()...)
	out = append(out, c.advertised()...)
	out = append(out, c.cordoned()...)
	return append(out, c.outOfService()...)
}

// owners judges whether GPUs have one master.
func (c *judge) owners() (out []Result) {
	var half, twice, left, dra, unlabelled []string
	detail := map[string]string{}
	for i := range c.Nodes {
		node := &c.Nodes[i]
		reason := c.view(node).Reason
		advertises := c.tracker.Policy.AdvertisesGPUs(node)
		shared := node.Labels[berthv1alpha1.LabelDevicePlugin] == berthv1alpha1.DevicePluginShared
		switch {
		case advertises && !shared && c.berthPods(node.Name) > 0:
			twice = append(twice, node.Name)
			detail[node.Name] = fmt.Sprintf("%s has %s", node.Name, count(c.berthPods(node.Name), "pod of Berth's and advertises GPU"))
		case advertises && !shared && (node.Labels[handedOver] == "false" || node.Labels[berthv1alpha1.LabelGPUs] == "true"):
			half = append(half, node.Name)
			detail[node.Name] = c.users(node)
		case advertises && !shared:
			left = append(left, node.Name)
		case reason == gpustate.ReasonDRA:
			dra = append(dra, node.Name)
		case !c.hasAgent(node) && !c.reported(node.Name) && !berthv1alpha1.DriverGoes(node.Labels) && looksLikeGPUs(node):
			unlabelled = append(unlabelled, node.Name)
		}
	}
	if len(twice) > 0 {
		out = append(out, failed(idOneOwner, "GPUs have two masters, which may give the same one away twice: %s", shortened(each(twice, detail))).of(twice...).
			run("kubectl label node "+strings.Join(twice, " ")+" "+handedOver+"=false").see(pageNodes))
	}
	if len(half) > 0 {
		out = append(out, warning(idOneOwner, "half handed over, so that Berth places nothing there: %s", shortened(each(half, detail))).of(half...).
			run("kubectl label node "+strings.Join(half, " ")+" "+handedOver+"=false --overwrite",
				`kubectl get node `+strings.Join(half, " ")+` -o custom-columns='NODE:.metadata.name,GPUS:.status.allocatable.nvidia\.com/gpu'`).see(pageNodes))
	}
	if len(dra) > 0 {
		out = append(out, warning(idOneOwner, "a DRA driver publishes the GPUs of %s, so that Berth places nothing there: keep the driver off, or label them", count(len(dra), "node")).of(dra...).
			run("kubectl label node "+strings.Join(dra, " ")+" "+berthv1alpha1.LabelDRA+"="+berthv1alpha1.DRAShared).see(pageNodes))
	}
	if len(left) > 0 {
		out = append(out, ok(idOneOwner, "%s the device plugin's, and Berth leaves them alone: %s", are(len(left), "node"), shortened(left)).of(left...).see(pageNodes))
	}
	if len(unlabelled) > 0 {
		out = append(out, warning(idLabelled, "%s NVIDIA GPUs by its labels or resources, and no label by which the agent runs there", have(len(unlabelled))).of(unlabelled...).
			run("kubectl label node "+strings.Join(unlabelled, " ")+" berth.dev/gpus=true").see(pageNodes))
	}
	return out
}

// each returns what is told of nodes.
func each(nodes []string, detail map[string]string) (out []string) {
	for _, node := range nodes {
		out = append(out, detail[node])
	}
	return out
}

// view is the scheduler's view of a node.
func (c *judge) view(node *corev1.Node) *gpustate.View {
	var pods []*corev1.Pod
	for _, pod := range c.onNode[node.Name] {
		if !gpustate.HasEnded(pod) {
			pods = append(pods, pod)
		}
	}
	view := c.viewer.View(node, pods, &gpustate.Query{})
	return &view
}

func (c *judge) reported(node string) bool {
	report, _ := c.viewer.Snapshot.Report(node, 0)
	return report != nil || c.Unreadable[node] != ""
}

// berthPods counts the pods of a node to which Berth gave GPUs.
func (c *judge) berthPods(node string) (n int) {
	for _, pod := range c.onNode[node] {
		if _, ok := pod.Annotations[berthv1alpha1.AnnotationAllocation]; ok && !gpustate.HasEnded(pod) {
			n++
		}
	}
	return n
}

// users says who has GPUs of a node's device plugin.
func (c *judge) users(node *corev1.Node) string {
	var pods []string
	for _, pod := range c.onNode[node.Name] {
		if !gpustate.HasEnded(pod) && c.tracker.Policy.RequestsGPUs(pod) {
			pods = append(pods, pod.Namespace+"/"+pod.Name)
		}
	}
	text := fmt.Sprintf("%s advertises %s", node.Name, count(int(berthv1alpha1.WholeGPUs(node.Status.Allocatable)), "GPU"))
	if len(pods) > 0 {
		return text + ", which are used by " + shortened(pods)
	}
	return text + ", which no pod uses"
}

// looksLikeGPUs says whether labels or resources of a node tell of NVIDIA's GPUs.
func looksLikeGPUs(node *corev1.Node) bool {
	for key, value := range node.Labels {
		switch {
		case strings.HasPrefix(key, "nvidia.com/gpu.") && key != "nvidia.com/gpu.present" && key != handedOver && !strings.HasPrefix(key, "nvidia.com/gpu.deploy."):
			return true // gpu-feature-discovery: count, product, memory
		case key == handedOver && value == "false":
			return true
		case key == "cloud.google.com/gke-accelerator" && strings.HasPrefix(value, "nvidia"), key == "k8s.amazonaws.com/accelerator" && strings.HasPrefix(value, "nvidia"):
			return true
		}
	}
	for name := range node.Status.Capacity {
		if berthv1alpha1.IsWholeGPU(name) {
			return true // of a device plugin, be there none left
		}
	}
	return false
}

// handOffs judges whether container runtimes take GPUs from Berth.
func (c *judge) handOffs() (out []Result) {
	class, handler, known := c.classHandler()
	if !known {
		switch why := c.unread(RuntimeClasses); {
		case class != "" && why == "":
			return []Result{failed(idRuntimeClass, "pods with a request get the RuntimeClass %s, which does not exist, so that they are refused", class).
				run("kubectl create -f - <<<'{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: " + class + "}, handler: " + class + "}'").see(pageToolkit)}
		case class != "":
			return []Result{unknown(idRuntimeClass, "whether the RuntimeClass %s exists is not known: %s", class, why)}
		}
		return []Result{unknown(idRuntimeClass, "which RuntimeClass pods get is not known: the policy berth-handoff is not there, could not be read, or has an expression of somebody's own")}
	}
	what := "the node's default runtime"
	if class != "" {
		what = fmt.Sprintf("RuntimeClass %s (handler %s)", class, handler)
		out = append(out, ok(idRuntimeClass, "%s exists, which pods with a request get", what))
	}
	var bad []string
	good, silent, why := 0, 0, ""
	for i := range c.Nodes {
		node := &c.Nodes[i]
		report, _ := c.viewer.Snapshot.Report(node.Name, 0)
		if report == nil || c.view(node).Reason == gpustate.ReasonDevicePlugin {
			continue
		}
		if text := c.handOff(node, handler); text != "" {
			bad, why = append(bad, node.Name), text
		} else if report.KnowsHandOff(handler) || node.Annotations[berthv1alpha1.AnnotationHandOff] != "" {
			good++
		} else {
			silent++
		}
	}
	if len(bad) > 0 {
		out = append(out, failed(idHandOff, "containers of %s get no GPUs by %s; of %s: %s", count(len(bad), "node"), what, bad[len(bad)-1], why).of(bad...).
			run("kubectl get gpunode "+bad[0]+" -o jsonpath='{.status.handOff}'").see(pageHandOff))
	}
	if good > 0 {
		out = append(out, ok(idHandOff, "%s GPUs over by %s", handing(good), what))
	}
	if silent > 0 {
		out = append(out, ok(idHandOff, "agents of %s do not tell how GPUs are handed over: qualified CDI names are used there", count(silent, "node")))
	}
	return out
}

func handing(n int) string {
	if n == 1 {
		return "1 node hands"
	}
	return fmt.Sprintf("%d nodes hand", n)
}

func nodesAre(n int) string {
	if n == 1 {
		return "1 node with GPUs is"
	}
	return fmt.Sprintf("%d nodes with GPUs are", n)
}

// outOfService tells of nodes with GPUs that get no pods for reasons that pass, or that the scheduler has.
func (c *judge) outOfService() (out []Result) {
	var notReady, cordoned, driver []string
	others := map[alloc.Reason][]string{}
	for i := range c.Nodes {
		node := &c.Nodes[i]
		if !c.reported(node.Name) {
			continue
		}
		if node.Spec.Unschedulable {
			cordoned = append(cordoned, node.Name)
		}
		for _, cond := range node.Status.Conditions {
			if cond.Type == corev1.NodeReady && cond.Status != corev1.ConditionTrue {
				notReady = append(notReady, node.Name)
			}
		}
		switch reason := c.view(node).Reason; reason {
		case gpustate.ReasonDriverUpgrade:
			driver = append(driver, node.Name)
		case gpustate.ReasonUnknownResourceClaim, gpustate.ReasonUnreportedDevicePod:
			others[reason] = append(others[reason], node.Name)
		}
	}
	if len(notReady) > 0 {
		out = append(out, warning(idNodeReady, "%s not Ready", nodesAre(len(notReady))).of(notReady...).run("kubectl describe node "+notReady[0]))
	}
	if len(cordoned) > 0 {
		out = append(out, warning(idNodeReady, "%s cordoned", nodesAre(len(cordoned))).of(cordoned...).run("kubectl uncordon "+strings.Join(cordoned, " ")).see(pageDrain))
	}
	if len(driver) > 0 {
		out = append(out, warning(idDriver, "the driver of %s is being replaced, so that they get no pods until the GPU operator is through", count(len(driver), "node")).of(driver...).see(pageDriver))
	}
	for _, reason := range []alloc.Reason{gpustate.ReasonUnknownResourceClaim, gpustate.ReasonUnreportedDevicePod} {
		if nodes := others[reason]; len(nodes) > 0 {
			out = append(out, warning(idOneOwner, "%s get no pods: %s", count(len(nodes), "node"), reason).of(nodes...).see(pageNodeReasons))
		}
	}
	return out
}
