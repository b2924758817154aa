// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/cli/snapshotfile"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/simulator"
)

// BenchmarkOfAFile asks, from the reading of a file to the answer, about a pod in a cluster of 500 nodes of 8 GPUs, each of
// which a pod has. It tells the CPU time of an answer, which other work on the machine does not change by much.
func BenchmarkOfAFile(b *testing.B) {
	now := time.Now()
	s := &simulator.Snapshot{Time: now, Objects: []runtime.Object{&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "nvidia"}, Handler: "nvidia"}}}
	for i := range 500 {
		name := fmt.Sprintf("n%03d", i)
		gn := bt.MakeGPUNode(name)
		for gpu := range 8 {
			pod, at := fmt.Sprintf("%s-%d", name, gpu), now.Add(-time.Hour)
			gn.GPU("GPU-"+pod, "80Gi").Active(bt.MakePod(pod).Obj().UID, "60Gi")
			s.Objects = append(s.Objects, bt.MakePod(pod).Memory("60Gi").Bound(name, at, "GPU-"+pod+"=60Gi").Started(at).Ready(at).Obj())
		}
		report := gn.Obj()
		s.Objects = append(s.Objects, bt.MakeNode(name), &gpunode.Object{ObjectMeta: report.ObjectMeta, Status: &report.Status})
	}
	s.Objects = append(s.Objects, bt.MakePod("waits").Memory("70Gi").Obj())
	file := filepath.Join(b.TempDir(), "cluster.json.gz")
	if err := snapshotfile.Write(file, s, snapshotfile.Replace{}); err != nil {
		b.Fatal(err)
	}
	for _, bb := range []struct {
		name, stdin, want string
		args              []string
	}{
		{name: "explain", args: []string{"explain", "pod/waits"}, want: "default/waits waits"},
		{name: "what-if", args: []string{"what-if", "-f", "-", "--priority", "7"}, stdin: manifest("1", "70Gi"), want: "1 pod evicted"},
		{name: "drain", args: []string{"what-if", "--drain", "n000", "--add-node", "h100-80x8=2"}, want: "8 of 8 pods would be placed"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			before := cpuTime(b)
			for b.Loop() {
				var out bytes.Buffer
				command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(bb.stdin), Out: &out, ErrOut: &out})
				command.SetArgs(append(bb.args, "--from", file))
				if err := command.ExecuteContext(b.Context()); err != nil || !strings.Contains(out.String(), bb.want) {
					b.Fatalf("%v\n%s", err, out.String())
				}
			}
			b.ReportMetric((cpuTime(b)-before).Seconds()/float64(b.N), "CPU-s/op")
		})
	}
}

// cpuTime is what this process has used of any processor.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
