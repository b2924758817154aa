// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	testclock "k8s.io/utils/clock/testing"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/berthclient"
)

// termAPI is an API server with a LeaderTerm, and the policy that looks at it.
type termAPI struct {
	*httptest.Server
	mu   sync.Mutex
	term *berthv1alpha1.LeaderTerm
	// absent: the kind is not installed; forbidden: nobody may write it; noPolicy: Bindings are not compared.
	absent, forbidden, noPolicy bool
	// lag is how many probes the policy still sees the term before.
	lag    int
	seen   string
	probes []string
	// onGet runs after the term was read.
	onGet func()
}

func newTermAPI(t *testing.T) *termAPI {
	a := &termAPI{}
	mux := http.NewServeMux()
	const terms = "/apis/berth.dev/v1alpha1/leaderterms"
	mux.HandleFunc("GET "+terms+"/berth-scheduler", a.get)
	mux.HandleFunc("POST "+terms, a.create)
	mux.HandleFunc("PUT "+terms+"/berth-scheduler", a.update)
	mux.HandleFunc("POST /api/v1/namespaces/berth-system/pods/berth-leader-term-probe/binding", a.probe)
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

var termResource = schema.GroupResource{Group: berthv1alpha1.GroupName, Resource: "leaderterms"}

func (a *termAPI) get(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.absent || a.term == nil {
		answer(w, nil, apierrors.NewNotFound(termResource, "berth-scheduler"))
	} else {
		answer(w, a.term, nil)
	}
	if a.onGet != nil {
		a.onGet()
	}
}

// set writes the term as somebody; "" deletes it. The lock must be held.
func (a *termAPI) set(holder string) {
	if holder == "" {
		a.term = nil
		return
	}
	version := 0
	if a.term != nil {
		version, _ = strconv.Atoi(a.term.ResourceVersion)
	}
	a.term = &berthv1alpha1.LeaderTerm{
		TypeMeta:   metav1.TypeMeta{APIVersion: "berth.dev/v1alpha1", Kind: "LeaderTerm"},
		ObjectMeta: metav1.ObjectMeta{Name: "berth-scheduler", ResourceVersion: strconv.Itoa(version + 1)},
		Spec:       berthv1alpha1.LeaderTermSpec{Holder: holder},
	}
}

func (a *termAPI) create(w http.ResponseWriter, r *http.Request) {
	a.write(w, r, func(*berthv1alpha1.LeaderTerm) error {
		if a.term != nil {
			return apierrors.NewAlreadyExists(termResource, "berth-scheduler")
		}
		return nil
	})
}

func (a *termAPI) update(w http.ResponseWriter, r *http.Request) {
	a.write(w, r, func(term *berthv1alpha1.LeaderTerm) error {
		switch {
		case a.term == nil:
			return apierrors.NewNotFound(termResource, "berth-scheduler")
		case a.term.ResourceVersion != term.ResourceVersion:
			return apierrors.NewConflict(termResource, "berth-scheduler", nil)
		}
		return nil
	})
}

func (a *termAPI) write(w http.ResponseWriter, r *http.Request, refuse func(*berthv1alpha1.LeaderTerm) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var term berthv1alpha1.LeaderTerm
	if err := json.NewDecoder(r.Body).Decode(&term); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var err error
	switch {
	case a.absent:
		err = apierrors.NewNotFound(termResource, "")
	case a.forbidden:
		err = apierrors.NewForbidden(termResource, "", nil)
	default:
		err = refuse(&term)
	}
	if err == nil {
		a.set(term.Spec.Holder)
	}
	answer(w, a.term, err)
}

// probe is a Binding: the policy's cache follows the term after some probes.
func (a *termAPI) probe(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b corev1.Binding
	if err := json.NewDecoder(r.Body).Decode(&b); err != nil || r.URL.Query().Get("dryRun") != "All" {
		http.Error(w, "not a dry run of a Binding", http.StatusBadRequest)
		return
	}
	holder := b.Annotations[berthv1alpha1.AnnotationBoundBy]
	a.probes = append(a.probes, holder)
	pods := schema.GroupResource{Resource: "pods"}
	if a.lag--; a.lag < 0 && a.term != nil {
		a.seen = a.term.Spec.Holder
	}
	if !a.noPolicy && a.seen != "" && a.seen != holder {
		answer(w, nil, apierrors.NewForbidden(pods, b.Name, errPolicy{}))
		return
	}
	answer(w, nil, apierrors.NewNotFound(pods, b.Name))
}

type errPolicy struct{}

func (errPolicy) Error() string {
	return "ValidatingAdmissionPolicy 'berth-leader-term' with binding 'berth-leader-term' denied request"
}

func (a *termAPI) holder() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.term == nil {
		return ""
	}
	return a.term.Spec.Holder
}

func answer(w http.ResponseWriter, obj any, err error) {
	code := http.StatusOK
	if err != nil {
		status := err.(apierrors.APIStatus).Status()
		status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		obj, code = &status, int(status.Code)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(obj)
}

// termFixture is the term of a process that has just become the leader.
func termFixture(t *testing.T, a *termAPI) (*Term, *world, *testclock.FakeClock) {
	t.Helper()
	w := newWorld(t)
	config := &rest.Config{Host: a.URL, QPS: -1}
	terms, err := berthclient.New(config)
	if err != nil {
		t.Fatal(err)
	}
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c := testclock.NewFakeClock(time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC))
	w.heldBy(other)
	w.get()
	w.mustRenew()
	return NewTerm(w.leader, terms, core.CoreV1().RESTClient(), c), w, c
}

