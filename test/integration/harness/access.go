// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Account returns a client configuration with a signed token of a service account. With a node, the token is bound to that
// Node, as the tokens of its pods are.
func (l *Lab) Account(t testing.TB, namespace, name string, node *corev1.Node) *rest.Config {
	t.Helper()
	request := &authenticationv1.TokenRequest{}
	if node != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
	}
	request, err := l.Clientset.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), name, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := l.Nobody()
	config.BearerToken = request.Status.Token
	return config
}

// Nobody returns a client configuration without credentials.
func (l *Lab) Nobody() *rest.Config {
	config := rest.AnonymousClientConfig(l.Config)
	config.QPS = -1
	return config
}

// AskScheduler reads a path of the port of a lab's scheduler, which its command line tells; token may be empty.
func (l *Lab) AskScheduler(t testing.TB, path, token string) (status int, body string) {
	t.Helper()
	port := l.Argument(t, "scheduler", "--secure-port=")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1:"+port+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // signed by itself
	defer insecure.CloseIdleConnections()
	resp, err := insecure.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// Argument returns what follows a flag, such as --secure-port=, on the command line of one of the lab's processes.
func (l *Lab) Argument(t testing.TB, process, flag string) (value string) {
	t.Helper()
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", l.Child(t, process)))
	if err != nil {
		t.Fatal(err)
	}
	for arg := range strings.SplitSeq(string(cmdline), "\x00") {
		if v, ok := strings.CutPrefix(arg, flag); ok {
			value = v
		}
	}
	return value
}
