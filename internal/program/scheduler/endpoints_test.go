// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

// TestEndpoints compares what is served with what kube-scheduler itself serves, as it lists it.
func TestEndpoints(t *testing.T) {
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	nobody := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(nobody.Close)
	text := "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: '" + nobody.URL + "'}}]\ncontexts: [{name: c, context: {cluster: c}}]\n"
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opts := options.NewOptions()
	cmd := newCommandOf(opts)
	if err := cmd.Flags().Parse([]string{
		"--kubeconfig=" + kubeconfig, "--cert-dir=" + dir, "--leader-elect=false", "--emulated-version=1.37",
		"--authentication-tolerate-lookup-failure=true", "--authorization-always-allow-paths=/*",
	}); err != nil {
		t.Fatal(err)
	}
	if err := opts.ComponentGlobalsRegistry.Set(); err != nil {
		t.Fatal(err)
	}
	opts.SecureServing.Listener = listener
	ctx, cancel := context.WithCancel(t.Context())
	config, sched, err := app.Setup(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	always := func() bool { return true }
	ready := append(readiness(ctx, config, sched), healthz.NamedCheck("berth-policies", func(*http.Request) error { return errors.New("missing: all") }))
	ours := endpoints(config, always, ready)
	ended := make(chan struct{})
	go func() { _ = app.Run(ctx, config, sched); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })

	stock := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, // signed by itself
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(stock.CloseIdleConnections)
	theirs := func(path string) (int, string) {
		resp, err := stock.Get("https://" + listener.Addr().String() + path) // it serves before it has listed anything from the API
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		ours.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	for _, path := range []string{
		"/", "/healthz", "/healthz/ping", "/livez", "/livez/ping", "/readyz", "/readyz/shutdown", "/readyz/sched-handler-sync", "/metrics",
		"/metrics/slis", "/metrics/resources", "/configz", "/debug/pprof", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/flags", "/debug/flags/v",
		"/flagz", "/statusz", "/else",
	} {
		code, _ := theirs(path)
		if w := get(path); w.Code != code {
			t.Errorf("%s: %d, of kube-scheduler %d", path, w.Code, code)
		}
	}
	_, listed := theirs("/statusz")
	if diff := cmp.Diff(paths(listed), paths(get("/statusz").Body.String())); diff != "" {
		t.Errorf("listed paths (-kube-scheduler +this):\n%s", diff)
	}
	_, checks := theirs("/readyz?verbose")
	if diff := cmp.Diff(checks, strings.Replace(get("/readyz?verbose").Body.String(), "[-]berth-policies failed: reason withheld\n", "", 1)); diff != "" {
		t.Errorf("checks (-kube-scheduler +this without its own):\n%s", diff)
	}
	if w := get("/readyz/berth-policies"); w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "missing: all") {
		t.Errorf("/readyz/berth-policies: %d %s", w.Code, w.Body)
	}
	if w := get("/readyz"); w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "[-]berth-policies failed") {
		t.Errorf("/readyz: %d %s", w.Code, w.Body)
	}
	if w := get("/livez"); w.Code != http.StatusOK {
		t.Errorf("/livez: %d %s", w.Code, w.Body)
	}
}

// paths returns the paths that /statusz lists, sorted.
func paths(statusz string) []string {
	found := regexp.MustCompile(`/[a-z][a-z0-9/-]*`).FindAllString(statusz, -1)
	slices.Sort(found)
	return slices.Compact(found)
}
