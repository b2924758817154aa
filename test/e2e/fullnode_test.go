// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// headroom is what the scheduler keeps free on each GPU by default.
const headroom = 256 << 20

// testFullNode: pods ask for GPU memory as a resource (docs/quota.md), and a node is full of it to the last byte. Its kubelet
// starts anew, takes the node for a new one, and sets what others advertise there to zero: no pod may end for that. What a
// kubelet does to them while nobody writes the resource is shown behind.
func testFullNode(t *testing.T, c *cluster) {
	w := c.workers[0]
	var sum int64
	var pods []*corev1.Pod
	for i, gpu := range w.state.GPUs {
		room := int64(gpu.Memory.Total-gpu.Memory.Reserved) - headroom
		sum += room
		parts := []int64{room}
		if i == len(w.state.GPUs)-1 {
			parts = []int64{30 << 30, room - 30<<30}
		}
		for _, part := range parts {
			pods = append(pods, newPod(fmt.Sprint("full-", len(pods)), resource.NewQuantity(part, resource.BinarySI).String(), on(w.name)))
		}
	}
	c.waitAdvertised(t, w, sum)
	for i := range pods {
		pods[i] = c.run(t, pods[i])
	}
	if asked := askedOf(pods); asked != sum {
		t.Fatalf("the pods ask for %d bytes of the resource, and the node has %d", asked, sum)
	}
	waits := newPod("waits", "64Mi", on(w.name))
	c.create(t, waits)
	c.waitPod(t, waits, "finds the node full", func(p *corev1.Pod) bool {
		return len(p.Status.Conditions) > 0 && p.Status.Conditions[0].Reason == corev1.PodReasonUnschedulable
	})

	advertised := w.watchAdvertised(t)
	w.restartKubelet(t, true)
	if log := w.kubeletLog(t); !strings.Contains(log, `Zero out resource capacity in existing node" resourceName="berth.dev/gpu-memory"`) {
		t.Fatalf("the kubelet did not set the resource to zero, so nothing is shown:\n%s", log)
	}
	c.takenIn(t, w, "after-reset")
	c.stillRun(t, pods)
	c.waitAdvertised(t, w, sum)
	for _, bytes := range advertised() {
		if got, err := resource.ParseQuantity(bytes); err != nil || got.Value() != sum {
			t.Errorf("meanwhile the node had %q of the resource, want %d bytes at any time", bytes, sum)
		}
	}
	if c.get(t, waits); waits.Spec.NodeName != "" {
		t.Errorf("pod %s was bound to a node that is full", waits.Name)
	}
	kubectl(t, "-n", namespace, "delete", "pod", pods[0].Name)
	pods[0] = c.waitReady(t, waits)

	// Nobody writes the resource: what a node does not list, its kubelet does not count; what it lists, it counts, and one byte
	// too little costs a pod.
	kubectl(t, "-n", systemNamespace, "scale", "deployment/berth-controller", "--replicas=0")
	kubectl(t, "-n", systemNamespace, "wait", "pods", "-l", "app.kubernetes.io/name=berth-controller", "--for=delete", "--timeout=1m")
	w.advertise(t, "null")
	w.restartKubelet(t, false)
	c.takenIn(t, w, "after-absence")
	c.stillRun(t, pods)
	w.advertise(t, fmt.Sprint(askedOf(pods)-1))
	w.restartKubelet(t, false)
	c.takenIn(t, w, "after-shortage")
	ended := c.waitOneEnded(t, pods)
	c.waitRefused(t, ended)

	kubectl(t, "-n", systemNamespace, "scale", "deployment/berth-controller", "--replicas=1")
	c.waitAdvertised(t, w, sum)
	c.run(t, newPod("instead", ended.Annotations[berthv1alpha1.AnnotationGPUMemory], on(w.name)))
}

// askedOf returns what pods ask for by the resource, in bytes.
func askedOf(pods []*corev1.Pod) (sum int64) {
	for _, pod := range pods {
		asked := pod.Spec.Containers[0].Resources.Requests[berthv1alpha1.ResourceGPUMemory]
		sum += asked.Value()
	}
	return sum
}

// waitAdvertised waits until a node lists so many bytes of the resource, as capacity and as allocatable; negative for none.
func (c *cluster) waitAdvertised(t *testing.T, w *worker, want int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("node %s advertises %d bytes", w.name, want), func(ctx context.Context) (bool, string) {
		node := &corev1.Node{}
		if err := c.client.Get(ctx, client.ObjectKey{Name: w.name}, node); err != nil {
			return false, err.Error()
		}
		for _, list := range []corev1.ResourceList{node.Status.Capacity, node.Status.Allocatable} {
			if got, listed := list[berthv1alpha1.ResourceGPUMemory]; listed != (want >= 0) || listed && got.Value() != want {
				return false, fmt.Sprintf("capacity %v, allocatable %v", node.Status.Capacity, node.Status.Allocatable)
			}
		}
		return true, ""
	})
}

