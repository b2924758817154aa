// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
	"github.com/berth-dev/berth/test/integration/harness"
)

// controllerLimit is the memory limit of the controller's container, in bytes.
const controllerLimit = 512 << 20

// attackTimeout bounds the first attempt at a hostile model, on a machine that has other things to do as well.
const attackTimeout = 3 * time.Minute

// limited is the real controller, which keeps to its memory limit as it does in a container of that limit. Whether the
// kernel would have killed it there is told from the most that it had in memory.
type limited struct {
	cmd    *exec.Cmd
	log    string
	exited chan error
}

func startLimited(t *testing.T, lab *harness.Lab, args ...string) *limited {
	t.Helper()
	config, err := clientcmd.LoadFromFile(lab.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range config.AuthInfos {
		user.Impersonate = "system:serviceaccount:" + berthv1alpha1.Namespace + ":berth-controller"
		user.ImpersonateGroups = []string{"system:serviceaccounts", "system:authenticated"}
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		t.Fatal(err)
	}
	c := &limited{log: filepath.Join(lab.LogDir, "controller.log"), exited: make(chan error, 1)}
	log, err := os.Create(c.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // the child has it
	c.cmd = exec.Command(harness.Program("controller"), append([]string{
		"--kubeconfig=" + kubeconfig, "--leader-elect=false", "--metrics-bind-address=0", "--health-probe-bind-address=0",
	}, args...)...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	// What cmd/controller sets where it sees the limit of its control group.
	c.cmd.Env = append(os.Environ(), "GOMEMLIMIT="+strconv.Itoa(controllerLimit-controllerLimit/7))
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.exited <- c.cmd.Wait() }()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // it may have ended
		if data, err := os.ReadFile(c.log); err == nil && t.Failed() {
			t.Logf("the controller's log:\n%s", data[max(0, len(data)-20_000):])
		}
	})
	return c
}

// check fails the test if the controller died, or had more in memory than its limit.
func (c *limited) check(t *testing.T) {
	t.Helper()
	select {
	case err := <-c.exited:
		t.Fatalf("the controller ended: %v", err)
	default:
	}
	peak := peakMemory(t, c.cmd.Process.Pid)
	t.Logf("the controller had %d MiB in memory at most", peak>>20)
	if peak > controllerLimit {
		t.Errorf("the controller had %d MiB in memory, where %d are its limit", peak>>20, controllerLimit>>20)
	}
}

// peakMemory is the most that a process had in memory, in bytes (proc(5), VmHWM: pages of files included, which the kernel
// would rather take back than kill).
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("nothing says what a process has in memory: %v", err)
	}
	defer file.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Skip("nothing says what a process had in memory at most")
	return 0
}

// silentHost accepts connections and never answers.
func silentHost(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) //nolint:errcheck // the test is over
	return "http://" + l.Addr().String()
}

// slowHost sends a byte a second, but for "/throttled/…", of which it says to come back in an hour.
func slowHost(t *testing.T, good map[string]modeltest.File) string {
	t.Helper()
	server := modeltest.NewServer(t, good)
	server.Intercept = func(w http.ResponseWriter, req *http.Request) bool {
		switch {
		case strings.HasPrefix(req.URL.Path, "/throttled/"):
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		case strings.HasPrefix(req.URL.Path, "/slow/"):
			w.Header().Set("Content-Length", "1000000")
			for range 1000 {
				if _, err := w.Write([]byte("G")); err != nil || req.Context().Err() != nil {
					break
				}
				w.(http.Flusher).Flush()
				select {
				case <-req.Context().Done():
				case <-time.After(time.Second):
				}
			}
		default:
			return false
		}
		return true
	}
	return server.URL
}

// name makes a pod of a namespace that names a model.
func name(t *testing.T, lab *harness.Lab, namespace, pod, uri string) *corev1.Pod {
	t.Helper()
	p := berthtesting.MakePod(pod).Model(uri).Runtime(berthv1alpha1.RuntimeVLLM).Obj()
	p.Namespace = namespace
	return harness.Create(t, lab, p)
}

