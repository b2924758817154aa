// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTargets(t *testing.T) {
	targets := newTargets()
	targets.address = "127.0.0.1:1"
	targets.setProgram(schedulerAccount, "https", schedulerPortFlag, []string{"--v=2", "--secure-port=10", "--secure-port=11"})
	targets.setProgram(schedulerAccount, "https", schedulerPortFlag, []string{"--secure-port=11", "--secure-port=12"})
	targets.setProgram(controllerAccount, "http", controllerAddressFlag, []string{"--metrics-bind-address=127.0.0.2:20"})
	targets.setOther("kube-state-metrics", "127.0.0.3:30")
	for _, node := range []string{"gpu-1", "gpu-0"} {
		targets.agents[node] = http.NotFoundHandler()
	}
	agent := func(node string) targetGroup {
		return targetGroup{[]string{"127.0.0.1:1"}, map[string]string{
			"job": "berth-agent", "node": node, "__scheme__": "http", "__metrics_path__": "/metrics/agents/" + node,
		}}
	}
	want := []targetGroup{
		agent("gpu-0"), agent("gpu-1"),
		{[]string{"127.0.0.2:20"}, map[string]string{"job": "berth-controller", "__scheme__": "http"}},
		{[]string{"127.0.0.1:12"}, map[string]string{"job": "berth-scheduler", "__scheme__": "https"}},
		{[]string{"127.0.0.3:30"}, map[string]string{"job": "kube-state-metrics", "__scheme__": "http"}},
	}
	if diff := cmp.Diff(want, targets.all()); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	targets.setProgram(controllerAccount, "http", controllerAddressFlag, []string{"--metrics-bind-address=0"})
	if diff := cmp.Diff(append(want[:2:2], want[3:]...), targets.all()); diff != "" {
		t.Errorf("targets without a port of the controller (-want +got):\n%s", diff)
	}
}

func TestAddressOfPrometheusIsAnotherOnlyIfItIsTaken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	got, taken, err := freeAddress(address)
	if host, _, _ := net.SplitHostPort(got); err != nil || !taken || got == address || host != "127.0.0.1" {
		t.Errorf("while it is taken: %s, %t, %v", got, taken, err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if got, taken, err := freeAddress(address); err != nil || taken || got != address {
		t.Errorf("while it is free: %s, %t, %v, want %s", got, taken, err, address)
	}
	if _, _, err := freeAddress("192.0.2.1:9090"); err == nil {
		t.Error("an address of another machine is accepted")
	}
}