// watchAdvertised watches what a node lists of the resource, until the function is called that it returns, which tells.
func (w *worker) watchAdvertised(t *testing.T) func() []string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan string, 1)
	go func() {
		text, _ := command(ctx, "kubectl", "get", "node", w.name, "--watch", "-o", `jsonpath={.status.capacity.berth\.dev/gpu-memory}{"\n"}`)
		out <- text // it ends by being stopped
	}()
	return func() []string {
		cancel()
		lines := strings.Split(strings.TrimSpace(<-out), "\n")
		if len(lines) < 2 {
			t.Errorf("the node was not seen to change: %q", lines)
		}
		return lines
	}
}

// advertise writes what a node lists of the resource, in bytes, as somebody else than the controller would; null for nothing.
func (w *worker) advertise(t *testing.T, bytes string) {
	t.Helper()
	list := fmt.Sprintf(`{%q:%s}`, berthv1alpha1.ResourceGPUMemory, bytes)
	kubectl(t, "patch", "node", w.name, "--subresource=status", "--type=merge", "-p", fmt.Sprintf(`{"status":{"capacity":%s,"allocatable":%s}}`, list, list))
}

// takenIn waits until the node's kubelet runs a new pod. It takes pods in by their age, so it has looked at all others then.
func (c *cluster) takenIn(t *testing.T, w *worker, name string) {
	t.Helper()
	c.run(t, newPod(name, "", on(w.name)))
}

// stillRun checks that pods are the same as before, and that their containers are.
func (c *cluster) stillRun(t *testing.T, pods []*corev1.Pod) {
	t.Helper()
	for _, before := range pods {
		now := before.DeepCopy()
		if c.get(t, now); now.UID != before.UID || now.Status.Phase != corev1.PodRunning {
			t.Errorf("pod %s is %s, %s: %s; is it the same: %v", now.Name, now.Status.Phase, now.Status.Reason, now.Status.Message, now.UID == before.UID)
			continue
		}
		if was, is := before.Status.ContainerStatuses[0], now.Status.ContainerStatuses[0]; was.ContainerID != is.ContainerID {
			t.Errorf("pod %s: its container was %s, and is %s", now.Name, was.ContainerID, is.ContainerID)
		}
	}
}

// waitOneEnded waits until one of several pods has ended, and returns it; the others run. A container that obeys makes the
// pod Succeeded, which the kubelet had refused.
func (c *cluster) waitOneEnded(t *testing.T, pods []*corev1.Pod) (ended *corev1.Pod) {
	t.Helper()
	eventually(t, "one pod has ended, and the others run", func(context.Context) (bool, string) {
		var phases []string
		running := 0
		for _, pod := range pods {
			c.get(t, pod)
			phases = append(phases, pod.Name+" "+string(pod.Status.Phase))
			if pod.Status.Phase == corev1.PodRunning {
				running++
			} else {
				ended = pod
			}
		}
		return running == len(pods)-1 && gpustate.HasEnded(ended), fmt.Sprint(phases)
	})
	return ended
}

// waitRefused waits until a kubelet has said of a pod that there is too little of the resource for it.
func (c *cluster) waitRefused(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	eventually(t, "the kubelet says why pod "+pod.Name+" ended", func(ctx context.Context) (bool, string) {
		var events corev1.EventList
		if err := c.client.List(ctx, &events, client.InNamespace(namespace)); err != nil {
			return false, err.Error()
		}
		return slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
			return e.InvolvedObject.UID == pod.UID && e.Reason == "OutOfberth.dev/gpu-memory"
		}), fmt.Sprint(len(events.Items), " events")
	})
}

// restartKubelet restarts the node's kubelet, and waits until it has registered. If it is to take the node for a new one, its
// folder of device plugins is empty by then: it makes a socket there first, which is taken away.
func (w *worker) restartKubelet(t *testing.T, asNew bool) {
	t.Helper()
	const script = `
systemctl stop kubelet
if [ "$1" = true ]; then
  (while :; do rm -f /var/lib/kubelet/device-plugins/*; sleep 0.01; done) &
  trap "kill $!" EXIT
fi
systemctl start kubelet
for _ in $(seq 300); do
  journalctl -q -o cat "_SYSTEMD_INVOCATION_ID=$(systemctl show -p InvocationID --value kubelet)" | grep -q "Successfully registered node" && exit
  sleep 0.2
done
echo "the kubelet does not register"
exit 1`
	w.run(t, "bash", "-ec", script, "restart", fmt.Sprint(asNew))
}

// kubeletLog returns what the node's kubelet logged since it was started.
func (w *worker) kubeletLog(t *testing.T) string {
	t.Helper()
	return w.run(t, "bash", "-ec", `journalctl -q -o cat "_SYSTEMD_INVOCATION_ID=$(systemctl show -p InvocationID --value kubelet)"`)
}
