// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshotfile

import (
	"regexp"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// redacted stands for what is not in the file.
const redacted = "REDACTED"

var (
	// kept are the variables whose values a scheduler reads: how engines split a model.
	kept = regexp.MustCompile(`^(OLLAMA_|LLAMA_ARG_|VLLM_|CUDA_|NVIDIA_VISIBLE_DEVICES$|BERTH_)`)
	// secret is what may be the name of a secret.
	secret = regexp.MustCompile(`(?i)(^|[^a-z])(api-?key|key|token|secret|password|passwd|credentials?|auth|authorization|bearer)([^a-z]|$)`)
	// references are all that a value may have that is kept although its variable is not known.
	references = regexp.MustCompile(`^(\$\([A-Za-z0-9_]+\))*$`)
)

// redact takes out of an object what must not be in a file that is passed on: values of environment variables but for
// those that a scheduler reads, arguments that may be secrets, what kubectl apply remembers, templates of workloads.
func redact(obj runtime.Object, accessor metav1.Object) {
	annotations := accessor.GetAnnotations()
	if _, ok := annotations[corev1.LastAppliedConfigAnnotation]; ok {
		delete(annotations, corev1.LastAppliedConfigAnnotation)
		accessor.SetAnnotations(annotations)
	}
	switch o := obj.(type) {
	case *corev1.Pod:
		redactSpec(&o.Spec)
	case *appsv1.ReplicaSet:
		o.Spec.Template.Spec = corev1.PodSpec{}
	case *appsv1.StatefulSet:
		o.Spec.Template.Spec = corev1.PodSpec{}
	}
}

func redactSpec(spec *corev1.PodSpec) {
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			c := &containers[i]
			redactEnv(c.Env)
			c.Command, c.Args = redactArgs(c.Command), redactArgs(c.Args)
			c.LivenessProbe, c.ReadinessProbe, c.StartupProbe, c.Lifecycle = nil, nil, nil, nil
		}
	}
	for i := range spec.EphemeralContainers {
		c := &spec.EphemeralContainers[i]
		redactEnv(c.Env)
		c.Command, c.Args = redactArgs(c.Command), redactArgs(c.Args)
	}
}

func redactEnv(env []corev1.EnvVar) {
	for i := range env {
		v := &env[i]
		if v.Value != "" && (secret.MatchString(v.Name) || !kept.MatchString(v.Name)) && !references.MatchString(v.Value) {
			v.Value = redacted
		}
	}
}

// redactArgs returns arguments without the values of flags that may be secrets, and without what a shell is to run if that
// has such flags.
func redactArgs(args []string) []string {
	out := make([]string, len(args))
	next := false
	for i, arg := range args {
		name, _, hasValue := strings.Cut(arg, "=")
		isFlag := strings.HasPrefix(arg, "-")
		switch {
		case next && !isFlag:
			out[i] = redacted
		case isFlag && secret.MatchString(name) && hasValue:
			out[i] = name + "=" + redacted
		case !isFlag && secret.MatchString(arg):
			out[i] = redacted
		default:
			out[i] = arg
		}
		next = isFlag && !hasValue && secret.MatchString(arg)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