// begin runs Begin, letting time pass for it, and returns how much did.
func begin(t *testing.T, term *Term, c *testclock.FakeClock) (time.Duration, error) {
	t.Helper()
	start, done := c.Now(), make(chan error)
	go func() { done <- term.Begin(t.Context()) }()
	for {
		select {
		case err := <-done:
			return c.Since(start), err
		case <-time.After(time.Millisecond):
			if c.HasWaiters() {
				c.Step(probePause)
			}
		}
	}
}

func TestTermBegin(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(a *termAPI, w *world)
		// holder is what Bindings say, and named whom the object names afterwards.
		holder, named string
		// waits is the least and the most time that it takes.
		least, most time.Duration
		fails       bool
	}{
		{"the first leader ever", func(*termAPI, *world) {}, me, me, settleTime, settleTime, false},
		{"after an older leader", func(a *termAPI, _ *world) { a.set(other) }, me, me, settleTime, settleTime, false},
		{"the policy's cache lags", func(a *termAPI, _ *world) { a.set(other); a.seen = other; a.lag = 100 }, me, me, 100 * probePause, 101 * probePause, false},
		{"after one that gave the lease up", func(a *termAPI, w *world) { a.set(other); w.leader.tookOver = false }, me, me, 0, 0, false},
		{"the policy is not installed", func(a *termAPI, _ *world) { a.set(other); a.noPolicy = true }, me, me, probeTime, probeTime + probePause, false},
		{"the kind is not installed", func(a *termAPI, _ *world) { a.absent = true }, "", "", 0, 0, false},
		{"it may not be written", func(a *termAPI, _ *world) { a.set(other); a.forbidden = true }, "", other, 0, 0, false},
		{"another writes at the same time", func(a *termAPI, _ *world) {
			a.set(other)
			a.onGet = func() { a.onGet = nil; a.set("host_third") }
		}, me, me, settleTime, settleTime, false},
		{"it is deleted at the same time", func(a *termAPI, _ *world) {
			a.set(other)
			a.onGet = func() { a.onGet = nil; a.set("") }
		}, me, me, settleTime, settleTime, false},
		{"stopped after it was read, and another leads since", func(a *termAPI, w *world) {
			a.set(other)
			a.onGet = func() { a.set("host_third"); w.runs(30 * time.Second) }
		}, "", "host_third", 0, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newTermAPI(t)
			term, w, c := termFixture(t, a)
			tc.prepare(a, w)
			took, err := begin(t, term, c)
			if (err != nil) != tc.fails || took < tc.least || took > tc.most {
				t.Errorf("took %s, want %s to %s; error %v", took, tc.least, tc.most, err)
			}
			if term.Holder() != tc.holder || a.holder() != tc.named {
				t.Errorf("Bindings say %q, want %q; the term names %q, want %q", term.Holder(), tc.holder, a.holder(), tc.named)
			}
			for _, p := range a.probes {
				if p == me {
					t.Error("probed in its own name, which tells nothing")
				}
			}
		})
	}
}

// TestTermBeginsAgain: a recovery that failed after it wrote the term probes in the name of the older leader again.
func TestTermBeginsAgain(t *testing.T) {
	a := newTermAPI(t)
	term, _, c := termFixture(t, a)
	a.set(other)
	for range 2 {
		if _, err := begin(t, term, c); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{other, other}, a.probes); diff != "" {
		t.Errorf("probes (-want +got):\n%s", diff)
	}
}

// TestTermIsLate: a write of an older leader that arrives late changes nothing, since the object changed meanwhile.
func TestTermIsLate(t *testing.T) {
	a := newTermAPI(t)
	term, _, _ := termFixture(t, a)
	a.set(other)
	read, err := term.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a.set("host_third")
	if err := term.put(t.Context(), read, me); !apierrors.IsConflict(err) || a.holder() != "host_third" {
		t.Errorf("the term names %q: %v", a.holder(), err)
	}
	if err := term.put(t.Context(), nil, me); !apierrors.IsAlreadyExists(err) || a.holder() != "host_third" {
		t.Errorf("the term names %q: %v", a.holder(), err)
	}
}

// TestTermIsKept: a leader whose term was deleted or changed could not bind, or is not protected.
func TestTermIsKept(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(a *termAPI)
		wake   func(term *Term, c *testclock.FakeClock)
	}{
		{"deleted", func(a *termAPI) { a.set("") }, func(_ *Term, c *testclock.FakeClock) { c.Step(keepPeriod) }},
		{"changed, and a Binding was refused", func(a *termAPI) { a.set(other) }, func(term *Term, _ *testclock.FakeClock) { term.Refused(); term.Refused() }},
		{"installed late", func(a *termAPI) { a.set(""); a.absent = false }, func(_ *Term, c *testclock.FakeClock) { c.Step(keepPeriod) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newTermAPI(t)
			a.absent = tc.name == "installed late"
			term, _, c := termFixture(t, a)
			if _, err := begin(t, term, c); err != nil {
				t.Fatal(err)
			}
			a.mu.Lock()
			tc.change(a)
			a.mu.Unlock()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { term.Keep(ctx); close(done) }()
			eventually(t, "waiting", c.HasWaiters)
			tc.wake(term, c)
			eventually(t, "putting it back", func() bool { return a.holder() == me && term.Holder() == me })
			cancel()
			<-done
		})
	}
}

func TestNoTermWithoutLeaderElection(t *testing.T) {
	a := newTermAPI(t)
	term, _, c := termFixture(t, a)
	term.leader = alone()
	if took, err := begin(t, term, c); err != nil || took != 0 || term.Holder() != "" || a.holder() != "" {
		t.Errorf("took %s, Bindings say %q, the term names %q: %v", took, term.Holder(), a.holder(), err)
	}
	term.Keep(t.Context()) // returns
	var none *Term
	none.Refused()
	if none.Holder() != "" {
		t.Error("no term has a holder")
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}
