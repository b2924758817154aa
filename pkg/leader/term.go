// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Term makes the apiserver refuse what older leaders sent. Begin admits nothing that a lease does not cover; but a
// process can be stopped between Begin and its first byte, and bytes can wait in a machine that stands still. So each
// Binding names its sender, and a policy compares that with the LeaderTerm:
//
//	old leader   ─Begin─┤stopped                                         ├─sends─▶ refused
//	lease        ───────┴─────────┤expires
//	new leader                    ├─acquires─writes term─probe──(settle)──LIST─┬─binds────▶
//	policy's cache, this apiserver ·············old··········│new: probe refused
//	policy's cache, other apiservers ···········old·················│new
//
// The policy's cache follows the LeaderTerm with the delay of a watch. What arrives before it knows of the new term is
// accepted, but then it is in the LIST from which the new leader makes its books, if that comes after. So a new leader
// probes, by dry runs in the old leader's name, until its apiserver refuses them; gives other apiservers, which it
// cannot ask one by one, settleTime; and lists then. A cache that lags more than that, while an old leader wakes just
// then, is what is left; a GPU that is overbooked like that is repaired.
//
// It is a second line: where the kind is not installed, or may not be written, the scheduler says so and goes on without.
type Term struct {
	leader *Leader
	// terms is a client of berth.dev, and core of the core group.
	terms, core rest.Interface
	clock       clock.Clock
	// holder is what Bindings say; empty while there is no fence.
	holder atomic.Pointer[string]
	// older is whom the term named before, for Begin.
	older string
	// again asks for the term to be looked at soon.
	again chan struct{}
}

const (
	// requestTimeout bounds each request of a Term.
	requestTimeout = 5 * time.Second
	// settleTime is how long other apiservers are given to learn of a term, after one that took the lease from a leader
	// that did not give it up.
	settleTime = time.Second
	// probeTime is how long the own apiserver is given, and probePause the pause between two probes.
	probeTime  = 3 * time.Second
	probePause = 20 * time.Millisecond
	// keepPeriod is how often a leader looks whether the term is still its own, if nothing else makes it look.
	keepPeriod = 10 * time.Second
)

// NewTerm returns the term of a leader. Without leader election it does nothing.
func NewTerm(l *Leader, terms, core rest.Interface, c clock.Clock) *Term {
	return &Term{leader: l, terms: terms, core: core, clock: c, again: make(chan struct{}, 1)}
}

// Holder is what a Binding of this process says in the annotation berth.dev/bound-by; empty = it says nothing, and is not
// compared.
func (t *Term) Holder() string {
	if t == nil {
		return ""
	}
	if h := t.holder.Load(); h != nil {
		return *h
	}
	return ""
}

// Begin writes the term, and returns once what older leaders sent is refused, or cannot be. An error is one that may
// pass.
func (t *Term) Begin(ctx context.Context) error {
	if t == nil || t.leader.Identity() == "" {
		return nil
	}
	before, err := t.write(ctx)
	if err != nil || t.Holder() == "" {
		return err
	}
	switch before {
	case t.leader.Identity():
		before = t.older // written by an earlier attempt
	case "":
		before = "nobody" // whose Bindings are refused too
	}
	t.older = before
	written := t.clock.Now()
	logger := klog.FromContext(ctx)
	for {
		refused, err := t.probe(ctx, before)
		if refused {
			break
		}
		if t.clock.Since(written) > probeTime {
			logger.Error(err, "The apiserver does not refuse the Bindings of older leaders: is the policy installed?", "policy", berthv1alpha1.LeaderTermPolicy)
			return nil
		}
		if err := t.sleep(ctx, probePause); err != nil {
			return err
		}
	}
	if left := settleTime - t.clock.Since(written); left > 0 && t.leader.TookOver() {
		return t.sleep(ctx, left)
	}
	return nil
}

