// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/pkg/agent/cgroup"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	// cgroupHome is outside of the kubelet's own cgroups: it removes those of pods that it does not know.
	cgroupHome = "berth-hardware"
	madeUpPod  = "0b5a7c1e-0000-4000-8000-00000000be27"
)

// checkAttribution puts a process into a cgroup such as a kubelet and containerd make for a pod, and looks whether the
// agent takes it for that pod's.
func (s *session) checkAttribution(ctx context.Context, uuid string, pid int) {
	f := finding{Name: "attribution to a pod", Device: uuid}
	leave, err := joinPod(pid)
	if err != nil {
		s.skip(f, "no cgroup can be made for a pod that is made up: "+err.Error())
		return
	}
	defer leave()
	d, err := s.device(ctx, uuid)
	if err != nil {
		s.finish(f, err.Error())
		return
	}
	pids := make([]int, 0, len(d.Processes))
	for _, p := range d.Processes {
		pids = append(pids, p.PID)
	}
	pods := cgroup.NewAttributor("/proc").Attribute(pids)
	var wrong []string
	if string(pods[pid]) != madeUpPod {
		wrong = append(wrong, fmt.Sprintf("process %d is of pod %q, want %s", pid, pods[pid], madeUpPod))
	}
	for other, uid := range pods {
		if other != pid && string(uid) == madeUpPod {
			wrong = append(wrong, fmt.Sprintf("process %d is not of that pod", other))
		}
	}
	s.finish(f, wrong...)
}

// joinPod moves a process into the cgroup of a made-up pod, and returns what moves it back and removes the cgroup.
func joinPod(pid int) (leave func(), err error) {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err != nil {
		return nil, errors.New("there is no cgroup v2 at " + cgroupRoot)
	}
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, err
	}
	_, back, ok := strings.Cut(strings.TrimSpace(string(own)), "0::")
	if !ok {
		return nil, errors.New("the process is in no cgroup v2")
	}
	home := filepath.Join(cgroupRoot, cgroupHome)
	pod := filepath.Join(home, "kubepods-pod"+strings.ReplaceAll(madeUpPod, "-", "_")+".slice")
	container := filepath.Join(pod, "cri-containerd-0123456789ab.scope")
	remove := func() {
		for _, dir := range []string{container, pod, home} {
			_ = os.Remove(dir) // a cgroup that is not empty stays
		}
	}
	if err := os.MkdirAll(container, 0o755); err != nil {
		remove()
		return nil, err
	}
	move := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
	}
	if err := move(container); err != nil {
		remove()
		return nil, err
	}
	return func() {
		_ = move(filepath.Join(cgroupRoot, back)) // if it cannot go back, it is soon killed
		remove()
	}, nil
}
