// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	// readyTimeout bounds the start of a lab, on a machine that has other things to do as well.
	readyTimeout = 3 * time.Minute
	stopTimeout  = 30 * time.Second
	readyPrefix  = "ready: KUBECONFIG="
)

// Lab is a running lab.
type Lab struct {
	// Kubeconfig is the administrator's, and Config the same.
	Kubeconfig string
	Config     *rest.Config
	// Client reads and writes any object as the administrator, Berth's too.
	Client client.Client
	// Clientset is for what Client cannot do, such as Bindings.
	Clientset kubernetes.Interface
	// LogDir is the folder of the logs; they are printed if the test fails.
	LogDir string

	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr lockedBuffer
	exited chan error
}

// Start runs "berth-lab up" with further arguments and waits until it is ready. The lab stops when the test ends, and
// the test fails if it does not stop as it should. With -short, the test is skipped.
func Start(t testing.TB, args ...string) *Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a lab")
	}
	dir := t.TempDir()
	l := &Lab{
		Kubeconfig: filepath.Join(dir, "kubeconfig"), LogDir: filepath.Join(dir, "logs"), exited: make(chan error, 1),
	}
	up := []string{"up", "--kubeconfig", l.Kubeconfig, "--log-dir", l.LogDir}
	if program := os.Getenv(EnvKubeAPIServer); program != "" {
		up = append(up, "--kube-apiserver="+program)
	}
	for _, arg := range strings.Fields(os.Getenv(EnvAPIServerArgs)) {
		up = append(up, "--apiserver-arg="+arg)
	}
	l.cmd = exec.Command(filepath.Join(binDir, "berth-lab"), append(up, args...)...)
	l.cmd.Stderr = &l.stderr
	// A test that is killed takes its labs with it.
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	stdout, err := l.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.stop(t) })
	l.waitReady(t, stdout)

	if l.Config, err = clientcmd.BuildConfigFromFlags("", l.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	l.Config.QPS = -1
	if l.Clientset, err = kubernetes.NewForConfig(l.Config); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, berthv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	if l.Client, err = client.New(l.Config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	return l
}

// waitReady reads the one line that a lab prints, and keeps reading: more would be a mistake.
func (l *Lab) waitReady(t testing.TB, stdout io.Reader) {
	t.Helper()
	lines := make(chan string, 1)
	go func() {
		reader := bufio.NewReader(stdout)
		line, _ := reader.ReadString('\n') // an early end shows as a line that is not the expected one
		lines <- strings.TrimSpace(line)
		_, _ = io.Copy(&l.stdout, reader) // ends when the lab does
		l.exited <- l.cmd.Wait()
	}()
	select {
	case line := <-lines:
		if line != readyPrefix+l.Kubeconfig {
			t.Fatalf("the lab printed %q, want %q\n%s", line, readyPrefix+l.Kubeconfig, l.stderr.String())
		}
	case <-time.After(readyTimeout):
		t.Fatalf("the lab is not ready after %s\n%s", readyTimeout, l.stderr.String())
	}
}

// stop interrupts the lab and checks that it ends well and leaves nothing behind.
func (l *Lab) stop(t testing.TB) {
	_ = l.cmd.Process.Signal(syscall.SIGINT) // it may have ended already, which shows below
	select {
	case err := <-l.exited:
		if err != nil {
			t.Errorf("the lab ended with %v\n%s", err, l.stderr.String())
		}
		if l.stdout.Len() > 0 {
			t.Errorf("the lab printed more than one line on stdout: %q", l.stdout.String())
		}
		if _, err := os.Stat(l.Kubeconfig); !os.IsNotExist(err) {
			t.Errorf("the lab left its kubeconfig behind: %v", err)
		}
	case <-time.After(stopTimeout):
		_ = l.cmd.Process.Kill() // the test fails in any case
		t.Errorf("the lab did not stop within %s\n%s", stopTimeout, l.stderr.String())
	}
	if t.Failed() {
		l.printLogs(t)
	}
}

// printLogs prints the end of each log.
func (l *Lab) printLogs(t testing.TB) {
	const lines = 40
	files, err := filepath.Glob(filepath.Join(l.LogDir, "*.log"))
	if err != nil {
		t.Error(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		all := strings.Split(strings.TrimSpace(string(text)), "\n")
		t.Logf("%s, the last lines:\n%s", filepath.Base(file), strings.Join(all[max(0, len(all)-lines):], "\n"))
	}
}

// Child returns the process of the lab's scheduler or controller, to be killed.
func (l *Lab) Child(t testing.TB, name string) int {
	t.Helper()
	var pid int
	Eventually(t, name+" runs", func(context.Context) (bool, string) {
		stats, err := filepath.Glob("/proc/[0-9]*/stat")
		if err != nil {
			t.Fatal(err)
		}
		for _, stat := range stats {
			text, err := os.ReadFile(stat)
			if err != nil {
				continue // it has ended
			}
			// proc(5): pid (comm) state ppid
			var id, parent int
			var comm, state string
			if _, err := fmt.Sscan(string(text), &id, &comm, &state, &parent); err != nil {
				continue // a name with a space in it is not ours
			}
			if parent == l.cmd.Process.Pid && comm == "("+name+")" {
				pid = id
			}
		}
		return pid != 0, ""
	})
	return pid
}

// lockedBuffer can be read while a process writes into it.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
