// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2/textlogger"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/modelsource"
	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
)

const marker = "MARKER"

// outputs reconciles a pod, all profiles and the pod again, and returns everything that is shown, logged or stored by that.
func (w *world) outputs(name string) string {
	w.t.Helper()
	var out strings.Builder
	ctx := log.IntoContext(w.t.Context(), textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&out), textlogger.Verbosity(10))))
	pod := func() {
		if _, err := w.pods.Reconcile(ctx, request("default", name)); err != nil {
			fmt.Fprintln(&out, err)
		}
		fmt.Fprintln(&out, w.told())
	}
	pod()
	var profiles berthv1alpha1.ModelProfileList
	if err := w.client.List(ctx, &profiles); err != nil {
		w.t.Fatal(err)
	}
	for i := range profiles.Items {
		if _, err := w.profiles.Reconcile(ctx, request("", profiles.Items[i].Name)); err != nil {
			fmt.Fprintln(&out, err)
		}
	}
	pod()
	if err := w.client.List(ctx, &profiles); err != nil {
		w.t.Fatal(err)
	}
	stored, err := json.Marshal(profiles)
	if err != nil {
		w.t.Fatal(err)
	}
	out.Write(stored)
	return out.String()
}

// TestSecretsInURIsAreNeverShownLoggedOrStored is attack 13, of pods that no policy refused.
func TestSecretsInURIsAreNeverShownLoggedOrStored(t *testing.T) {
	for _, uri := range []string{
		"https://host.example/x.gguf?sig=" + marker, "https://host.example/x.gguf?" + marker + "=" + marker, "https://host.example/x.gguf#" + marker,
		"https://" + marker + "@host.example/x.gguf", "https://user:" + marker + "@host.example/x.gguf", `https://host.example/x.gguf?"` + marker,
		"hf://org/repo/x.gguf?" + marker, "ollama://user:" + marker + "@host.example/a/b", "file:///models/x.gguf?" + marker,
		"user:" + marker + "@host.example/x.gguf", "host.example/x.gguf?" + marker,
	} {
		w := newWorld(t, modelPod("p", func(p *corev1.Pod) { p.Annotations[berthv1alpha1.AnnotationModel] = uri }))
		got := w.outputs("p")
		if strings.Contains(strings.ToUpper(got), marker) {
			t.Errorf("%s: %s", uri, got)
		}
		if !strings.Contains(got, EventUnknown) || !strings.Contains(got, "pre-signed URL") || !strings.Contains(got, `"items":[]`) && !strings.Contains(got, `"items":null`) {
			t.Errorf("%s: want no profile, and that the pod is told what to do: %s", uri, got)
		}
	}
}

// TestSecretsOfProfilesAreNotShown: profiles were made before URIs with secrets were refused.
func TestSecretsOfProfilesAreNotShown(t *testing.T) {
	uri := "https://host.example/x.gguf?sig=" + marker
	p := &berthv1alpha1.ModelProfile{}
	p.Name, p.Spec.Source = "old", uri
	if name := berthv1alpha1.ModelProfileName(uri); strings.Contains(strings.ToUpper(name), marker) {
		t.Errorf("the name %s shows the query", name)
	}
	w := newWorld(t, p)
	w.profiles.resolver = resolverOf(t, "https://hub.example")
	got := strings.ReplaceAll(w.outputs("p"), `"source":"`+uri+`"`, "") // which is there already
	if strings.Contains(got, marker) || !strings.Contains(got, "neither a ?query") {
		t.Errorf("got %s", got)
	}
}

