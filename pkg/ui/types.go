// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-dev/berth/pkg/cli/explain"
	"github.com/berth-dev/berth/pkg/cli/whatif"
	"github.com/berth-dev/berth/pkg/estimator"
)

// APIVersion is that of all documents.
const APIVersion = "cli.berth.dev/v1alpha1"

// Kinds of the documents that are of no command.
const (
	KindSession  = "Session"
	KindManifest = "Manifest"
	KindHistory  = "History"
	KindModels   = "Models"
	KindError    = "Error"
)

// Session is what is looked at.
type Session struct {
	metav1.TypeMeta `json:",inline"`
	// Version is that of this program.
	Version string `json:"version"`
	// File is the snapshot; empty if it is a cluster. Then Context is the name that the kubeconfig has for it, and Server where it is.
	File    string `json:"file,omitempty"`
	Context string `json:"context,omitempty"`
	Server  string `json:"server,omitempty"`
	// Namespace is that of manifests that name none.
	Namespace string `json:"namespace"`
	// Live says how changes are learnt of.
	Live Live `json:"live"`
	// Revision is the one that is answered of now.
	Revision int64 `json:"revision"`
}

// Live is how changes are learnt of.
type Live string

const (
	// LiveWatch: they are told as they happen. LivePoll: it is looked again every 15 s, since the user may not watch. LiveNever: a
	// file does not change.
	LiveWatch Live = "watch"
	LivePoll  Live = "poll"
	LiveNever Live = "never"
)

// Question is the body of a what-if: the flags of kubectl berth what-if, by their meaning. Manifest or Form, or neither: then it
// is asked about drained nodes, or what waits.
type Question struct {
	// Manifest is YAML or JSON, of one document or several. Namespace is that of what names none.
	Manifest  string `json:"manifest,omitempty"`
	Form      *Form  `json:"form,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	// The others are as the flags of the same names take them: addNode, cordon, drain, without, priority, strategy.
	whatif.Changes `json:",inline"`
}

// Form is a Deployment in short. Values are as the annotations of the same names have them; GPUMemory or Model is needed.
type Form struct {
	// Name is what it is called; "what-if" if empty.
	Name          string `json:"name,omitempty"`
	Namespace     string `json:"namespace,omitempty"`
	Model         string `json:"model,omitempty"`
	GPUMemory     string `json:"gpuMemory,omitempty"`
	Runtime       string `json:"runtime,omitempty"`
	GPUCount      string `json:"gpuCount,omitempty"`
	ContextLength string `json:"contextLength,omitempty"`
	Parallel      string `json:"parallel,omitempty"`
	KVCacheType   string `json:"kvCacheType,omitempty"`
	// Replicas is 1 if it is 0.
	Replicas int32 `json:"replicas,omitempty"`
}

// Manifest is what a form stands for.
type Manifest struct {
	metav1.TypeMeta `json:",inline"`
	// Manifest is YAML, as kubectl berth what-if -f takes it.
	Manifest string `json:"manifest"`
}

// History is what is recorded of decisions and evictions.
type History struct {
	metav1.TypeMeta `json:",inline"`
	Time            metav1.Time `json:"time"`
	// Entries are the latest, the latest first; Left is how many more there are.
	Entries []HistoryEntry `json:"entries"`
	Left    int            `json:"left,omitempty"`
	Notes   []string       `json:"notes,omitempty"`
}

// HistoryEntry is an entry of the history of an Explanation, with the pod that it is of.
type HistoryEntry struct {
	whatif.Name `json:",inline"`
	// Eviction says that it tells of an eviction of the pod; else it is of a decision about it.
	Eviction bool `json:"eviction,omitempty"`
	// For is the pod that it was evicted for, where that is known.
	For           *whatif.Name `json:"for,omitempty"`
	explain.Entry `json:",inline"`
}

// Models is what is known of the models of a cluster. Memory is in bytes.
type Models struct {
	metav1.TypeMeta `json:",inline"`
	Time            metav1.Time `json:"time"`
	Models          []Model     `json:"models"`
	Notes           []string    `json:"notes,omitempty"`
}

// Model is what a ModelProfile says.
type Model struct {
	// Profile is the name of the ModelProfile, and Source the URI that pods name.
	Profile string `json:"profile"`
	Source  string `json:"source"`
	// Ready says that its size is known; else Message says why not.
	Ready        bool   `json:"ready"`
	Message      string `json:"message,omitempty"`
	Architecture string `json:"architecture,omitempty"`
	Quantization string `json:"quantization,omitempty"`
	FileSize     int64  `json:"fileSize,omitempty"`
	// Peaks are what was measured of pods that ran it, the latest first.
	Peaks []Peak `json:"peaks"`
}

// Peak is the most that pods were measured to hold, on each GPU, the largest first.
type Peak struct {
	Namespace string `json:"namespace,omitempty"`
	// Runtime is the engine, and Settings how it was told to run the model, as the ModelProfile has them.
	Runtime  string             `json:"runtime,omitempty"`
	Settings estimator.Settings `json:"settings"`
	GPUs     int                `json:"gpus"`
	Measured []int64            `json:"measured"`
	// Fills says that the engine takes all that it is booked: then Measured says nothing of what it needs, and Excess, the most that a
	// GPU held beyond what was booked by the estimate, says what the estimate lacks.
	Fills  bool  `json:"fills,omitempty"`
	Excess int64 `json:"excess,omitempty"`
	// Samples is how many pods were measured, and Time when last.
	Samples int         `json:"samples"`
	Time    metav1.Time `json:"time"`
	// Estimate is what kubectl berth estimate says for the same settings, on a GPU of which nothing is known; absent if Problem says
	// why there is none.
	Estimate []int64 `json:"estimate,omitempty"`
	Problem  string  `json:"problem,omitempty"`
}

// Error is why there is no answer.
type Error struct {
	metav1.TypeMeta `json:",inline"`
	Code            int    `json:"code"`
	Message         string `json:"message"`
}
