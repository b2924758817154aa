// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator/engineargs"
)

// shortFlags are the engines' flags of one hyphen and several letters, which pflag would take for as many flags.
var shortFlags = map[string]string{
	"-ngl": "--gpu-layers", "-np": "--parallel", "-ub": "--ubatch-size", "-ctk": "--kv-cache-type", "-ctv": "--kv-cache-type-v",
	"-fa": "--flash-attention", "-kvu": "--kv-unified", "-sm": "--split-mode", "-ts": "--tensor-split", "-cmoe": "--experts-on-cpu",
	"-ncmoe": "--cpu-expert-layers", "-nkvo": "--no-kv-offload", "-mm": "--mmproj", "-tp": "--tensor-parallel-size",
	"-pp": "--pipeline-parallel-size", "-ep": "--enable-expert-parallel",
}

// switches are the flags whose value the engines take behind a space, and may leave out.
var switches = map[string]bool{"--flash-attention": true, "--flash-attn": true, "--kv-unified": true}

// EngineSpelling rewrites the arguments of "berth estimate" from the engines' spelling to this command's: "-ngl 20" to
// "--gpu-layers 20", "--flash-attn on" to "--flash-attn=on". People copy them from command lines. The arguments of
// other commands are left as they are.
func EngineSpelling(args []string) []string {
	start := slices.Index(args, "estimate")
	if start < 0 {
		return args
	}
	out := slices.Clone(args[:start])
	for i := start; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		if name == "--" {
			return append(out, args[i:]...)
		}
		if long, ok := shortFlags[name]; ok {
			name = long
		}
		switch {
		case joined:
			name += "=" + value
		case switches[strings.ReplaceAll(name, "_", "-")] && i+1 < len(args) && isSwitch(args[i+1]):
			i++
			name += "=" + args[i]
		}
		out = append(out, name)
	}
	return out
}

func isSwitch(word string) bool {
	switch strings.ToLower(word) {
	case "on", "off", "auto", "true", "false", "1", "0", "enabled", "disabled":
		return true
	}
	return false
}

// number is a flag of a whole number as the engines read it: 32768, 32k, 32K; auto and -1 stand for their default.
type number struct{ target *int64 }

func (n number) Set(s string) error {
	if s == "auto" || s == "-1" {
		*n.target = 0
		return nil
	}
	v, ok := engineargs.ParseNumber(s)
	if !ok {
		return fmt.Errorf("%q is not a whole number, such as 32768 or 32k", s)
	}
	*n.target = v
	return nil
}

func (n number) String() string {
	if n.target == nil {
		return "0"
	}
	return strconv.FormatInt(*n.target, 10)
}

func (number) Type() string { return "tokens" }
