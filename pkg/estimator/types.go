// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import "github.com/berth-dev/berth/pkg/model"

// The types that are shared with the API objects, by their names here.
type (
	Model         = model.Model
	Format        = model.Format
	WeightsSource = model.WeightsSource
	Experts       = model.Experts
	LayerKind     = model.LayerKind
	LayerKindName = model.LayerKindName
	PlacedWeights = model.PlacedWeights
	Vision        = model.Vision
	Draft         = model.Draft
	Runtime       = model.Runtime
	Settings      = model.Settings
	Switch        = model.Switch
	Layers        = model.Layers
)

const (
	FormatGGUF        = model.FormatGGUF
	FormatSafetensors = model.FormatSafetensors

	WeightsFromTensors  = model.WeightsFromTensors
	WeightsFromConfig   = model.WeightsFromConfig
	WeightsFromFileSize = model.WeightsFromFileSize

	LayerAttention     = model.LayerAttention
	LayerSlidingWindow = model.LayerSlidingWindow
	LayerLatent        = model.LayerLatent
	LayerRecurrent     = model.LayerRecurrent
	LayerCross         = model.LayerCross
	LayerStateless     = model.LayerStateless

	RuntimeCustom   = model.RuntimeCustom
	RuntimeVLLM     = model.RuntimeVLLM
	RuntimeOllama   = model.RuntimeOllama
	RuntimeLlamaCpp = model.RuntimeLlamaCpp
	RuntimeSGLang   = model.RuntimeSGLang
	RuntimeTensorRT = model.RuntimeTensorRT

	SwitchDefault = model.SwitchDefault
	SwitchOn      = model.SwitchOn
	SwitchOff     = model.SwitchOff
)

// LayersOf returns n layers; a negative n means all, as engines have it.
func LayersOf(n int64) Layers { return model.LayersOf(n) }
