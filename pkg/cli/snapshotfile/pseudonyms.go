// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshotfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Replace says which names a file has pseudonyms for.
type Replace struct {
	// Pods are the names of pods, of namespaces, of what is in these, and the values of their labels.
	Pods bool
	// Nodes are the names of nodes.
	Nodes bool
}

// pseudonyms are what names are replaced by. A name is replaced word by word, and words get pseudonyms in their order: so
// names that were equal, that began with one another or that stood in an order still do, and the scheduler decides the
// same. (It finds the Deployment of a ReplicaSet by its name, and ends ties by names.)
type pseudonyms struct {
	words map[string]string
	nodes map[string]string
	// namespaces and objects are the names that are looked for in texts.
	namespaces, objects map[string]bool
}

var (
	word = regexp.MustCompile(`[A-Za-z0-9]+`)
	// number tells nothing, and is left for people to tell replicas by.
	number = regexp.MustCompile(`^[0-9]{1,3}$`)
	// quoted is what may be a name in a text, with its namespace or without.
	quoted = regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9.-]*(/[A-Za-z0-9][A-Za-z0-9.-]*)?`)
)

// wellKnown are names and values that are the same in all clusters, and that Berth goes by.
var wellKnown = map[string]bool{
	"default": true, "kube-system": true, "kube-public": true, "kube-node-lease": true, berthv1alpha1.Namespace: true,
	"berth-scheduler": true, "berth-controller": true, "berth-agent": true, "true": true, "false": true, "": true,
}

// newPseudonyms gives the names of objects pseudonyms.
func newPseudonyms(objects []runtime.Object, notes []string, replace Replace) *pseudonyms {
	p := &pseudonyms{words: map[string]string{}, nodes: map[string]string{}, namespaces: map[string]bool{}, objects: map[string]bool{}}
	if replace.Nodes {
		p.nameNodes(objects)
	}
	if !replace.Pods {
		return p
	}
	for _, obj := range objects {
		if m, ok := obj.(interface{ GetNamespace() string }); ok && m.GetNamespace() != "" {
			p.namespaces[m.GetNamespace()] = true
			p.objects[obj.(interface{ GetName() string }).GetName()] = true
		}
	}
	learn := &visitor{name: func(name string) string { p.learn(name); return name }}
	learn.text = p.inText(learn.name)
	for _, obj := range objects {
		learn.visit(obj)
	}
	for _, note := range notes {
		learn.text(note)
	}
	p.number(p.words, "w")
	return p
}

func (p *pseudonyms) nameNodes(objects []runtime.Object) {
	for _, obj := range objects {
		if node, ok := obj.(*corev1.Node); ok {
			p.nodes[node.Name] = ""
		}
	}
	p.number(p.nodes, "node-")
}

func (p *pseudonyms) number(of map[string]string, prefix string) {
	var all []string
	for name := range of {
		all = append(all, name)
	}
	slices.Sort(all)
	width := len(fmt.Sprint(len(all)))
	for i, name := range all {
		of[name] = fmt.Sprintf("%s%0*d", prefix, width, i)
	}
}

func (p *pseudonyms) learn(name string) {
	if wellKnown[name] {
		return
	}
	for _, w := range word.FindAllString(name, -1) {
		if !number.MatchString(w) {
			p.words[w] = ""
		}
	}
}

// name returns the pseudonym of a name.
func (p *pseudonyms) name(name string) string {
	if wellKnown[name] {
		return name
	}
	return word.ReplaceAllStringFunc(name, func(w string) string {
		if number.MatchString(w) {
			return w
		}
		return p.words[w]
	})
}

// inText returns what replaces the names that are quoted in a text: those that follow their namespace, and those of objects
// that there are.
func (p *pseudonyms) inText(name func(string) string) func(string) string {
	return func(text string) string {
		return quoted.ReplaceAllStringFunc(text, func(found string) string {
			trimmed := found
			for len(trimmed) > 0 && trimmed[len(trimmed)-1] == '.' { // the end of a sentence
				trimmed = trimmed[:len(trimmed)-1]
			}
			end := found[len(trimmed):]
			match := quoted.FindStringSubmatchIndex(trimmed)
			if match[2] >= 0 {
				if namespace := trimmed[:match[2]]; p.namespaces[namespace] {
					return name(namespace) + "/" + name(trimmed[match[2]+1:]) + end
				}
			}
			if p.objects[trimmed] || p.namespaces[trimmed] {
				return name(trimmed) + end
			}
			return found
		})
	}
}

// withoutNodes returns JSON with pseudonyms for the names of nodes, wherever one is a value, or is named in a message.
func (p *pseudonyms) withoutNodes(text []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return json.Marshal(p.replaceNodes(value))
}

func (p *pseudonyms) replaceNodes(value any) any {
	switch v := value.(type) {
	case string:
		if other, ok := p.nodes[v]; ok {
			return other
		}
		return v
	case []any:
		for i := range v {
			v[i] = p.replaceNodes(v[i])
		}
	case map[string]any:
		for key := range v {
			if text, ok := v[key].(string); ok && key == "message" {
				v[key] = p.nodesIn(text)
				continue
			}
			v[key] = p.replaceNodes(v[key])
		}
	}
	return value
}

func (p *pseudonyms) nodesIn(text string) string {
	return quoted.ReplaceAllStringFunc(text, func(found string) string {
		if other, ok := p.nodes[found]; ok {
			return other
		}
		return found
	})
}
