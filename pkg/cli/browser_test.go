// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	bt "github.com/berth-dev/berth/internal/testing"
)

// TestTheBrowserIsNotToldTheToken, which would be in the list of processes for everybody to read, but a file that this user alone can
// read.
func TestTheBrowserIsNotToldTheToken(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the program that opens files is a script of this test on Linux only")
	}
	bin, said := t.TempDir(), filepath.Join(t.TempDir(), "said")
	script := "#!/bin/sh\necho \"$@\" > " + said + ".part\ncat \"$1\" >> " + said + ".part\nmv " + said + ".part " + said + "\n"
	if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	const address = "http://127.0.0.1:1/?token=SECRET"
	closed, err := openBrowser(address)
	if err != nil {
		t.Fatal(err)
	}
	bt.Eventually(t, "the browser is opened", func() bool { _, err := os.Stat(said); return err == nil })
	text, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	args, page, _ := strings.Cut(string(text), "\n")
	if strings.Contains(args, "SECRET") || !strings.Contains(page, `url=`+address) {
		t.Errorf("the browser is told %q, which has\n%s", args, page)
	}
	for path, want := range map[string]os.FileMode{args: 0o600, filepath.Dir(args): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	closed()
	if _, err := os.Stat(filepath.Dir(args)); !os.IsNotExist(err) {
		t.Errorf("the file stays: %v", err)
	}
}
