// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/redact"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
)

// None is the group of what has no such thing: no label, no model, no node pool.
const None = "(none)"

// By is what pods are grouped by.
type By struct{ key, label string }

// Keys are the groupings that have a name; any other is the key of a label.
var Keys = []string{"namespace", "model", "owner", "node-pool"}

// labelPrefix marks a label whose key is one of Keys.
const labelPrefix = "label="

// ParseBy reads a grouping.
func ParseBy(text string) (By, error) {
	if slices.Contains(Keys, text) {
		return By{key: text}, nil
	}
	label := strings.TrimPrefix(text, labelPrefix)
	if problems := validation.IsQualifiedName(label); len(problems) > 0 {
		return By{}, fmt.Errorf("%q is neither one of %s nor the key of a label, such as app.kubernetes.io/name", text, strings.Join(Keys, ", "))
	}
	return By{label: label}, nil
}

// String returns the grouping as ParseBy reads it.
func (b By) String() string {
	if slices.Contains(Keys, b.label) {
		return labelPrefix + b.label
	}
	return cmp.Or(b.key, b.label)
}

func (b By) isNodePool() bool { return b.key == "node-pool" }

// NeedsOwners says whether who owns the owners of pods must be known.
func (b By) NeedsOwners() bool { return b.key == "owner" }

// grouper puts pods into groups.
type grouper struct {
	objects *Objects
	by      By
	nodes   map[string]*corev1.Node
	// labelled says whether any pod or node had what is grouped by, and unfollowed which kinds of owners were not read.
	labelled   bool
	unfollowed map[string]bool
}

func (g *grouper) groupOf(p *pod) string {
	name := ""
	switch {
	case g.by.key == "namespace":
		return p.namespace
	case g.by.isNodePool():
		return g.poolOf(p.node)
	case p.object == nil:
	case g.by.key == "model":
		name = redact.URI(p.object.Annotations[berthv1alpha1.AnnotationModel])
	case g.by.key == "owner":
		return g.ownerOf(p.object)
	default:
		name = p.object.Labels[g.by.label]
	}
	g.labelled = g.labelled || name != ""
	return cmp.Or(name, None)
}

func (g *grouper) poolOf(node string) string {
	name := ""
	if n := g.nodes[node]; n != nil {
		name = gpumap.NodePool(n)
	}
	g.labelled = g.labelled || name != ""
	return cmp.Or(name, None)
}

// maxOwners is how far owners are followed.
const maxOwners = 8

// ownerOf names the top controller of a pod: NAMESPACE/KIND/NAME. A pod without one is its own.
func (g *grouper) ownerOf(object *corev1.Pod) string {
	kind, name := "Pod", object.Name
	refs, known := object.OwnerReferences, true
	for range maxOwners {
		i := slices.IndexFunc(refs, func(r metav1.OwnerReference) bool { return r.Controller != nil && *r.Controller })
		if i < 0 || refs[i].Kind == "Node" { // which owns the pods that its kubelet makes of files
			break
		}
		kind, name = refs[i].Kind, refs[i].Name
		if refs, known = g.objects.Owners[refs[i].UID]; !known {
			break
		}
	}
	if !known && (kind == "ReplicaSet" || kind == "Job") { // most of which are owned by something else
		if g.unfollowed == nil {
			g.unfollowed = map[string]bool{}
		}
		g.unfollowed[kind] = true
	}
	return object.Namespace + "/" + kind + "/" + name
}

// notes say what the groups lack; any says whether there is anything to group.
func (g *grouper) notes(any bool) (notes []string) {
	for _, kind := range []string{"Job", "ReplicaSet"} {
		if g.unfollowed[kind] {
			notes = append(notes, fmt.Sprintf("Not all %ss could be read: their pods are shown under them, not under what owns those", kind))
		}
	}
	switch {
	case !any || g.labelled:
	case g.by.label != "":
		notes = append(notes, fmt.Sprintf("No pod on these GPUs has a label %s; --by takes one of %s, or the key of a label of pods", g.by.label, strings.Join(Keys, ", ")))
	case g.by.isNodePool():
		notes = append(notes, "No node says its pool by one of the labels that are known: "+strings.Join(gpumap.PoolLabels, ", "))
	}
	return notes
}