// TestSignaturesOfRedirectsAreNotShown: hubs redirect to addresses that whoever has them may read.
func TestSignaturesOfRedirectsAreNotShown(t *testing.T) {
	signed := "?sig=" + marker
	for name, answer := range map[string]func(w http.ResponseWriter, req *http.Request){
		"to what is not there": func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "/none"+signed, http.StatusFound)
		},
		"to a host that is not allowed": func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "https://other.example/"+signed, http.StatusFound)
		},
		"to a host with a password": func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "https://u:"+marker+"@other.example/", http.StatusFound)
		},
		"to another scheme": func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "ftp://other.example/"+signed, http.StatusFound)
		},
		"to what is no address": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/x"+signed+"%zz\x7f")
			w.WriteHeader(302)
		},
		"for ever": func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, req.URL.Path+signed, http.StatusFound)
		},
		"to a connection that is broken": broken(signed, func() { panic(http.ErrAbortHandler) }),
		"to an empty file":               brokenBy(signed, func(w http.ResponseWriter) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) }),
		"to an error":                    brokenBy(signed, func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) }),
		"to a file that is no model":     brokenBy(signed, func(w http.ResponseWriter) { w.Header().Set("Content-Length", "4"); fmt.Fprint(w, "HTML") }),
	} {
		t.Run(name, func(t *testing.T) {
			server := modeltest.NewServer(t, nil)
			server.Intercept = func(w http.ResponseWriter, req *http.Request) bool {
				answer(w, req)
				return true
			}
			w := newWorld(t, modelPod("p"))
			w.profiles.resolver = resolverOf(t, server.URL)
			got := w.outputs("p")
			if strings.Contains(got, marker) {
				t.Errorf("got %s", got)
			}
			if server.Requests() == 0 || !strings.Contains(got, EventUnknown) {
				t.Errorf("%d requests, and %s", server.Requests(), got)
			}
		})
	}
}

// brokenBy redirects to a signed address, which answers so.
func brokenBy(signed string, answer func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, req *http.Request) {
		if req.URL.RawQuery == "" || strings.Contains(req.URL.RawQuery, "blobs") {
			http.Redirect(w, req, "/signed"+signed, http.StatusFound)
			return
		}
		answer(w)
	}
}

func broken(signed string, answer func()) func(http.ResponseWriter, *http.Request) {
	return brokenBy(signed, func(http.ResponseWriter) { answer() })
}

// TestLongURIsLeaveRoomForWhatIsSaidOfThem is attack 17: an Event of more than 1024 bytes was refused, and nobody was told.
func TestLongURIsLeaveRoomForWhatIsSaidOfThem(t *testing.T) {
	uri := "https://host.example/" + strings.Repeat("x", 1000-len("https://host.example/")) + ".gguf"
	w := newWorld(t, modelPod("p", func(p *corev1.Pod) { p.Annotations[berthv1alpha1.AnnotationModel] = uri }))
	w.profiles.resolver = resolverOf(t, "https://hub.example")
	w.outputs("p")
	w.pods.tell.forget(request("default", "p").NamespacedName)
	told := w.pod("p")
	if len(told) != 1 || !strings.Contains(told[0], "is not one that models may be read from") || !strings.Contains(told[0], "x.gguf") {
		t.Fatalf("told %q, want why", told)
	}
	if note := strings.TrimPrefix(told[0], "Warning "+EventUnknown+" "); len(note) > 1024 {
		t.Errorf("the note has %d bytes", len(note))
	}
}

// TestCauseIsInTheLogAlone: what is wrong in a model store is for the admin to know.
func TestCauseIsInTheLogAlone(t *testing.T) {
	store := t.TempDir()
	if err := os.WriteFile(filepath.Join(store, "bad.gguf"), []byte("GGUF\x02\x00\x00\x00 and no more"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := modelsource.NewResolver(modelsource.Config{Roots: []string{store}, Discreet: true})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for name, cause := range map[string]string{"bad.gguf": "causeReason=\"\"", "none.gguf": "causeReason=\"NotFound\""} {
		uri := "file://" + store + "/" + name
		w := newWorld(t, modelPod("p", func(p *corev1.Pod) { p.Annotations[berthv1alpha1.AnnotationModel] = uri }))
		w.profiles.resolver = r
		if got := w.outputs("p"); !strings.Contains(got, cause) {
			t.Errorf("%s: the log lacks %s: %s", name, cause, got)
		}
		p := &berthv1alpha1.ModelProfile{}
		if err := w.client.Get(t.Context(), client.ObjectKey{Name: berthv1alpha1.ModelProfileName(uri)}, p); err != nil {
			t.Fatal(err)
		}
		c := p.ReadyCondition()
		w.pods.tell.forget(request("default", "p").NamespacedName)
		told[name] = strings.ReplaceAll(strings.ReplaceAll(c.Reason+" "+c.Message+"\n"+strings.Join(w.pod("p"), "\n"), p.Name, "PROFILE"), name, "FILE")
	}
	if diff := cmp.Diff(told["bad.gguf"], told["none.gguf"]); diff != "" || !strings.Contains(told["bad.gguf"], EventUnknown) {
		t.Errorf("a bad file and none are told apart (-bad +none):\n%s\n%s", diff, told["bad.gguf"])
	}
}