// Keep puts the term back, until ctx ends, when it was deleted or changed. A leader whose term is another's could bind
// nothing.
func (t *Term) Keep(ctx context.Context) {
	if t == nil || t.leader.Identity() == "" {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.again:
		case <-t.clock.After(keepPeriod):
		}
		if !t.leader.Leading() {
			continue
		}
		if _, err := t.write(ctx); err != nil {
			klog.FromContext(ctx).Error(err, "Could not look after the LeaderTerm", "name", berthv1alpha1.LeaderTermName)
		}
	}
}

// Refused asks for the term to be looked at, since a Binding was refused.
func (t *Term) Refused() {
	if t == nil {
		return
	}
	select {
	case t.again <- struct{}{}:
	default: // asked already
	}
}

// write makes the LeaderTerm name this process, and returns whom it named before. What it replaces was read before the
// lease is looked at: a process that is stopped in between finds the object changed, and the write refused.
func (t *Term) write(ctx context.Context) (before string, err error) {
	me := t.leader.Identity()
	const attempts = 5 // only another writer makes them fail, such as an older leader that woke
	for range attempts {
		var term *berthv1alpha1.LeaderTerm
		if term, err = t.get(ctx); err != nil {
			break
		}
		if term != nil && term.Spec.Holder == me {
			t.holder.Store(&me)
			return me, nil
		}
		if err = t.leader.Holds(0); err != nil { // however late it arrives, it replaces nothing newer
			return "", err
		}
		if term != nil {
			before = term.Spec.Holder
		}
		if err = t.put(ctx, term, me); err == nil {
			klog.FromContext(ctx).Info("Bindings of other processes are refused from now on", "holder", me, "before", before)
			t.holder.Store(&me)
			return before, nil
		}
		if changed := apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || term != nil && apierrors.IsNotFound(err); !changed {
			break
		}
	}
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsMethodNotSupported(err) {
		// Not installed, or not allowed: no time makes it pass.
		klog.FromContext(ctx).Error(err, "Bindings that arrive late from an older leader are not refused: "+
			"apply manifests/crd and manifests/rbac of this version", "kind", "LeaderTerm")
		t.holder.Store(nil)
		return "", nil
	}
	return "", fmt.Errorf("writing LeaderTerm %s: %w", berthv1alpha1.LeaderTermName, err)
}

// get returns the LeaderTerm; nil if there is none, or no such kind.
func (t *Term) get(ctx context.Context) (*berthv1alpha1.LeaderTerm, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	term := &berthv1alpha1.LeaderTerm{}
	err := t.terms.Get().Resource("leaderterms").Name(berthv1alpha1.LeaderTermName).Do(ctx).Into(term)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return term, err
}

// put creates the LeaderTerm, or replaces the one that was read.
func (t *Term) put(ctx context.Context, read *berthv1alpha1.LeaderTerm, holder string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if read == nil {
		term := &berthv1alpha1.LeaderTerm{
			ObjectMeta: metav1.ObjectMeta{Name: berthv1alpha1.LeaderTermName},
			Spec:       berthv1alpha1.LeaderTermSpec{Holder: holder},
		}
		return t.terms.Post().Resource("leaderterms").Body(term).Do(ctx).Error()
	}
	read.Spec.Holder = holder
	return t.terms.Put().Resource("leaderterms").Name(read.Name).Body(read).Do(ctx).Error()
}

// probe says whether the apiserver refuses Bindings of a process. It sends one, as a dry run, for a pod that does not
// exist: admission comes before the look-up of the pod, so the answer tells how far it came.
func (t *Term) probe(ctx context.Context, holder string) (refused bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: berthv1alpha1.Namespace, Name: "berth-leader-term-probe", UID: "none",
			Annotations: map[string]string{berthv1alpha1.AnnotationBoundBy: holder},
			Labels:      map[string]string{berthv1alpha1.LabelAllocated: "true"},
		},
		Target: corev1.ObjectReference{Kind: "Node", Name: "none"},
	}
	err = t.core.Post().Namespace(binding.Namespace).Resource("pods").Name(binding.Name).SubResource("binding").
		Param("dryRun", metav1.DryRunAll).Body(binding).Do(ctx).Error()
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), berthv1alpha1.LeaderTermPolicy), err
}

func (t *Term) sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-t.clock.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
