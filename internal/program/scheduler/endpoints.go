// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	goruntime "runtime"
	"time"

	genericapifilters "k8s.io/apiserver/pkg/endpoints/filters"
	apirequest "k8s.io/apiserver/pkg/endpoints/request"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	"k8s.io/apiserver/pkg/server/flagz"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/apiserver/pkg/server/statusz"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/component-base/configz"
	"k8s.io/component-base/logs"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/component-base/metrics/prometheus/slis"
	zpagesfeatures "k8s.io/component-base/zpages/features"
	schedulerserverconfig "k8s.io/kubernetes/cmd/kube-scheduler/app/config"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/metrics/resources"
)

const (
	component       = "kube-scheduler"
	shutdownTimeout = 5 * time.Second
)

// serve serves, until ctx ends, the endpoints that app.Run would serve, and keeps app.Run from doing so: that one lets
// nobody add a check to /readyz. TestEndpoints compares them. Left out is the check of coordinated leader election.
func serve(ctx context.Context, config *schedulerserverconfig.CompletedConfig, sched *scheduler.Scheduler, leading func() bool, ready ...healthz.HealthChecker) error {
	secure := config.SecureServing
	if secure == nil {
		return nil
	}
	config.SecureServing = nil
	handler := secured(endpoints(config, leading, append(readiness(ctx, config, sched), ready...)), config)
	if _, _, err := secure.Serve(handler, shutdownTimeout, ctx.Done()); err != nil {
		return fmt.Errorf("serving the endpoints: %w", err)
	}
	return nil
}

// readiness returns kube-scheduler's own checks.
func readiness(ctx context.Context, config *schedulerserverconfig.CompletedConfig, sched *scheduler.Scheduler) (checks []healthz.HealthChecker) {
	synced := make(chan struct{})
	go func() {
		if sched.WaitForHandlersSync(ctx) == nil {
			close(synced)
		}
	}()
	if config.LeaderElection != nil {
		checks = append(checks, config.LeaderElection.WatchDog)
	}
	return append(checks, healthz.NewShutdownHealthz(ctx.Done()), healthz.NamedCheck("sched-handler-sync", func(*http.Request) error {
		select {
		case <-synced:
			return nil
		default:
			return errors.New("handlers are not fully synchronized")
		}
	}))
}

func endpoints(config *schedulerserverconfig.CompletedConfig, leading func() bool, ready []healthz.HealthChecker) *mux.PathRecorderMux {
	m := mux.NewPathRecorderMux(component)
	var live []healthz.HealthChecker
	if config.LeaderElection != nil {
		live = append(live, config.LeaderElection.WatchDog)
	}
	healthz.InstallHandler(m, live...)
	healthz.InstallLivezHandler(m)
	healthz.InstallReadyzHandler(m, ready...)
	configz.InstallHandler(m)
	m.Handle("/metrics", legacyregistry.HandlerWithReset())
	perPod := resources.Handler(config.InformerFactory.Core().V1().Pods().Lister())
	m.HandleFunc("/metrics/resources", func(w http.ResponseWriter, req *http.Request) {
		if leading() {
			perPod.ServeHTTP(w, req)
		}
	})
	slis.SLIMetricsWithReset{}.Install(m)
	if config.ComponentConfig.EnableProfiling {
		routes.Profiling{}.Install(m)
		if config.ComponentConfig.EnableContentionProfiling {
			goruntime.SetBlockProfileRate(1)
		}
		routes.DebugFlags{}.Install(m, "v", routes.StringFlagPutHandler(logs.GlogSetter))
	}
	if utilfeature.DefaultFeatureGate.Enabled(zpagesfeatures.ComponentFlagz) && config.Flagz != nil {
		flagz.Install(m, component, config.Flagz)
	}
	if utilfeature.DefaultFeatureGate.Enabled(zpagesfeatures.ComponentStatusz) {
		registry := statusz.NewRegistry(compatibility.DefaultBuildEffectiveVersion(), statusz.WithListedPaths(m.ListedPaths()))
		statusz.Install(m, component, registry)
	}
	return m
}

// secured lets only those through whom the configuration lets.
func secured(handler http.Handler, config *schedulerserverconfig.CompletedConfig) http.Handler {
	info := &apirequest.RequestInfoFactory{}
	handler = genericapifilters.WithAuthorization(handler, config.Authorization.Authorizer, scheme.Codecs)
	handler = genericapifilters.WithAuthentication(handler, config.Authentication.Authenticator, genericapifilters.Unauthorized(scheme.Codecs), nil, nil)
	handler = genericapifilters.WithRequestInfo(handler, info)
	handler = genericapifilters.WithCacheControl(handler)
	handler = genericfilters.WithHTTPLogging(handler)
	return genericfilters.WithPanicRecovery(handler, info)
}
