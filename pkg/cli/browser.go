// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// redirect sends a browser on to an address.
const redirect = `<!doctype html><meta charset="utf-8"><title>kubectl berth ui</title><meta http-equiv="refresh" content="0; url=%[1]s"><a href="%[1]s">kubectl berth ui</a>
`

// openBrowser opens an address that has a secret in it. The browser is told a file of this user's that leads there, and not the address:
// everybody on the machine can read what programs are started with. closed takes the file away.
func openBrowser(address string) (closed func(), err error) {
	folder, err := os.MkdirTemp("", "kubectl-berth-") // which this user alone may read
	if err != nil {
		return func() {}, err
	}
	closed = func() { _ = os.RemoveAll(folder) }
	file := filepath.Join(folder, "open.html")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return closed, err
	}
	_, err = fmt.Fprintf(f, redirect, html.EscapeString(address))
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return closed, err
	}
	name, args := opener(runtime.GOOS)
	command := exec.Command(name, append(args, file)...) // which stays when this program ends: some are the browser itself
	if err := command.Start(); err != nil {
		return closed, err
	}
	go func() { _ = command.Wait() }()
	return closed, nil
}

// opener returns the program that opens a file with what the user has for it.
func opener(system string) (name string, args []string) {
	switch system {
	case "darwin":
		return "open", nil
	case "windows":
		return "rundll32", []string{"url.dll,FileProtocolHandler"}
	}
	return "xdg-open", nil
}
