// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/test/integration/harness"
)

// endTimeout is how long a scheduler may take to end by itself.
const endTimeout = time.Minute

// apiProxy stands between a scheduler and a lab's apiserver.
type apiProxy struct{ *httptest.Server }

// newAPIProxy starts a proxy that hands every request to handle, together with what forwards it.
func newAPIProxy(t *testing.T, lab *harness.Lab, handle func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc)) *apiProxy {
	t.Helper()
	target, err := url.Parse(lab.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	ca := lab.Config.CAData
	if len(ca) == 0 {
		if ca, err = os.ReadFile(lab.Config.CAFile); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	reverse := httputil.NewSingleHostReverseProxy(target)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	reverse.Transport = transport
	reverse.FlushInterval = -1
	p := &apiProxy{httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handle(w, r, reverse.ServeHTTP)
	}))}
	t.Cleanup(func() {
		// The apiserver waits for requests under way when it stops.
		p.CloseClientConnections()
		p.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// forwardAll is for a proxy that changes nothing.
func forwardAll(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) { forward(w, r) }

// schedulerProcess is a scheduler that a test runs itself: through a proxy, or with other arguments than a lab's.
type schedulerProcess struct {
	t    *testing.T
	args []string
	log  *os.File
	cmd  *exec.Cmd
}

// schedulerOptions is how a scheduler of a test differs from others.
type schedulerOptions struct {
	// name is that of its log.
	name string
	// election is its leaderElection.
	election string
	// before are other plugins before Berth: entries of a YAML list, each with a comma after it.
	before string
	// args are Berth's arguments, and flags further ones of the process.
	args  string
	flags []string
}

// alone is a scheduler without leader election.
func alone(args string, flags ...string) schedulerOptions {
	return schedulerOptions{name: "scheduler", election: "{leaderElect: false}", args: args, flags: flags}
}

// runScheduler runs a scheduler without leader election, under its own account, through a proxy of the lab's apiserver,
// until the test ends.
func runScheduler(t *testing.T, lab *harness.Lab, proxy *apiProxy, args string, flags ...string) *schedulerProcess {
	t.Helper()
	return runThrough(t, lab, proxy, alone(args, flags...))
}

// runSchedulerBeside runs such a scheduler with other plugins before Berth.
func runSchedulerBeside(t *testing.T, lab *harness.Lab, proxy *apiProxy, before, args string) *schedulerProcess {
	t.Helper()
	o := alone(args)
	o.before = before
	return runThrough(t, lab, proxy, o)
}

func runThrough(t *testing.T, lab *harness.Lab, proxy *apiProxy, o schedulerOptions) *schedulerProcess {
	t.Helper()
	return runSchedulerOn(t, lab, proxy.cluster(), o)
}

// cluster is the lab as it is seen through the proxy.
func (p *apiProxy) cluster() *clientcmdapi.Cluster {
	return &clientcmdapi.Cluster{
		Server:                   p.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}),
	}
}

// runElected runs one of several schedulers of a lab, which elect a leader. name is that of its log.
func runElected(t *testing.T, lab *harness.Lab, name, election, args string) *schedulerProcess {
	t.Helper()
	cluster := &clientcmdapi.Cluster{
		Server: lab.Config.Host, CertificateAuthorityData: lab.Config.CAData, CertificateAuthority: lab.Config.CAFile,
	}
	return runSchedulerOn(t, lab, cluster, schedulerOptions{name: name, election: election, args: args})
}

func runSchedulerOn(t *testing.T, lab *harness.Lab, cluster *clientcmdapi.Cluster, o schedulerOptions) *schedulerProcess {
	t.Helper()
	seconds := int64(3600)
	token, err := lab.Clientset.CoreV1().ServiceAccounts(berthv1alpha1.Namespace).CreateToken(t.Context(), "berth-scheduler",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = cluster
	config.AuthInfos["scheduler"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "scheduler"}
	config.CurrentContext = "lab"
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		t.Fatal(err)
	}
	scheduler := fmt.Sprintf(`apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {kubeconfig: %q, qps: 500, burst: 500}
leaderElection: %s
profiles:
- schedulerName: berth
  plugins:
    multiPoint: {enabled: [%s{name: Berth, weight: 1501}], disabled: [{name: DefaultPreemption}]}
    bind: {enabled: [{name: Berth}]}
  pluginConfig: [{name: Berth, args: %s}]
`, kubeconfig, o.election, o.before, o.args)
	file := filepath.Join(dir, "scheduler.yaml")
	if err := os.WriteFile(file, []byte(scheduler), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(lab.LogDir, o.name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	p := &schedulerProcess{t: t, log: log, args: append([]string{
		"--config=" + file, "--secure-port=0", "--v=2",
		"--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
	}, o.flags...)}
	p.start()
	t.Cleanup(func() {
		p.kill()
		_ = log.Close()
	})
	return p
}

func (p *schedulerProcess) start() {
	p.t.Helper()
	p.cmd = exec.Command(harness.Program("scheduler"), p.args...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the process without warning, and waits until it is gone.
func (p *schedulerProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
}

// waitEnd waits until the process ends by itself, with an error, and returns what it has logged.
func (p *schedulerProcess) waitEnd() string {
	p.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			p.t.Error("the scheduler ended without an error")
		}
	case <-time.After(endTimeout):
		p.t.Errorf("the scheduler did not end within %s", endTimeout)
		_ = p.cmd.Process.Kill() // the test fails in any case
		<-ended
	}
	return p.logged()
}

// logged returns what the process has logged so far.
func (p *schedulerProcess) logged() string {
	p.t.Helper()
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}
