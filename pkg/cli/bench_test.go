// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/cli/snapshotfile"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/simulator"
	"github.com/berth-dev/berth/pkg/ui"
)

// BenchmarkOfAFile asks, from the reading of a file to the answer, about a pod in a cluster of 500 nodes of 8 GPUs, each of
// which a pod has. It tells the CPU time of an answer, which other work on the machine does not change by much.
func BenchmarkOfAFile(b *testing.B) {
	file := largeFile(b)
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

// largeFile returns a file with a cluster of 500 nodes of 8 GPUs, each of which a pod has, and one that waits.
func largeFile(b *testing.B) string {
	b.Helper()
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
	return file
}

// BenchmarkPage answers each view of the page about that cluster, once for each revision, and tells how large the answer is, and
// how large it is as it is sent.
func BenchmarkPage(b *testing.B) {
	file := largeFile(b)
	for _, path := range []string{
		"/api/v1/map", "/api/v1/usage?by=namespace", "/api/v1/history", "/api/v1/models", "/api/v1/what-if", "/api/v1/pods/default/waits/explain",
	} {
		b.Run(strings.Trim(strings.NewReplacer("/api/v1/", "", "/", "-").Replace(path), "-"), func(b *testing.B) {
			world, err := ui.OfFile(file, "default")
			if err != nil {
				b.Fatal(err)
			}
			before, plain, sent := cpuTime(b), 0, 0
			for b.Loop() { // each time a new server, which has no answers yet
				server, err := ui.NewServer(world, fstest.MapFS{}, "t", "127.0.0.1:1")
				if err != nil {
					b.Fatal(err)
				}
				request := httptest.NewRequestWithContext(b.Context(), http.MethodGet, path, nil)
				request.Host = "127.0.0.1:1"
				request.Header.Set("Authorization", "Bearer t")
				request.Header.Set("Accept-Encoding", "gzip")
				response := httptest.NewRecorder()
				server.ServeHTTP(response, request)
				if response.Code != http.StatusOK {
					b.Fatal(response.Code)
				}
				sent = response.Body.Len()
				zipped, err := gzip.NewReader(response.Body)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, zipped)
				if err != nil {
					b.Fatal(err)
				}
				plain = int(n)
			}
			b.ReportMetric((cpuTime(b)-before).Seconds()/float64(b.N), "CPU-s/op")
			b.ReportMetric(float64(plain)/1e6, "MB")
			b.ReportMetric(float64(sent)/1e3, "kB-sent")
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
