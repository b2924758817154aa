// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// Issuer is the issuer, and the audience, of the service-account tokens.
const Issuer = "https://kubernetes.default.svc"

// startAPIServer starts kube-apiserver on a free port of the loopback and returns that port. It may not serve yet.
func startAPIServer(keys *pki, etcdEndpoint string, extra []string) (*part, int, error) {
	// A listener of our own leaves no moment in which another process could take the port.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, 0, err
	}
	port := listener.Addr().(*net.TCPAddr).Port

	s := options.NewServerRunOptions()
	fs := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range s.Flags().FlagSets {
		fs.AddFlagSet(set)
	}
	if err := fs.Parse(append(apiserverArgs(keys, etcdEndpoint, port), extra...)); err != nil {
		return nil, 0, closing(listener, err)
	}
	if err := s.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, 0, closing(listener, err)
	}
	s.SecureServing.Listener = listener
	completed, err := s.Complete(context.Background())
	if err != nil {
		return nil, 0, closing(listener, err)
	}
	if errs := completed.Validate(); len(errs) != 0 {
		return nil, 0, closing(listener, utilerrors.NewAggregate(errs))
	}
	return run("kube-apiserver", func(ctx context.Context) error { return app.Run(ctx, completed) }), port, nil
}

// apiserverArgs are the flags of kube-apiserver, all of which every version from 1.34 on has.
func apiserverArgs(keys *pki, etcdEndpoint string, port int) []string {
	return []string{
		"--etcd-servers=" + etcdEndpoint,
		"--secure-port=" + strconv.Itoa(port),
		"--bind-address=127.0.0.1",
		"--tls-cert-file=" + keys.servingCert,
		"--tls-private-key-file=" + keys.servingKey,
		"--client-ca-file=" + keys.caFile,
		"--service-account-issuer=" + Issuer,
		"--service-account-signing-key-file=" + keys.serviceAccountKey,
		"--service-account-key-file=" + keys.serviceAccountKey,
		"--service-cluster-ip-range=10.0.0.0/24",
		"--endpoint-reconciler-type=none",
		"--authorization-mode=Node,RBAC",
		"--anonymous-auth=false",
		"--allow-privileged=true",
		// Without the node lifecycle controller nobody would lift the not-ready taint of a new node.
		"--disable-admission-plugins=TaintNodesByCondition",
	}
}

func closing(listener net.Listener, err error) error {
	_ = listener.Close() // the error that matters is err
	return err
}

// waitReady returns when the apiserver is ready and has made the default namespace, or with the error that ended it.
func waitReady(ctx context.Context, client kubernetes.Interface, apiserver *part) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-apiserver.done:
			cancel(apiserver.err)
		case <-ctx.Done():
		}
	}()
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		var code int
		client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&code)
		if code != http.StatusOK {
			return false, nil
		}
		_, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{})
		return err == nil, nil
	})
	if err != nil {
		return context.Cause(ctx)
	}
	return nil
}
