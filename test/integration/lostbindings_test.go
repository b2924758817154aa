// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
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
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestLostBindings puts a proxy between scheduler and apiserver that loses the answers of Bindings, after they were
// applied, before, or delivers them late: no GPU is overbooked, and every pod is placed once.
func TestLostBindings(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller", "--no-scheduler")
	for i := range 4 {
		name := fmt.Sprintf("n%d", i)
		lab.AddNode(t, berthtesting.MakeNode(name), berthtesting.MakeGPUNodeOf(name, 4, "80Gi").Obj())
	}
	proxy := newLossyProxy(t, lab)
	runScheduler(t, lab, proxy.Server)

	const pods = 40 // of 39Gi each, on 4 × 4 GPUs with room for two
	for i := range pods {
		pod := berthtesting.MakePod(fmt.Sprintf("p%d", i)).Memory("39Gi")
		if i >= 28 {
			pod.Memory("9Gi")
		}
		harness.Create(t, lab, pod.Obj())
	}
	for i := range pods {
		lab.WaitBound(t, berthtesting.MakePod(fmt.Sprintf("p%d", i)).Obj())
		checkBooks(t, lab)
	}
	if proxy.lost.Load() == 0 {
		t.Error("the proxy lost no Binding, so nothing was tested")
	}
}

type lossyProxy struct {
	*httptest.Server
	lost atomic.Int64
}

func newLossyProxy(t *testing.T, lab *harness.Lab) *lossyProxy {
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
	reverse.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	reverse.FlushInterval = -1
	p := &lossyProxy{}
	var bindings atomic.Int64
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/binding") {
			reverse.ServeHTTP(w, r)
			return
		}
		switch bindings.Add(1) % 4 {
		case 0: // applied, answer lost
			p.lost.Add(1)
			reverse.ServeHTTP(httptest.NewRecorder(), r)
			w.WriteHeader(http.StatusGatewayTimeout)
		case 1: // never applied
			p.lost.Add(1)
			w.WriteHeader(http.StatusGatewayTimeout)
		case 2: // applied after the client has given up on the connection
			p.lost.Add(1)
			late := r.Clone(context.WithoutCancel(r.Context()))
			go func() {
				time.Sleep(time.Second)
				reverse.ServeHTTP(httptest.NewRecorder(), late)
			}()
			<-r.Context().Done()
		default:
			reverse.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(p.CloseClientConnections)
	return p
}

// runScheduler runs the scheduler, under its own account, through a proxy of the lab's apiserver.
func runScheduler(t *testing.T, lab *harness.Lab, server *httptest.Server) {
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
	config.Clusters["lab"] = &clientcmdapi.Cluster{
		Server:                   server.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}
	config.AuthInfos["scheduler"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "scheduler"}
	config.CurrentContext = "lab"
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		t.Fatal(err)
	}
	scheduler := fmt.Sprintf(`apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {kubeconfig: %s, qps: 500, burst: 500}
leaderElection: {leaderElect: false}
profiles:
- schedulerName: berth
  plugins:
    multiPoint: {enabled: [{name: Berth, weight: 1501}], disabled: [{name: DefaultPreemption}]}
    bind: {enabled: [{name: Berth}]}
  pluginConfig: [{name: Berth, args: {staleAfter: 0s, bindTimeout: 2s}}]
`, kubeconfig)
	file := filepath.Join(dir, "scheduler.yaml")
	if err := os.WriteFile(file, []byte(scheduler), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(harness.Program("scheduler"), "--config="+file, "--secure-port=0", "--v=2",
		"--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig)
	log, err := os.Create(filepath.Join(lab.LogDir, "scheduler.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		_ = log.Close()
	})
}
