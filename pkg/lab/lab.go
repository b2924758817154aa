// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/berth-dev/berth/pkg/lab/child"
	"github.com/berth-dev/berth/pkg/lab/controlplane"
	"github.com/berth-dev/berth/pkg/lab/install"
	"github.com/berth-dev/berth/pkg/lab/kwok"
)

// runtimeClass is what GPU pods run with.
const runtimeClass = "nvidia"

// Options are what can be chosen about a lab.
type Options struct {
	// Objects are those of Berth's manifests, and SchedulerConfig is the KubeSchedulerConfiguration among them.
	Objects         []*unstructured.Unstructured
	SchedulerConfig []byte
	// Kubeconfig is the file for the administrator's credentials; one in the lab's folder when empty. It is written
	// when the lab is ready and removed when it stops.
	Kubeconfig string
	// Scheduler and Controller are the programs to run, each with the arguments that come first; empty for none.
	Scheduler, Controller []string
	// SchedulerArgs and ControllerArgs are further arguments of theirs, which win over the lab's own.
	SchedulerArgs, ControllerArgs []string
	// KubeAPIServer is the program to run as kube-apiserver instead of the one that is linked in, and APIServerArgs
	// are further arguments of either.
	KubeAPIServer string
	APIServerArgs []string
	// Nodes are the simulated nodes; their annotations say which GPUs they have (see package gpusim). Bare labs
	// have none.
	Nodes []*corev1.Node
	// Bare leaves Node and GPUNode objects to the caller: no agents run, and no report ever counts as stale.
	Bare bool
	// GPUMemoryResource has nodes advertise their GPU memory as the resource berth.dev/gpu-memory, as does the scheduler's
	// argument gpuMemoryResource. The policies for it are among Objects then.
	GPUMemoryResource bool
	// Monitoring is the Prometheus to run beside the lab; nil for none.
	Monitoring *Monitoring
	// LogDir is where logs go and stay; in the lab's folder, with which they go, when empty.
	LogDir string
	// Progress gets messages for people; nil for none.
	Progress io.Writer
}

// Lab is a running lab.
type Lab struct {
	opts  Options
	begin time.Time
	// dir is the lab's folder, and logDir is where the logs are.
	dir, logDir string
	logs        []*os.File

	cp     *controlplane.ControlPlane
	config *rest.Config
	client kubernetes.Interface
	// handOff says that the policies which write the hand-off into pods are installed.
	handOff bool
	// installed is when the last manifest was applied.
	installed time.Time

	// ctx is cancelled to end what runs beside the control plane, which is counted by running.
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	failed  chan error

	children []*child.Process
	// targets are what Prometheus scrapes.
	targets *targets
	// fleet is the simulated nodes; nil on a bare lab.
	fleet *fleet

	stopOnce sync.Once
	stopErr  error
}

// Up brings up a lab and returns when it is ready. ctx bounds the start alone; the lab runs until Stop.
func Up(ctx context.Context, opts Options) (_ *Lab, err error) {
	if opts.Progress == nil {
		opts.Progress = io.Discard
	}
	if err := checkKubeconfig(opts.Kubeconfig); err != nil {
		return nil, err
	}
	l := &Lab{opts: opts, begin: time.Now(), failed: make(chan error, 1), targets: newTargets()}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Stop())
		}
	}()
	for _, step := range []func(context.Context) error{
		l.makeFolders, l.startControlPlane, l.startKWOK, l.install, l.serveTargets, l.startScheduler, l.startController, l.startNodes,
		l.waitReady, l.startPrometheus,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	if err := controlplane.WriteKubeconfig(l.Kubeconfig(), l.config); err != nil {
		return nil, err
	}
	l.progress("ready")
	return l, nil
}

// Kubeconfig is the file with the administrator's credentials.
func (l *Lab) Kubeconfig() string {
	if l.opts.Kubeconfig != "" {
		return l.opts.Kubeconfig
	}
	return filepath.Join(l.dir, "admin.kubeconfig")
}

