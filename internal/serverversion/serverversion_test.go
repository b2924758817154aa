// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package serverversion

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/client-go/rest"
)

func TestLowest(t *testing.T) {
	const (
		v1373 = `{"major":"1","minor":"37","gitVersion":"v1.37.3"}`
		v1363 = `{"major":"1","minor":"36","gitVersion":"v1.36.3"}`
	)
	tests := []struct {
		name    string
		answers []string // in turn, over and over; "" is a 503
		want    string
		wantErr string
	}{
		{name: "all apiservers are of one version", answers: []string{v1363}, want: "1.36"},
		{name: "an upgrade is under way: the lowest counts", answers: []string{v1373, v1373, v1363}, want: "1.36"},
		{name: "one of several is away: the others are asked as often", answers: []string{"", v1373, "", v1363}, want: "1.36"},
		{name: "a provider's own suffixes", answers: []string{`{"major":"1","minor":"35+","gitVersion":"v1.35.4-gke.1069000"}`}, want: "1.35"},
		{name: "only the git version is set", answers: []string{`{"gitVersion":"v1.36.1-eks-3abbec1"}`}, want: "1.36"},
		{
			name:    "an apiserver that emulates an older one serves what the older does",
			answers: []string{`{"major":"1","minor":"37","emulationMajor":"1","emulationMinor":"35","gitVersion":"v1.37.3"}`}, want: "1.35",
		},
		{name: "no apiserver answers", answers: []string{""}, wantErr: "did not tell its version within 200ms: GET https://"},
		{name: "somebody else answers", answers: []string{`<html>`}, wantErr: "invalid character"},
		{name: "a version that is none", answers: []string{`{"gitVersion":"v0.0.0-master+$Format:%H$"}`}, wantErr: `version "v0.0.0-master`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			requests, connections := 0, map[string]bool{}
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				answer := tt.answers[requests%len(tt.answers)]
				requests++
				connections[r.RemoteAddr] = true
				switch {
				case r.URL.Path != "/version" || r.Header.Get("Authorization") != "Bearer secret":
					http.Error(w, "not what an apiserver is asked", http.StatusBadRequest)
				case answer == "":
					w.WriteHeader(http.StatusServiceUnavailable)
				default:
					_, _ = w.Write([]byte(answer)) // a client that is gone
				}
			}))
			defer server.Close()
			config := &rest.Config{Host: server.URL, BearerToken: "secret"}
			config.Insecure = true
			asking := Asking{Answers: 4, Timeout: 10 * time.Second, Pause: 20 * time.Millisecond, Patience: 10 * time.Second}
			if tt.wantErr != "" {
				asking.Patience = 200 * time.Millisecond
			}
			got, err := asking.Lowest(t.Context(), config)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error = %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != tt.want {
				t.Errorf("version = %s, want %s", got, tt.want)
			}
			if len(connections) != requests {
				t.Errorf("%d requests went over %d connections, want each over its own: a load balancer chooses by connection", requests, len(connections))
			}
		})
	}
}

func TestToEmulate(t *testing.T) {
	tests := []struct {
		name         string
		server, want string
		wantTooOld   bool
	}{
		{name: "the apiserver is as new as the program", server: "1.37", want: ""},
		{name: "the apiserver is newer", server: "1.38", want: ""},
		{name: "the apiserver is one minor version older", server: "1.36", want: "1.36"},
		{name: "the apiserver is at the floor", server: "1.34", want: "1.34"},
		{name: "the apiserver is below the floor", server: "1.33", wantTooOld: true},
		{name: "the apiserver is ancient", server: "1.9", wantTooOld: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ToEmulate(version.MustParse("1.37.2"), version.MustParseGeneric(tt.server))
			if errors.Is(err, ErrTooOld) != tt.wantTooOld || got != tt.want {
				t.Errorf("emulates %q, %v; want %q, too old: %v", got, err, tt.want, tt.wantTooOld)
			}
			if strings.Contains(errorText(err), "\n") {
				t.Errorf("the error has more than one line: %q", err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestTheFloorIsUpstreams shows that component-base takes the oldest version that ToEmulate returns, and none below.
func TestTheFloorIsUpstreams(t *testing.T) {
	upstream := compatibility.DefaultBuildEffectiveVersion()
	binary := upstream.BinaryVersion()
	floor := binary.WithPatch(0).SubtractMinor(Skew)
	upstream.SetEmulationVersion(floor)
	if errs := upstream.Validate(); len(errs) > 0 {
		t.Errorf("emulate %s: %v", floor, errs)
	}
	upstream.SetEmulationVersion(floor.SubtractMinor(1))
	if errs := upstream.Validate(); len(errs) == 0 {
		t.Errorf("%s can be emulated too", floor.SubtractMinor(1))
	}
}
