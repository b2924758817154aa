// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package containerruntime

import (
	"fmt"
	"path/filepath"
	"strings"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// runtimeName is what the toolkit's runtime is called; behind it can be a mode, as in nvidia-container-runtime.cdi.
const runtimeName = "nvidia-container-runtime"

// isNVIDIA says whether a low-level runtime is the toolkit's.
func isNVIDIA(binary string) bool {
	base := strings.TrimSuffix(filepath.Base(binary), ".real")
	return base == runtimeName || strings.HasPrefix(base, runtimeName+".")
}

// runtimeForms returns what a handler takes whose binary is the toolkit's runtime.
func runtimeForms(handler, binary string, t *toolkit) berthv1alpha1.RuntimeHandOff {
	r := berthv1alpha1.RuntimeHandOff{Handler: handler, Mode: t.mode}
	switch filepath.Ext(strings.TrimSuffix(filepath.Base(binary), ".real")) {
	case ".cdi":
		r.Mode = "cdi"
	case ".legacy":
		r.Mode = "legacy"
	}
	if refuses(t, &r) {
		return r
	}
	switch r.Mode {
	case "auto", "jit-cdi":
		r.Accepts = both()
		r.Message = fmt.Sprintf("mode %s of %s takes both forms", r.Mode, t.path)
	case "cdi":
		r.Accepts = both()[:1]
		r.Message = fmt.Sprintf("mode cdi of %s takes qualified names", t.path)
		// The toolkit makes the specification of its own kind for each container, so that every UUID is known (toolkit
		// 1.17 and later, internal/modifier/cdi.go).
		if t.kind == berthv1alpha1.CDIKindRuntime || t.kindHasUUIDs {
			r.Accepts = both()
			r.Message += fmt.Sprintf(", and UUIDs as devices of its default-kind %s", t.kind)
		} else {
			r.Message += fmt.Sprintf("; no UUIDs, for its default-kind %s has no such devices", t.kind)
		}
	case "legacy":
		// The runtime leaves it to the hook, which reads the configuration again.
		return hookForms(r, t)
	default:
		r.Message = fmt.Sprintf("mode %s takes no GPUs from Berth: set nvidia-container-runtime.mode in %s to auto", r.Mode, t.path)
	}
	return r
}

// hookForms completes what a handler takes for which the toolkit's OCI hook, and so nvidia-container-cli, hands out
// the GPUs: it knows UUIDs only.
func hookForms(r berthv1alpha1.RuntimeHandOff, t *toolkit) berthv1alpha1.RuntimeHandOff {
	if refuses(t, &r) {
		return r
	}
	if !t.hookInAnyMode && t.mode != "auto" && t.mode != "legacy" {
		r.Message = fmt.Sprintf("the toolkit's hook refuses to work in mode %s: set nvidia-container-runtime.mode in %s to auto, "+
			"or nvidia-container-runtime-hook.skip-mode-detection to true", t.mode, t.path)
		return r
	}
	r.Accepts = []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormUUID}
	r.Message = fmt.Sprintf("the toolkit's hook takes UUIDs only, by %s", t.path)
	return r
}

// refuses says whether the environment of containers without privileges is not heeded, and writes down why.
func refuses(t *toolkit, r *berthv1alpha1.RuntimeHandOff) bool {
	if !t.unprivileged {
		r.Message = fmt.Sprintf("containers cannot be given GPUs by their environment: set "+
			"accept-nvidia-visible-devices-envvar-when-unprivileged in %s to true", t.path)
	}
	return !t.unprivileged
}

// both are the forms of NVIDIA_VISIBLE_DEVICES, the preferred one first: a qualified name does not depend on a
// default-kind.
func both() []berthv1alpha1.DeviceForm {
	return []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormCDI, berthv1alpha1.DeviceFormUUID}
}
