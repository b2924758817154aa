// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
)

// The lines are as their sources give them, where a source gives the path in the cgroup file system, as
// /proc/<pid>/cgroup has it.
func TestPodUID(t *testing.T) {
	for _, tc := range []struct {
		name   string
		cgroup string
		// source is where the lines were captured.
		source string
		want   types.UID
	}{
		{
			name:   "containerd, cgroupfs, v1",
			cgroup: "11:devices:/kubepods/besteffort/pod74c13223-5a00-11e9-b385-42010a80018d/34dc0b5e626f2c5c4c5170e34b10e7654ce36f0fcd532739f4445baabea03376",
			source: "github.com/Qard/container-info test/fixtures/result.js",
			want:   "74c13223-5a00-11e9-b385-42010a80018d",
		},
		{
			name: "containerd, cgroupfs, v1 beside v2, whose line names the runtime's own service",
			cgroup: "9:rdma:/\n" +
				"8:memory:/kubepods/burstable/poda0178de9-9963-4c21-a277-14564e7abd2b/b08be0f4a5536647b2ec2c5c8bd03d928ca897b483528848e716ce80ed37ec69\n" +
				"0::/system.slice/containerd.service",
			source: "solarwinds-apm-go, internal/host tests (TestGetContainerId)",
			want:   "a0178de9-9963-4c21-a277-14564e7abd2b",
		},
		{
			name:   "containerd, cgroupfs, v2 (k3s)",
			cgroup: "0::/kubepods/burstable/pod404bd273-57bc-4508-a386-e2b76d3c9cfe/3aaaa76f09e1de6bb75e84f9c15b737a2d590f69757953e3ec262bd5861dc15b",
			source: "github.com/rancher/k3k pull 792",
			want:   "404bd273-57bc-4508-a386-e2b76d3c9cfe",
		},
		{
			name:   "containerd, systemd, v1",
			cgroup: "4:memory:/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod9a43c98c_c0dd_4642_bf7d_acdb53d443ec.slice/cri-containerd-31df9b0d9819f8b4c80f502880afaa4bd71079514cd0a90b0b47db972fdc9567.scope",
			source: "solarwinds-apm-go, internal/host tests (TestGetContainerId)",
			want:   "9a43c98c-c0dd-4642-bf7d-acdb53d443ec",
		},
		{
			name:   "containerd, systemd, v2",
			cgroup: "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod55c6c714_b240_4dec_9a45_57b61696ab6e.slice/cri-containerd-2032491dcae31e6746f47daa0ac74564f2843a1bd847c5e6c4eb501ca132ac36.scope",
			source: "github.com/netdata/netdata issue 4868 (a tree of the cgroup file system)",
			want:   "55c6c714-b240-4dec-9a45-57b61696ab6e",
		},
		{
			name:   "containerd, systemd, v2, in kind, whose kubelet has a cgroup of its own",
			cgroup: "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod1e597579_417e_482f_bf65_5fe170c3aebd.slice/cri-containerd-a09bc17f5aa29b0dbdec9ede5f46cf1396d2405917ab02e6f1eb1019f388396e.scope",
			source: "github.com/containerd/nri pull 227",
			want:   "1e597579-417e-482f-bf65-5fe170c3aebd",
		},
		{
			name:   "a static pod, which the kubelet names by a hash",
			cgroup: "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod8daa50c3a64c9ff60bb9eab7b44b56fd.slice/cri-containerd-2884d57c0e100d7a9a2f9487ce0bc2986bca3430e988af7a4865aff061f51ac5.scope",
			source: "github.com/netdata/netdata issue 4868",
			want:   "8daa50c3a64c9ff60bb9eab7b44b56fd",
		},
		{
			name:   "containerd of driver cgroupfs under a kubelet of driver systemd, v1",
			cgroup: "1:name=systemd:/system.slice/containerd.service/kubepods-burstable-podff49d0be_16b7_4a49_bb9e_8ec1f1f4e27f.slice:cri-containerd:0f99ad5f45163ed14ab8eaf92ed34bb4a631d007f8755a7d79be614bcb0df0ef",
			source: "github.com/elastic/apm-agent-nodejs issue 3550",
			want:   "ff49d0be-16b7-4a49-bb9e-8ec1f1f4e27f",
		},
		{
			name: "the same, where one controller has another path",
			cgroup: "11:perf_event:/kubepods-besteffort-pod0125ec2f_b64a_4868_8f5b_94b56cbab864.slice:cri-containerd:ee4b20e90ac7f42a10bd004d05646b13d8ab5e2c5e7cbc01abf8006bac016459\n" +
				"10:blkio:/system.slice/containerd.service/kubepods-besteffort-pod0125ec2f_b64a_4868_8f5b_94b56cbab864.slice:cri-containerd:ee4b20e90ac7f42a10bd004d05646b13d8ab5e2c5e7cbc01abf8006bac016459",
			source: "github.com/open-telemetry/opentelemetry-java issue 4507",
			want:   "0125ec2f-b64a-4868-8f5b-94b56cbab864",
		},
		{
			name: "CRI-O, systemd, v1, with a hierarchy that has no pods",
			cgroup: "13:freezer:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda5c1f8d5_1919_434d_add7_4afaafdaef89.slice/crio-5eed917563583925ffdbd40a64efb2aaffe58638e57add8becaf460fe74f5b1c.scope\n" +
				"12:cpuset:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda5c1f8d5_1919_434d_add7_4afaafdaef89.slice/crio-5eed917563583925ffdbd40a64efb2aaffe58638e57add8becaf460fe74f5b1c.scope\n" +
				"11:files:/",
			source: "github.com/opencontainers/runc issue 4620",
			want:   "a5c1f8d5-1919-434d-add7-4afaafdaef89",
		},
		{
			name:   "CRI-O, systemd, v2",
			cgroup: "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod35550f44_f691_427e_b57d_ab6127d2cb65.slice/crio-805b902ed98fdc1409c76e9aa94964787a904c80f46fc3ee74283509108f5e73.scope",
			source: "github.com/containerd/nri pull 227 (OpenShift)",
			want:   "35550f44-f691-427e-b57d-ab6127d2cb65",
		},
		{
			name:   "CRI-O, systemd, in a minikube that is a container itself",
			cgroup: "1:name=systemd:/docker/d6701ec289c56e4391acb11d07474b3139466857a305490575508a8b7a9fcf22/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod2ca4a155_3599_498d_bb9d_4446693fa3ea.slice/crio-358607a37e7ada357032e7f5729c9ae6a3efdb7962acbcbe47ff6a3c5506cb1c.scope",
			source: "github.com/kubernetes/minikube issue 11280",
			want:   "2ca4a155-3599-498d-bb9d-4446693fa3ea",
		},
		{
			name:   "CRI-O, cgroupfs, which names scopes but not slices",
			cgroup: "0::/kubepods/burstable/pod941dc160-92df-11e7-b27e-507b9d4141fa/crio-2b4d747eae5ed34775c069d913c81833b67a0148e731a36535c9f3b97ebfb87f",
			source: "the pod's part: github.com/cri-o/cri-o issue 842; the container's: CRI-O's cgroup manager for cgroupfs",
			want:   "941dc160-92df-11e7-b27e-507b9d4141fa",
		},
		{
			name:   "cri-dockerd (dockershim), systemd, v1",
			cgroup: "11:perf_event:/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod6d62265d_cd4d_4807_8d2f_386714d5bbdc.slice/docker-c44a782ba5482052e66dc3f5ed3811e2a699db09b6715e26102d582a51ac52cc.scope",
			source: "/proc/20397/cgroup on a Kubernetes node with Docker, deoops blog, 2020-03-13",
			want:   "6d62265d-cd4d-4807-8d2f-386714d5bbdc",
		},
		{
			name:   "cri-dockerd (dockershim), cgroupfs, v1",
			cgroup: "3:cpu:/kubepods/burstable/pod941dc160-92df-11e7-b27e-507b9d4141fa/2b4d747eae5ed34775c069d913c81833b67a0148e731a36535c9f3b97ebfb87f",
			source: "github.com/cri-o/cri-o issue 842",
			want:   "941dc160-92df-11e7-b27e-507b9d4141fa",
		},
		{
			name:   "containerd with a user namespace puts the container outside of kubepods",
			cgroup: "0::/system.slice/kubepods-besteffort-podd5e3a8f0_4d51_4b0e_8e3d_2a1c4f5a8b9c.slice:cri-containerd:0f99ad5f45163ed14ab8eaf92ed34bb4a631d007f8755a7d79be614bcb0df0ef",
			source: "the form: github.com/containerd/containerd issue 11589, which leaves out the UID",
			want:   "d5e3a8f0-4d51-4b0e-8e3d-2a1c4f5a8b9c",
		},
		{
			name:   "seen from a cgroup namespace, systemd: another QoS class",
			cgroup: "0::/../../../kubepods-burstable.slice/kubepods-burstable-podece3579b_3053_4e6c_9c1a_6d3f2f0e8a11.slice/cri-containerd-31df9b0d.scope",
			source: "the form: github.com/inspektor-gadget/inspektor-gadget pull 3085; docs.kernel.org admin-guide/cgroup-v2",
			want:   "ece3579b-3053-4e6c-9c1a-6d3f2f0e8a11",
		},
		{
			name:   "seen from a cgroup namespace, cgroupfs: the same QoS class",
			cgroup: "0::/../../pod404bd273-57bc-4508-a386-e2b76d3c9cfe/3aaaa76f",
			source: "the form: docs.kernel.org admin-guide/cgroup-v2",
			want:   "404bd273-57bc-4508-a386-e2b76d3c9cfe",
		},
		{
			name:   "a zombie whose cgroup was removed",
			cgroup: "0::/kubepods/burstable/pod404bd273-57bc-4508-a386-e2b76d3c9cfe/3aaaa76f (deleted)",
			source: "the form: docs.kernel.org admin-guide/cgroup-v2",
			want:   "404bd273-57bc-4508-a386-e2b76d3c9cfe",
		},
		{
			name:   "a guaranteed pod has no QoS level",
			cgroup: "0::/kubepods.slice/kubepods-podd4977652_ffc4_424b_90c0_bbb5e35e5ea3.slice/cri-containerd-31df9b0d.scope",
			want:   "d4977652-ffc4-424b-90c0-bbb5e35e5ea3",
		},
		{
			name:   "a cluster in a pod: the outer pod holds the memory, and what is inside can be named at will",
			cgroup: "0::/kubepods/burstable/pod404bd273-57bc-4508-a386-e2b76d3c9cfe/3aaaa76f/kubepods/besteffort/pod74c13223-5a00-11e9-b385-42010a80018d/34dc",
			want:   "404bd273-57bc-4508-a386-e2b76d3c9cfe",
		},
		{name: "a login session", cgroup: "0::/user.slice/user-1000.slice/session-3.scope"},
		{name: "a container of no pod", cgroup: "10:net_prio:/docker/4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970"},
		{name: "a podman container", cgroup: "0::/machine.slice/libpod-4a8dd27841a96004bc286d609621c4deee11577073d999eaf81a8fc9e513a314.scope"},
		{name: "a pod's name outside of the kubelet's cgroups", cgroup: "0::/user.slice/pod404bd273-57bc-4508-a386-e2b76d3c9cfe/x"},
		{name: "the kubelet's own slice", cgroup: "0::/kubepods.slice/kubepods-burstable.slice"},
		{name: "something like a pod", cgroup: "0::/kubepods/podman/podcast"},
		{name: "nothing", cgroup: ""},
		{name: "not a cgroup file", cgroup: "kubepods\n:\n::"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, content := range []string{tc.cgroup, tc.cgroup + "\n"} {
				got, ok := PodUID(content)
				if got != tc.want || ok != (tc.want != "") {
					t.Errorf("PodUID(%q) = %q, %t, want %q (source: %s)", content, got, ok, tc.want, tc.source)
				}
			}
		})
	}
}

