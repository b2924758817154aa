// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// entry is a file that a source lists.
type entry struct {
	name string
	size int64  // -1: not said
	id   string // changes with the content; "" when the source does not say
	file File   // when it had to be opened to be found
}

// choice is the files of a listing that one model is made of.
type choice struct {
	format    Format
	weights   []entry
	projector *entry
	configs   []entry
}

// configNames are the files that say what safetensors beside them hold.
var configNames = []string{"config.json", "hf_quant_config.json", "quantize_config.json", "quantization_config.json"}

// choose finds the model in a listing: the file that wanted names, the one in the folder that it names or, when it is
// empty, the one of the whole listing. suggest makes the URI of a file, for the message when there are several;
// nil where nobody may be told what there is.
func choose(entries []entry, wanted string, suggest func(name string) string) (*choice, error) {
	i := slices.IndexFunc(entries, func(e entry) bool { return e.name == wanted })
	if i < 0 {
		return chooseInFolder(entries, wanted, suggest)
	}
	folder := folderOf(wanted)
	switch {
	case strings.HasSuffix(wanted, ".gguf"):
		set, err := splitSet(entries, wanted)
		if err != nil {
			return nil, err
		}
		return &choice{format: FormatGGUF, weights: set, projector: projectorIn(entries, folder)}, nil
	case path.Base(wanted) == "config.json", strings.HasSuffix(wanted, ".safetensors.index.json"):
		return chooseSafetensors(entries, folder)
	case strings.HasSuffix(wanted, ".safetensors"):
		c, err := chooseSafetensors(entries, folder)
		if err == nil && shardPattern.FindString(wanted) == "" {
			c.weights = []entry{entries[i]}
		}
		return c, err
	}
	return nil, errorf(Unsupported, "%q is neither a .gguf nor a .safetensors file", wanted)
}

func chooseInFolder(entries []entry, folder string, suggest func(string) string) (*choice, error) {
	inside := entries
	if folder != "" {
		inside = slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return !strings.HasPrefix(e.name, folder+"/") })
		if len(inside) == 0 {
			return nil, errorf(NotFound, "the model has no file or folder %q", folder)
		}
	}
	if c, err := chooseSafetensors(inside, folder); err == nil || ReasonOf(err) == BadFile {
		return c, err
	}
	var first []string // the first part of each GGUF model
	for _, e := range inside {
		if m := splitPattern.FindStringSubmatch(e.name); isGGUFModel(e.name) && (m == nil || m[2] == "00001") {
			first = append(first, e.name)
		}
	}
	switch len(first) {
	case 0:
		return nil, nothingToRead(inside, folder)
	case 1:
		return choose(entries, first[0], suggest)
	}
	if suggest == nil {
		return nil, errorf(Unsupported, "there are %d GGUF models: name the file of one", len(first))
	}
	slices.Sort(first)
	shown := first[:min(len(first), 6)]
	for i := range shown {
		shown[i] = suggest(shown[i])
	}
	more := ""
	if len(first) > len(shown) {
		more = fmt.Sprintf(" or one of %d more", len(first)-len(shown))
	}
	return nil, errorf(Unsupported, "there are %d GGUF models: name one, %s%s", len(first), strings.Join(shown, ", "), more)
}

// nothingToRead says what is there instead of a model.
func nothingToRead(entries []entry, folder string) error {
	where := "the model"
	if folder != "" {
		where = strconv.Quote(folder)
	}
	has := func(suffix string) bool {
		return slices.ContainsFunc(entries, func(e entry) bool { return strings.HasSuffix(e.name, suffix) })
	}
	switch {
	case has(".safetensors"):
		return errorf(Unsupported, "%s has safetensors but no config.json beside them", where)
	case has(".bin") || has(".pth") || has(".pt"):
		return errorf(Unsupported, "%s has PyTorch weights only; convert them to safetensors or GGUF", where)
	}
	return errorf(Unsupported, "%s has no GGUF or safetensors files", where)
}

