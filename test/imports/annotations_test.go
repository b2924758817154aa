// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package imports

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestOneReaderOfAnnotations: what a pod's owner writes is read in api/v1alpha1, whose parser knows all forms of it; the
// scheduler asks there.
func TestOneReaderOfAnnotations(t *testing.T) {
	reads := regexp.MustCompile(`Annotations\[\w+\.Annotation(GPUMemory|Model|GPUCount|ContextLength|Parallel|KVCacheType|IdleAfter|MinRuntime|Container|GPUSharing|OnDeviceLost|OnOveruse|Evictable)\]`)
	files := 0
	err := filepath.WalkDir(filepath.Join("..", "..", "pkg", "plugin"), func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return err
		}
		files++
		text, err := os.ReadFile(file)
		for _, found := range reads.FindAll(text, -1) {
			t.Errorf("%s reads %s: let package api/v1alpha1 do it", file, found)
		}
		return err
	})
	if err != nil || files < 20 {
		t.Errorf("%d files were looked at: %v", files, err)
	}
	if !reads.MatchString("pod.Annotations[berthv1alpha1.AnnotationEvictable]") {
		t.Error("nothing would be found")
	}
}
