// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestOlderAPIs is about apiservers that serve less than the scheduler is built for: here the linked one, which serves
// what an older one does; make test-skew runs the real ones.
func TestOlderAPIs(t *testing.T) {
	if os.Getenv(harness.EnvKubeAPIServer) != "" {
		t.Skip("the apiserver is an older one already")
	}
	for _, version := range []string{"1.36", "1.35"} {
		t.Run(version, func(t *testing.T) {
			lab := harness.Start(t, "--bare", "--no-controller", "--apiserver-arg=--emulated-version="+version)
			newSite(t, lab, "older", 1, "80Gi").place(berthtesting.MakePod("p").Memory("30Gi").Obj())
		})
	}
}

// versionAnswer is what an apiserver of this minor version says that it is.
func versionAnswer(minor int) string {
	return fmt.Sprintf(`{"major":"1","minor":"%d","gitVersion":"v1.%d.0"}`, minor, minor)
}

// TestSchedulerAsksForTheVersion is about what the scheduler does with what the apiservers say that they are.
func TestSchedulerAsksForTheVersion(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller", "--no-scheduler")
	s := newSite(t, lab, "asks", 1, "80Gi")
	// lacks answers as an apiserver that serves no such resource.
	lacks := func(resource string, version func() string) func(http.ResponseWriter, *http.Request, http.HandlerFunc) {
		return func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
			switch {
			case r.URL.Path == "/version":
				answer := version()
				if answer == "" {
					http.Error(w, "not now", http.StatusServiceUnavailable)
					return
				}
				_, _ = w.Write([]byte(answer)) // a scheduler that is gone
			case resource != "" && strings.HasSuffix(r.URL.Path, "/"+resource):
				http.NotFound(w, r)
			default:
				forward(w, r)
			}
		}
	}
	always := func(answer string) func() string { return func() string { return answer } }

	t.Run("of apiservers of two versions the older counts", func(t *testing.T) {
		var asked atomic.Int32
		proxy := newAPIProxy(t, lab, lacks("devicetaintrules", func() string {
			if asked.Add(1) == 3 {
				return versionAnswer(36)
			}
			return versionAnswer(37)
		}))
		p := runScheduler(t, lab, proxy, "{staleAfter: 0s}")
		s.place(s.pod("mixed", "10Gi"))
		if !strings.Contains(p.logged(), `emulates its version" version="1.36"`) {
			t.Error("the log does not say which version is emulated")
		}
	})

	t.Run("the flag wins, and nobody is asked", func(t *testing.T) {
		proxy := newAPIProxy(t, lab, lacks("devicetaintrules", always("")))
		runScheduler(t, lab, proxy, "{staleAfter: 0s}", "--emulated-version=1.36")
		s.place(s.pod("flag", "10Gi"))
	})

	for _, tt := range []struct {
		name   string
		handle func(http.ResponseWriter, *http.Request, http.HandlerFunc)
		want   []string
	}{
		{
			name:   "an apiserver below the floor",
			handle: lacks("", always(versionAnswer(33))),
			want:   []string{"the apiserver is too old", "it is Kubernetes 1.33", "1.34 or later"},
		},
		{
			name:   "a resource that is not served",
			handle: lacks("devicetaintrules", always(versionAnswer(37))),
			want:   []string{"cannot list devicetaintrules.resource.k8s.io", "--emulated-version", "--feature-gates"},
		},
		{
			name:   "a resource of Berth's own that is not served",
			handle: lacks("gpunodes", always(versionAnswer(37))),
			want:   []string{"cannot list gpunodes.berth.dev", "manifests/crd"},
		},
		{
			name: "a resource that the account may not list",
			handle: func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
				if r.URL.Path == "/api/v1/persistentvolumes" {
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(http.StatusForbidden)
					_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,` +
						`"message":"persistentvolumes is forbidden: User cannot list resource","details":{"kind":"persistentvolumes"}}`))
					return
				}
				forward(w, r)
			},
			want: []string{"may not list persistentvolumes", "manifests/rbac", "cannot list resource"},
		},
	} {
		t.Run("the scheduler ends with one line: "+tt.name, func(t *testing.T) {
			p := runScheduler(t, lab, newAPIProxy(t, lab, tt.handle), "{staleAfter: 0s}")
			for line := range strings.Lines(p.waitEnd()) {
				if containsAll(line, tt.want) {
					return
				}
			}
			t.Errorf("no line of the log has all of %q:\n%s", tt.want, p.logged())
		})
	}
}

func containsAll(text string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}