// Failed delivers an error when the lab cannot go on.
func (l *Lab) Failed() <-chan error { return l.failed }

// Stop ends everything that the lab has started and removes what it has written, but for logs in a folder of the
// caller's. Later calls return the first one's result.
func (l *Lab) Stop() error {
	l.stopOnce.Do(func() {
		l.progress("stopping")
		l.cancel()
		l.running.Wait()
		var errs []error
		if l.cp != nil {
			errs = append(errs, l.cp.Stop())
		}
		for _, file := range l.logs {
			errs = append(errs, file.Close())
		}
		if l.opts.Kubeconfig != "" {
			if err := os.Remove(l.opts.Kubeconfig); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		if l.dir != "" {
			errs = append(errs, os.RemoveAll(l.dir))
		}
		l.stopErr = errors.Join(errs...)
	})
	return l.stopErr
}

func (l *Lab) makeFolders(context.Context) (err error) {
	if l.dir, err = os.MkdirTemp("", "berth-lab-"); err != nil {
		return err
	}
	l.logDir = l.opts.LogDir
	if l.logDir == "" {
		l.logDir = l.dir
	}
	return os.MkdirAll(l.logDir, 0o755)
}

func (l *Lab) startControlPlane(ctx context.Context) (err error) {
	l.cp, err = controlplane.Start(ctx, controlplane.Options{
		Dir: l.dir, LogFile: filepath.Join(l.logDir, "control-plane.log"),
		KubeAPIServer: l.opts.KubeAPIServer, APIServerArgs: l.opts.APIServerArgs,
	})
	if err != nil {
		return err
	}
	go func() {
		<-l.cp.Done()
		l.fail(fmt.Errorf("control plane ended: %w", l.cp.Stop()))
	}()
	l.config = l.cp.Config()
	if l.client, err = kubernetes.NewForConfig(l.config); err != nil {
		return err
	}
	version, err := l.client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	l.progress("control plane is up, kube-apiserver %s", version.GitVersion)
	return nil
}

func (l *Lab) startKWOK(context.Context) error {
	log, err := l.openLog("kwok")
	if err != nil {
		return err
	}
	if err := kwok.Start(l.ctx, l.config, log); err != nil {
		return fmt.Errorf("start KWOK: %w", err)
	}
	return nil
}

func (l *Lab) install(ctx context.Context) error {
	objects, err := install.Select(l.opts.Objects)
	if err != nil {
		return fmt.Errorf("manifests: %w", err)
	}
	objects, left, err := install.Fit(l.client.Discovery(), objects)
	if err != nil {
		return err
	}
	l.handOff = len(left) == 0
	if len(left) > 0 {
		l.progress("left out, because the apiserver does not serve them: %s; "+
			"pods have to bring the lines of the hand-off themselves", strings.Join(left, ", "))
	}
	client, err := dynamic.NewForConfig(l.config)
	if err != nil {
		return err
	}
	if err := install.Apply(ctx, client, objects); err != nil {
		return err
	}
	// On a real cluster the GPU operator makes this RuntimeClass, which pods with GPUs get at admission.
	nvidia := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: runtimeClass}, Handler: runtimeClass}
	if _, err := l.client.NodeV1().RuntimeClasses().Create(ctx, nvidia, metav1.CreateOptions{}); err != nil {
		return err
	}
	l.installed = time.Now()
	l.progress("%d objects of the manifests are applied", len(objects))
	return nil
}

// openLog opens a log of the lab, which Stop closes.
func (l *Lab) openLog(name string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(l.logDir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	l.logs = append(l.logs, file)
	return file, nil
}

// fail reports the first reason why the lab cannot go on.
func (l *Lab) fail(err error) {
	select {
	case l.failed <- err:
	default:
	}
}

func (l *Lab) progress(format string, args ...any) {
	fmt.Fprintf(l.opts.Progress, "%5.1fs  %s\n", time.Since(l.begin).Seconds(), fmt.Sprintf(format, args...))
}