// namespace makes a namespace in which pods can be made.
func namespace(t *testing.T, lab *harness.Lab, name string) {
	t.Helper()
	harness.Create(t, lab, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	harness.Eventually(t, "namespace "+name+" has its service account", func(ctx context.Context) (bool, string) {
		_, err := lab.Clientset.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, fmt.Sprint(err)
	})
}

// TestHostileModelsNeitherKillTheControllerNorKeepOthersWaiting is attacks 3 and 9, on the real controller.
func TestHostileModelsNeitherKillTheControllerNorKeepOthersWaiting(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-scheduler", "--no-controller")
	tiny := modeltest.Tiny.GGUF()
	good := modeltest.NewServer(t, nil)
	hosts := []string{good.URL}

	hostile := map[string]modeltest.File{}
	for folder, files := range modeltest.Hostile() {
		for file, content := range files {
			for i := range 3 {
				hostile[fmt.Sprintf("/%s-%d/%s", folder, i, file)] = content
			}
		}
	}
	tenants := []string{"mallory-0", "mallory-1", "mallory-2"}
	serves := map[string]string{}
	for _, tenant := range tenants {
		serves[tenant] = modeltest.NewServer(t, hostile).URL
		hosts = append(hosts, serves[tenant])
	}
	var silent []string
	for range 40 {
		silent = append(silent, silentHost(t))
	}
	slow := slowHost(t, map[string]modeltest.File{"/good.gguf": tiny})
	hosts = append(append(hosts, silent...), slow)

	args := []string{"--allow-cidr=127.0.0.0/8"}
	for _, host := range hosts {
		args = append(args, "--allow-host="+host)
	}
	controller := startLimited(t, lab, args...)
	for _, ns := range append([]string{"alice", "silent", "slow"}, tenants...) {
		namespace(t, lab, ns)
	}
	known := 0
	// knows waits until the model of another tenant is known, which no one asked for before.
	knows := func(meanwhile string) {
		t.Helper()
		known++
		path := fmt.Sprintf("/good-%d.gguf", known)
		good.Add(path, tiny)
		began := time.Now()
		name(t, lab, "alice", fmt.Sprintf("good-%d", known), good.URL+path)
		waitProfile(t, lab, profileOf(good.URL+path))
		t.Logf("meanwhile %s: another model is known after %s", meanwhile, time.Since(began).Round(time.Millisecond))
		controller.check(t)
	}
	knows("nothing")

	var attacks []*berthv1alpha1.ModelProfile
	for _, tenant := range tenants {
		for folder := range modeltest.Hostile() {
			for i := range 2 {
				uri := fmt.Sprintf("%s/%s-%d/config.json", serves[tenant], folder, i)
				name(t, lab, tenant, fmt.Sprintf("%s-%d", folder, i), uri)
				attacks = append(attacks, profileOf(uri))
			}
		}
	}
	for range 5 {
		knows("hostile files")
	}
	for _, p := range attacks {
		err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, attackTimeout, true, func(ctx context.Context) (bool, error) {
			err := lab.Client.Get(ctx, client.ObjectKeyFromObject(p), p)
			c := p.ReadyCondition()
			return err == nil && c != nil && c.Reason != berthv1alpha1.ProfileResolving && p.Status.UnfinishedAttempts == 0, client.IgnoreNotFound(err)
		})
		if err != nil {
			t.Fatalf("no attempt at %s ended: %v, %+v", p.Spec.Source, err, p.Status.Conditions)
		}
	}
	controller.check(t)

	for i := range 40 {
		name(t, lab, "silent", fmt.Sprintf("one-%d", i), fmt.Sprintf("%s/%d.gguf", silent[0], i))
		name(t, lab, "silent", fmt.Sprintf("each-%d", i), silent[i]+"/x.gguf")
		name(t, lab, "slow", fmt.Sprintf("slow-%d", i), fmt.Sprintf("%s/slow/%d.gguf", slow, i))
	}
	knows("silent and slow hosts")
	throttled := fmt.Sprintf("%s/throttled/x.gguf", slow)
	waitEvent(t, lab, name(t, lab, "alice", "throttled", throttled), "ModelUnknown", "asks to come back later")
	name(t, lab, "alice", "same-host", slow+"/good.gguf")
	waitProfile(t, lab, profileOf(slow+"/good.gguf"))
	knows("silent, slow and throttling hosts")
}

func profileOf(uri string) *berthv1alpha1.ModelProfile {
	p := &berthv1alpha1.ModelProfile{}
	p.Name = berthv1alpha1.ModelProfileName(uri)
	return p
}