func FuzzPodUID(f *testing.F) {
	f.Add("0::/kubepods.slice/kubepods-podd4977652_ffc4_424b_90c0_bbb5e35e5ea3.slice/x.scope\n")
	f.Add("0::/../../pod404bd273-57bc-4508-a386-e2b76d3c9cfe/3aaaa76f (deleted)")
	f.Fuzz(func(t *testing.T, content string) {
		uid, ok := PodUID(content)
		if !ok && uid != "" || ok && len(uid) != 36 && len(uid) != 32 {
			t.Errorf("PodUID(%q) = %q, %t", content, uid, ok)
		}
		if ok && !strings.Contains(strings.ReplaceAll(content, "_", "-"), string(uid)) {
			t.Errorf("PodUID(%q) = %q, which is not in it", content, uid)
		}
	})
}

// proc is a proc file system in a folder.
type proc struct {
	t    *testing.T
	root string
}

func (p proc) set(pid int, start uint64, cgroup string) {
	p.t.Helper()
	dir := filepath.Join(p.root, strconv.Itoa(pid))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	// The command of a process can look like the fields after it.
	stat := fmt.Sprintf("%d (py) S 1 (x) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", pid, start)
	for name, content := range map[string]string{"stat": stat, "cgroup": cgroup} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p proc) end(pid int) {
	p.t.Helper()
	if err := os.RemoveAll(filepath.Join(p.root, strconv.Itoa(pid))); err != nil {
		p.t.Fatal(err)
	}
}