// chooseSafetensors takes all weights of one folder, whose config.json says what they are.
func chooseSafetensors(entries []entry, folder string) (*choice, error) {
	c := &choice{format: FormatSafetensors}
	for _, e := range entries {
		if folderOf(e.name) != folder {
			continue
		}
		base := path.Base(e.name)
		switch {
		case slices.Contains(configNames, base):
			c.configs = append(c.configs, e)
		case strings.HasSuffix(base, ".safetensors") && !strings.HasPrefix(base, "adapter_"):
			c.weights = append(c.weights, e)
		}
	}
	// Some repositories hold the same weights a second time in the layout of their maker.
	isConsolidated := func(e entry) bool { return strings.HasPrefix(path.Base(e.name), "consolidated") }
	if slices.ContainsFunc(c.weights, func(e entry) bool { return !isConsolidated(e) }) {
		c.weights = slices.DeleteFunc(c.weights, isConsolidated)
	}
	if len(c.weights) == 0 || !slices.ContainsFunc(c.configs, func(e entry) bool { return path.Base(e.name) == "config.json" }) {
		return nil, nothingToRead(entries, folder)
	}
	slices.SortFunc(c.weights, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	return c, wholeSets(c.weights)
}

var (
	// splitPattern is how llama.cpp names the parts of a GGUF model, shardPattern how safetensors are named.
	splitPattern = regexp.MustCompile("^(.*)-([0-9]{5})-of-([0-9]{5})[.]gguf$")
	shardPattern = regexp.MustCompile("^(.*)-([0-9]{5,6})-of-([0-9]{5,6})[.]safetensors$")
)

// maxParts is more than any model is cut into.
const maxParts = 2000

// splitSet returns the parts of the GGUF model that name is a part of, in order.
func splitSet(entries []entry, name string) ([]entry, error) {
	names, err := splitNames(name)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]entry, len(entries))
	for _, e := range entries {
		byName[e.name] = e
	}
	set := make([]entry, len(names))
	for i, n := range names {
		var ok bool
		if set[i], ok = byName[n]; !ok {
			return nil, errorf(BadFile, "the part %q of the model is missing", n)
		}
	}
	return set, nil
}

// splitNames returns the names of all parts of the GGUF model that name is a part of; name alone if it is whole.
func splitNames(name string) ([]string, error) {
	m := splitPattern.FindStringSubmatch(name)
	if m == nil {
		return []string{name}, nil
	}
	number, _ := strconv.Atoi(m[2])
	count, _ := strconv.Atoi(m[3])
	if number < 1 || number > count || count > maxParts {
		return nil, errorf(BadFile, "%q cannot be a part of a model", name)
	}
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%05d-of-%s.gguf", m[1], i+1, m[3])
	}
	return names, nil
}

// wholeSets fails when a shard is missing of what says that it is one of so many.
func wholeSets(shards []entry) error {
	seen := map[string]int{}
	for _, e := range shards {
		if m := shardPattern.FindStringSubmatch(e.name); m != nil {
			seen[m[1]+" of "+m[3]]++
		}
	}
	for _, e := range shards {
		m := shardPattern.FindStringSubmatch(e.name)
		if m == nil {
			continue
		}
		if count, _ := strconv.Atoi(m[3]); seen[m[1]+" of "+m[3]] != count {
			return errorf(BadFile, "%d of the %d shards of %q are there", seen[m[1]+" of "+m[3]], count, m[1])
		}
	}
	return nil
}

// folderOf returns the folder that a file is in, "" for the root.
func folderOf(name string) string {
	if dir := path.Dir(name); dir != "." {
		return dir
	}
	return ""
}

func isGGUFModel(name string) bool {
	return strings.HasSuffix(name, ".gguf") && !isProjector(name) && !strings.Contains(strings.ToLower(path.Base(name)), "imatrix")
}

// isProjector tells the vision towers that llama.cpp's converter writes.
func isProjector(name string) bool {
	return strings.Contains(strings.ToLower(path.Base(name)), "mmproj")
}

// projectorIn returns the vision tower in a folder, the largest if there are several: the engine picks one by rules
// of its own, and too little must not be booked.
func projectorIn(entries []entry, folder string) *entry {
	var found *entry
	for i, e := range entries {
		if strings.HasSuffix(e.name, ".gguf") && isProjector(e.name) && folderOf(e.name) == folder &&
			(found == nil || found.size < e.size) {
			found = &entries[i]
		}
	}
	return found
}
