// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// api answers the requests of the scheduler as an apiserver would. It is a transport: no request leaves the process.
// What it does not know it refuses, and notes.
type api struct {
	world   *world
	kubelet *kubelet
	// evicted is called with each pod that is deleted.
	evicted func(pod *corev1.Pod)
	// unknown are the requests that were refused because a scheduler is not known to make them.
	unknown []string
}

// config is how a client reaches the api.
func (a *api) config() *rest.Config {
	return &rest.Config{
		Host: "http://simulator.invalid", Transport: a, QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON, AcceptContentTypes: runtime.ContentTypeJSON},
	}
}

// request is one request, taken apart.
type request struct {
	method      string
	group       string
	namespace   string
	resource    string
	name        string
	subresource string
	body        []byte
}

func (r *request) missing() error {
	return apierrors.NewNotFound(schema.GroupResource{Group: r.group, Resource: r.resource}, r.name)
}

func (r *request) conflict(format string, args ...any) error {
	return apierrors.NewConflict(schema.GroupResource{Group: r.group, Resource: r.resource}, r.name, fmt.Errorf(format, args...))
}

// RoundTrip implements http.RoundTripper.
func (a *api) RoundTrip(req *http.Request) (*http.Response, error) {
	r := parseRequest(req)
	if req.Body != nil {
		defer req.Body.Close()
		var err error
		if r.body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	answer, err := a.serve(&r)
	status := http.StatusOK
	if err != nil {
		known := apierrors.ReasonForError(err) != metav1.StatusReasonUnknown
		if !known {
			err = apierrors.NewInternalError(err)
		}
		var as apierrors.APIStatus = err.(apierrors.APIStatus)
		s := as.Status()
		answer, status = &s, int(s.Code)
	}
	if s, ok := answer.(*metav1.Status); ok {
		s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {runtime.ContentTypeJSON}}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}, nil
}

// parseRequest reads /api/v1/… and /apis/GROUP/VERSION/….
func parseRequest(req *http.Request) request {
	r := request{method: req.Method}
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	next := func() (s string) {
		if len(parts) > 0 {
			s, parts = parts[0], parts[1:]
		}
		return s
	}
	if next() == "apis" {
		r.group = next()
	}
	next() // the version
	if len(parts) > 2 && parts[0] == "namespaces" {
		next()
		r.namespace = next()
	}
	r.resource, r.name, r.subresource = next(), next(), next()
	return r
}

var done = &metav1.Status{Status: metav1.StatusSuccess}

func (a *api) serve(r *request) (runtime.Object, error) {
	switch r.method + " " + r.group + "/" + r.resource + "/" + r.subresource {
	case "POST /pods/binding":
		return done.DeepCopy(), a.bind(r)
	case "PATCH /pods/status":
		return a.patchPodStatus(r)
	case "DELETE /pods/":
		return done.DeepCopy(), a.deletePod(r)
	case "GET /pods/":
		return a.pod(r)
	case "POST /events/", "POST events.k8s.io/events/":
		return done.DeepCopy(), nil // whoever may be told of a simulation is told by its caller
	case "GET resource.k8s.io/resourceclaims/":
		if claim, ok := find[*resourcev1.ResourceClaim](a.world, r.namespace, r.name); ok {
			return claim, nil
		}
		return nil, r.missing()
	case "PUT resource.k8s.io/resourceclaims/", "PUT resource.k8s.io/resourceclaims/status", "POST resource.k8s.io/resourceclaims/":
		return a.store(r)
	}
	a.unknown = append(a.unknown, strings.Join([]string{r.method, r.group, r.resource, r.name, r.subresource}, " "))
	return nil, apierrors.NewForbidden(schema.GroupResource{Group: r.group, Resource: r.resource}, r.name,
		fmt.Errorf("the simulator knows of no scheduler that does this: %s", r.method))
}

