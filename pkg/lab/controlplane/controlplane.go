// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// stopTimeout bounds how long Stop waits for each part: an apiserver waits up to a minute for requests in flight.
const stopTimeout = 10 * time.Second

// startTimeout bounds how long a start that nobody wants any more goes on; see Start.
const startTimeout = 15 * time.Second

// Options are what can be chosen about a control plane; the zero value is fine.
type Options struct {
	// Dir is the folder for certificates, data, sockets and logs. When empty, a temporary one is made, and removed
	// by Stop.
	Dir string
	// LogFile is where klog and etcd messages of this process go; control-plane.log in Dir when empty.
	LogFile string
	// Controllers are the names of the kube-controller-manager's controllers to run, of DefaultControllers; all of these
	// when nil, none when empty.
	Controllers []string
	// KubeAPIServer is the program to run as kube-apiserver, of any version, in a process of its own; when empty, the
	// one that is linked in serves.
	KubeAPIServer string
	// APIServerArgs are further flags of kube-apiserver; they win over those that Start sets.
	APIServerArgs []string
}

// ControlPlane is a running control plane. Its methods can be used from several goroutines.
type ControlPlane struct {
	dir     string
	ownsDir bool
	// external says that the apiserver is a program of its own.
	external bool
	config   *rest.Config
	client   kubernetes.Interface
	done     chan struct{}

	stopOnce sync.Once
	stopErr  error
	// parts are what Stop ends, in the order in which they were started.
	parts []*part
}

// part is one piece of the control plane that runs until its cancel is called.
type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

var started atomic.Bool

// Start brings up a control plane and returns when the apiserver is ready and its default namespace exists. The
// control plane runs until Stop, also when ctx, which bounds only the start, is cancelled later. It fails when this
// process has started one before.
func Start(ctx context.Context, opts Options) (_ *ControlPlane, err error) {
	if started.Swap(true) {
		return nil, errors.New("a process can start only one control plane: kube-apiserver keeps global state")
	}
	cp := &ControlPlane{dir: opts.Dir, external: opts.KubeAPIServer != "", done: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, cp.Stop())
		}
	}()
	if cp.dir == "" {
		if cp.dir, err = os.MkdirTemp("", "berth-lab-"); err != nil {
			return nil, err
		}
		cp.ownsDir = true
	}
	logFile := opts.LogFile
	if logFile == "" {
		logFile = filepath.Join(cp.dir, "control-plane.log")
	}
	if err := redirectLogs(logFile); err != nil {
		return nil, err
	}
	keys, err := writePKI(filepath.Join(cp.dir, "pki"))
	if err != nil {
		return nil, fmt.Errorf("make certificates: %w", err)
	}
	etcd, err := startEtcd(ctx, filepath.Join(cp.dir, "etcd"), logFile)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	cp.parts = append(cp.parts, etcd.part)
	start := startAPIServer
	if opts.KubeAPIServer != "" {
		start = externalAPIServer(opts.KubeAPIServer, filepath.Join(filepath.Dir(logFile), "kube-apiserver.log"))
	}
	apiserver, port, err := start(keys, etcd.endpoint, opts.APIServerArgs)
	if err != nil {
		return nil, fmt.Errorf("start kube-apiserver: %w", err)
	}
	cp.parts = append(cp.parts, apiserver)
	cp.config = keys.adminConfig(port)
	if cp.client, err = kubernetes.NewForConfig(cp.config); err != nil {
		return nil, err
	}
	if err := waitReady(ctx, cp.client, apiserver); err != nil {
		// An apiserver that is stopped while it starts ends the process: its start hooks fail, which is fatal to it.
		settling, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		_ = waitReady(settling, cp.client, apiserver) // the error that matters is the first
		return nil, fmt.Errorf("wait for kube-apiserver: %w", err)
	}
	controllers := opts.Controllers
	if controllers == nil {
		controllers = DefaultControllers()
	}
	if len(controllers) > 0 {
		part, err := startControllers(cp, controllers)
		if err != nil {
			return nil, fmt.Errorf("start controllers: %w", err)
		}
		cp.parts = append(cp.parts, part)
	}
	go cp.watchParts()
	return cp, nil
}

// Config returns a client configuration of the administrator (group system:masters), without client-side limits.
func (cp *ControlPlane) Config() *rest.Config { return rest.CopyConfig(cp.config) }

// Done is closed when the control plane stops, be it that Stop was called or that a part of it failed.
func (cp *ControlPlane) Done() <-chan struct{} { return cp.done }

// watchParts stops everything when one part ends: half a control plane serves nobody.
func (cp *ControlPlane) watchParts() {
	ended := make(chan struct{}, len(cp.parts))
	for _, p := range cp.parts {
		go func() { <-p.done; ended <- struct{}{} }()
	}
	<-ended
	_ = cp.Stop() // kept for the caller's own Stop
}

// Stop ends the control plane and removes the folder if Start made it. Later calls return the first one's result.
func (cp *ControlPlane) Stop() error {
	cp.stopOnce.Do(func() {
		var errs []error
		for i := len(cp.parts) - 1; i >= 0; i-- {
			errs = append(errs, cp.parts[i].stop(stopTimeout))
		}
		if cp.ownsDir {
			errs = append(errs, os.RemoveAll(cp.dir))
		}
		cp.stopErr = errors.Join(errs...)
		close(cp.done)
	})
	return cp.stopErr
}

// run starts f as a part that ends when f returns.
func run(name string, f func(ctx context.Context) error) *part {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: name, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		defer cancel()
		if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) {
			p.err = fmt.Errorf("%s: %w", name, err)
		}
	}()
	return p
}

// stop ends the part and returns what it failed with; a part that needs longer than timeout is left behind.
func (p *part) stop(timeout time.Duration) error {
	p.cancel()
	select {
	case <-p.done:
		return p.err
	case <-time.After(timeout):
		return fmt.Errorf("%s did not stop within %s", p.name, timeout)
	}
}
