// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package firstlist ends a process whose informers cannot start: the apiserver does not serve what one of them lists,
// or does not let the account list it. client-go tries such a list again for ever, and the process is alive, says
// nothing that a probe would see, and does no work. Both are mended from outside only, so that the process does better
// to say what is missing and end. What may pass (time-outs, 429, 5xx) is left to client-go, and so is all that happens
// to an informer after its first list.
package firstlist

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Refusal says what to do about a list that no further try will change; nil for any other error.
func Refusal(err error) error {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	details := status.Status().Details
	resource := schema.GroupResource{Group: details.Group, Resource: details.Kind}
	switch status.Status().Reason {
	case metav1.StatusReasonForbidden:
		return fmt.Errorf("may not list %s: apply manifests/rbac of this version, which lets this account do so (%w)", resource, err)
	case metav1.StatusReasonNotFound:
		if resource.Group == berthv1alpha1.GroupName {
			return fmt.Errorf("cannot list %s, which the apiserver does not serve: apply manifests/crd of this version (%w)", resource, err)
		}
		return fmt.Errorf("cannot list %s, which the apiserver does not serve: set --emulated-version to the version of the oldest "+
			"apiserver, or switch off by --feature-gates what lists it (%w)", resource, err)
	}
	return nil
}

// WatchErrorHandler is for an informer of our own (SetWatchErrorHandlerWithContext), or for those of a cache.
func WatchErrorHandler() cache.WatchErrorHandlerWithContext { return watchErrorHandler(end) }

func watchErrorHandler(end func(error)) cache.WatchErrorHandlerWithContext {
	return func(ctx context.Context, r *cache.Reflector, err error) {
		if refusal := Refusal(err); refusal != nil && r.LastSyncResourceVersion() == "" {
			end(refusal)
		}
		cache.DefaultWatchErrorHandler(ctx, r, err)
	}
}

// Guard is for informers of a factory that others set up. Their errors arrive only at utilruntime.ErrorHandlers, to
// which HandleError belongs, and with no more than a description of the type. Informers beside the factory are not the
// guard's business: some are optional, such as that of the authentication of requests.
type Guard struct {
	factory atomic.Pointer[informers.SharedInformerFactory]
	end     func(error)
}

// NewGuard returns a guard that ends the process. It does nothing before Watch.
func NewGuard() *Guard { return &Guard{end: end} }

// Watch says which factory is meant.
func (g *Guard) Watch(factory informers.SharedInformerFactory) { g.factory.Store(&factory) }

// HandleError is a utilruntime.ErrorHandler.
func (g *Guard) HandleError(_ context.Context, err error, _ string, keysAndValues ...any) {
	factory := g.factory.Load()
	refusal := Refusal(err)
	// An informer that has had its list and may not watch is in sync a moment later.
	if factory == nil || refusal == nil || !strings.HasPrefix(err.Error(), "failed to list ") {
		return
	}
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		if keysAndValues[i] == "type" && waits(*factory, keysAndValues[i+1]) {
			g.end(refusal)
		}
	}
}

// waits says whether a started informer of the factory has had no list yet; the description is that of its type.
func waits(factory informers.SharedInformerFactory, description any) bool {
	over := make(chan struct{})
	close(over)
	for t, synced := range factory.WaitForCacheSync(over) {
		if t.String() == description && !synced {
			return true
		}
	}
	return false
}

// end ends the process with one line of its log.
func end(err error) {
	klog.ErrorS(err, "An informer cannot start")
	klog.FlushAndExit(klog.ExitFlushTimeout, 1)
}