const (
	podA    = "11111111-1111-1111-1111-111111111111"
	podB    = "22222222-2222-2222-2222-222222222222"
	inPodA  = "0::/kubepods/pod" + podA + "/c\n"
	inPodB  = "0::/kubepods/pod" + podB + "/c\n"
	nowhere = "0::/\n"
)

func TestAttributor(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(p proc, a *Attributor)
		want map[int]types.UID
	}{
		{
			name: "processes of two pods, of none, and one that is gone",
			do: func(p proc, _ *Attributor) {
				p.set(1, 10, inPodA)
				p.set(2, 10, inPodB)
				p.set(3, 10, nowhere)
			},
			want: map[int]types.UID{1: podA, 2: podB},
		},
		{
			name: "a zombie whose cgroup is gone is still its pod's",
			do: func(p proc, a *Attributor) {
				p.set(1, 10, inPodA)
				a.Attribute([]int{1})
				p.set(1, 10, nowhere)
			},
			want: map[int]types.UID{1: podA},
		},
		{
			name: "a process that is gone while the driver still lists it is still its pod's",
			do: func(p proc, a *Attributor) {
				p.set(1, 10, inPodA)
				a.Attribute([]int{1})
				p.end(1)
			},
			want: map[int]types.UID{1: podA},
		},
		{
			name: "a reading that missed a dying process does not lose its pod",
			do: func(p proc, a *Attributor) {
				p.set(1, 10, inPodA)
				a.Attribute([]int{1})
				p.end(1)
				a.Attribute(nil)
			},
			want: map[int]types.UID{1: podA},
		},
		{
			name: "a PID that was reused is another process",
			do: func(p proc, a *Attributor) {
				p.set(1, 10, inPodA)
				a.Attribute([]int{1})
				p.set(1, 99, nowhere)
			},
			want: map[int]types.UID{},
		},
		{
			name: "a PID that was reused by another pod",
			do: func(p proc, a *Attributor) {
				p.set(1, 10, inPodA)
				a.Attribute([]int{1})
				p.end(1)
				a.Attribute([]int{1})
				p.set(1, 99, inPodB)
			},
			want: map[int]types.UID{1: podB},
		},
		{
			name: "a process that is moved into its pod's cgroup after it was first seen",
			do: func(p proc, a *Attributor) {
				p.set(1, 10, nowhere)
				a.Attribute([]int{1})
				p.set(1, 10, inPodA)
			},
			want: map[int]types.UID{1: podA},
		},
		{
			name: "a process that is long gone is forgotten",
			do: func(p proc, a *Attributor) {
				p.set(1, 10, inPodA)
				a.Attribute([]int{1})
				p.end(1)
				for range rememberFor + 1 {
					a.Attribute(nil)
				}
			},
			want: map[int]types.UID{},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := proc{t, t.TempDir()}
			a := NewAttributor(p.root)
			tc.do(p, a)
			if diff := cmp.Diff(tc.want, a.Attribute([]int{1, 2, 3, 4})); diff != "" {
				t.Errorf("pods (-want +got):\n%s", diff)
			}
		})
	}
}