func (a *api) pod(r *request) (*corev1.Pod, error) {
	if pod, ok := find[*corev1.Pod](a.world, r.namespace, r.name); ok {
		return pod, nil
	}
	return nil, r.missing()
}

// bind does what the registry of pods does with a Binding.
func (a *api) bind(r *request) error {
	binding := &corev1.Binding{}
	if err := json.Unmarshal(r.body, binding); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	pod, err := a.pod(r)
	switch {
	case err != nil:
		return err
	case binding.UID != "" && binding.UID != pod.UID:
		return r.conflict("the UID in the precondition is %s, the object's is %s", binding.UID, pod.UID)
	case pod.DeletionTimestamp != nil:
		return r.conflict("pod %s is being deleted, cannot be assigned to a host", pod.Name)
	case pod.Spec.NodeName != "":
		return r.conflict("pod %s is already assigned to node %q", pod.Name, pod.Spec.NodeName)
	}
	pod = pod.DeepCopy()
	pod.Spec.NodeName, pod.Status.NominatedNodeName = binding.Target.Name, ""
	pod.Annotations, pod.Labels = merged(pod.Annotations, binding.Annotations), merged(pod.Labels, binding.Labels)
	setCondition(pod, corev1.PodScheduled, corev1.ConditionTrue, a.world.clock.Now())
	if a.kubelet.atOnce {
		a.kubelet.start(pod)
		a.kubelet.ready(pod)
	}
	if err := a.world.put(pod); err != nil {
		return err
	}
	a.kubelet.bound(pod)
	return nil
}

func merged(into, more map[string]string) map[string]string {
	if into == nil && len(more) > 0 {
		into = map[string]string{}
	}
	for k, v := range more {
		into[k] = v
	}
	return into
}

func setCondition(pod *corev1.Pod, kind corev1.PodConditionType, status corev1.ConditionStatus, now time.Time) {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == kind {
			if c.Status != status {
				c.LastTransitionTime = metav1.NewTime(now)
			}
			c.Status, c.Reason, c.Message = status, "", ""
			return
		}
	}
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: metav1.NewTime(now)})
}

func (a *api) patchPodStatus(r *request) (runtime.Object, error) {
	pod, err := a.pod(r)
	if err != nil {
		return nil, err
	}
	before, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	after, err := strategicpatch.StrategicMergePatch(before, r.body, corev1.Pod{})
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	patched := &corev1.Pod{}
	if err := json.Unmarshal(after, patched); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if patched.UID != pod.UID { // by which the scheduler says which pod it means
		return nil, r.conflict("the UID in the precondition is %s, the object's is %s", patched.UID, pod.UID)
	}
	now := pod.DeepCopy()
	now.Status = patched.Status
	return now, a.world.put(now)
}

// deletePod does what the registry does with a pod that may take its time to end.
func (a *api) deletePod(r *request) error {
	options := &metav1.DeleteOptions{}
	if len(r.body) > 0 {
		if err := json.Unmarshal(r.body, options); err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
	}
	pod, err := a.pod(r)
	if err != nil {
		return err
	}
	if p := options.Preconditions; p != nil && p.UID != nil && *p.UID != pod.UID {
		return r.conflict("the UID in the precondition is %s, the object's is %s", *p.UID, pod.UID)
	}
	if pod.DeletionTimestamp == nil && a.evicted != nil {
		a.evicted(pod)
	}
	return a.kubelet.delete(pod, options.GracePeriodSeconds)
}

// store takes a whole object.
func (a *api) store(r *request) (runtime.Object, error) {
	obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(r.body, nil, nil)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if accessor, ok := obj.(metav1.Object); ok && accessor.GetUID() == "" {
		if accessor.GetName() == "" {
			a.world.version++
			accessor.SetName(fmt.Sprintf("%s%d", accessor.GetGenerateName(), a.world.version))
		}
		accessor.SetUID(types.UID("sim-" + r.resource + "-" + accessor.GetNamespace() + "-" + accessor.GetName()))
	}
	return obj, a.world.put(obj)
}
