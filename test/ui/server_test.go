// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// berth is the command that is tested, as make build leaves it, or another one.
var berth = cmp.Or(os.Getenv("KUBECTL_BERTH"), "../../bin/kubectl-berth")

// server is a running kubectl berth ui.
type server struct {
	address *url.URL
	command *exec.Cmd
}

// serve runs kubectl berth ui on a snapshot until the test ends.
func serve(t testing.TB, file string, flags ...string) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, berth, append([]string{"ui", "--from", file}, flags...)...)
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatalf("%v: make build makes it", err)
	}
	t.Cleanup(func() { cancel(); _ = command.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("it printed no address: %v", err)
	}
	address, err := url.Parse(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return &server{address: address, command: command}
}

// at is the address of a view.
func (s *server) at(view string) string { return s.address.String() + view }

// ask sends a request to the server's API.
func (s *server) ask(t testing.TB, method, path string, body io.Reader) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.address.Host+"/api/v1"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.address.Query().Get("token"))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %v, %s\n%s", method, path, err, response.Status, text)
	}
	return text
}

// Snapshots are of the small cluster and of the large, and made once.
var (
	files = struct {
		sync.Mutex
		folder string
		of     map[string]string
	}{of: map[string]string{}}
)

func snapshot(t testing.TB, name string, c func() *cluster) string {
	t.Helper()
	files.Lock()
	defer files.Unlock()
	if files.of[name] == "" {
		files.of[name] = c().write(t, files.folder+"/"+name+".json")
	}
	return files.of[name]
}

func smallFile(t testing.TB) string { return snapshot(t, "cluster", small) }
func largeFile(t testing.TB) string {
	return snapshot(t, "large", func() *cluster { return large(500) })
}

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "berth-ui")
	if err != nil {
		panic(err)
	}
	files.folder = folder
	code := m.Run()
	if browser.close != nil {
		browser.close()
	}
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// command runs kubectl berth on a snapshot, and returns what it prints. Answers of no have status 1.
func command(t testing.TB, file string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), berth, append(args, "--from", file)...)
	out, err := c.Output()
	if err != nil && c.ProcessState.ExitCode() != 1 {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// commandJSON is command with -o json, read.
func commandJSON[T any](t testing.TB, file string, args ...string) T {
	t.Helper()
	var value T
	if err := json.Unmarshal([]byte(command(t, file, append(args, "-o", "json")...)), &value); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return value
}

func decode(t testing.TB, text []byte, value any) {
	t.Helper()
	if err := json.Unmarshal(text, value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}