func TestProcessesAreRememberedForTheNextAttributor(t *testing.T) {
	p := proc{t, t.TempDir()}
	boot := filepath.Join(p.root, "sys/kernel/random")
	if err := os.MkdirAll(boot, 0o755); err != nil {
		t.Fatal(err)
	}
	setBoot := func(id string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(boot, "boot_id"), []byte(id+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	setBoot("boot-1")
	file := filepath.Join(t.TempDir(), "processes.json")
	next := func() map[int]types.UID {
		t.Helper()
		a := NewAttributor(p.root)
		if err := a.Remember(file); err != nil {
			t.Fatal(err)
		}
		return a.Attribute([]int{1, 2})
	}
	p.set(1, 10, inPodA)
	p.set(2, 10, inPodB)
	want := map[int]types.UID{1: podA, 2: podB}
	if diff := cmp.Diff(want, next()); diff != "" {
		t.Fatalf("at first (-want +got):\n%s", diff)
	}
	p.set(1, 10, nowhere)
	p.end(2)
	if diff := cmp.Diff(want, next()); diff != "" {
		t.Errorf("dying processes, after a restart of the agent (-want +got):\n%s", diff)
	}
	setBoot("boot-2")
	if diff := cmp.Diff(map[int]types.UID{}, next()); diff != "" {
		t.Errorf("after a reboot (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := NewAttributor(p.root).Remember(file); err == nil {
		t.Error("a broken file is no error")
	}
}

func TestAttributorReadsTheRealProc(t *testing.T) {
	a := NewAttributor("/proc")
	if _, err := a.startOf(os.Getpid()); err != nil {
		t.Errorf("start of this process: %v", err)
	}
}
