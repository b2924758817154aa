// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/ui"
)

// asked is a question to the page's server, and the command that it is.
type asked struct {
	path, body string
	args       []string
	stdin      string
}

// answer asks the server of a world, in this process.
func (a *asked) answer(t *testing.T, world *ui.World) (code int, text string) {
	t.Helper()
	const token, host = "secret", "127.0.0.1:1"
	server, err := ui.NewServer(world, fstest.MapFS{}, token, host)
	if err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, a.path, nil)
	if a.body != "" {
		request = httptest.NewRequestWithContext(t.Context(), http.MethodPost, a.path, strings.NewReader(a.body))
		request.Header.Set("Content-Type", "application/json")
	}
	request.Host = host
	request.Header.Set("Authorization", "Bearer "+token)
	response := httptest.NewRecorder()
	server.ServeHTTP(response, request)
	return response.Code, response.Body.String()
}

// whatIfBody is the body of a question with a manifest.
func whatIfBody(t *testing.T, q ui.Question) string {
	t.Helper()
	text, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// compact is JSON without spaces, as the server sends it.
func compact(t *testing.T, text string) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, []byte(text)); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out.String() + "\n"
}

// TestThePageSaysWhatTheCommandsSay, byte by byte but for the spaces, of the snapshot that is shipped.
func TestThePageSaysWhatTheCommandsSay(t *testing.T) {
	file := filepath.Join("..", "..", "hack", "look", "cluster.json.gz")
	world, err := ui.OfFile(file, "default")
	if err != nil {
		t.Fatal(err)
	}
	text := manifest("2", "30Gi")
	form := ui.Form{Name: "f", GPUMemory: "30Gi", Runtime: "vllm", GPUCount: "1,2", Replicas: 2}
	_, made := (&asked{path: "/api/v1/manifest", body: whatIfFormBody(t, form)}).answer(t, world)
	var ofForm ui.Manifest
	if err := json.Unmarshal([]byte(made), &ofForm); err != nil || ofForm.Kind != ui.KindManifest {
		t.Fatalf("%v: %s", err, made)
	}
	for _, tt := range []asked{
		{path: "/api/v1/map", args: []string{"top"}},
		{path: "/api/v1/map?node=h100&node=a100", args: []string{"top", "h100", "a100"}},
		{path: "/api/v1/usage?by=namespace", args: []string{"top", "--by", "namespace"}},
		{path: "/api/v1/usage?by=owner&namespace=default", args: []string{"top", "--by", "owner", "-n", "default"}},
		{path: "/api/v1/usage?by=model", args: []string{"top", "--by", "model"}},
		{path: "/api/v1/usage?by=node-pool", args: []string{"top", "--by", "node-pool"}},
		{path: "/api/v1/usage?by=app", args: []string{"top", "--by", "app"}},
		{path: "/api/v1/pods/default/llama-405b-6b8489b64c-c7mnf/explain", args: []string{"explain", "pod/llama-405b-6b8489b64c-c7mnf"}},
		{path: "/api/v1/what-if", args: []string{"what-if"}},
		{path: "/api/v1/what-if", body: whatIfBody(t, ui.Question{Manifest: text}), args: []string{"what-if", "-f", "-"}, stdin: text},
		{path: "/api/v1/what-if", body: whatIfBody(t, ui.Question{Manifest: text, Namespace: "other"}), args: []string{"what-if", "-f", "-", "-n", "other"}, stdin: text},
		{path: "/api/v1/what-if", body: whatIfBody(t, ui.Question{Form: &form}), args: []string{"what-if", "-f", "-"}, stdin: ofForm.Manifest},
		{path: "/api/v1/what-if", body: `{"addNode":["h200-141x8=2"],"strategy":"LeastAllocated"}`, args: []string{"what-if", "--add-node", "h200-141x8=2", "--strategy", "LeastAllocated"}},
		{path: "/api/v1/what-if", body: whatIfBody(t, ui.Question{Manifest: text + "\n---\n{apiVersion: v1, kind: Service, metadata: {name: s}}"}),
			args: []string{"what-if", "-f", "-"}, stdin: text + "\n---\n{apiVersion: v1, kind: Service, metadata: {name: s}}"},
	} {
		t.Run(strings.Join(tt.args, " ")+" "+tt.body, func(t *testing.T) {
			var out, problems bytes.Buffer
			command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(tt.stdin), Out: &out, ErrOut: &problems})
			command.SetArgs(append(tt.args, "-o", "json", "--from", file))
			if err := command.ExecuteContext(t.Context()); ExitCode(err) > 1 {
				t.Fatalf("%v\n%s", err, &problems)
			}
			code, got := tt.answer(t, world)
			if code != http.StatusOK {
				t.Fatalf("%d: %s", code, got)
			}
			if diff := cmp.Diff(compact(t, out.String()), got); diff != "" {
				t.Errorf("(-command +page)\n%s", diff)
			}
		})
	}
}

func whatIfFormBody(t *testing.T, f ui.Form) string {
	t.Helper()
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// times are what differs between two looks at a cluster.
var times = regexp.MustCompile(`"time":"[^"]*"`)

// TestThePageSaysOfAClusterWhatTheCommandsSay, and refuses in the same words what a user may not read.
func TestThePageSaysOfAClusterWhatTheCommandsSay(t *testing.T) {
	waits := bt.MakePod("waits").Memory("60Gi").Obj()
	lists := used()
	pods := lists[podsPath].(corev1.PodList)
	pods.Items = append(pods.Items, *waits)
	lists[podsPath] = pods
	lists["/api/v1/namespaces/default/events"] = corev1.EventList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "EventList"}}
	lists["/api/v1/events"] = lists["/api/v1/namespaces/default/events"]
	questions := []asked{
		{path: "/api/v1/map", args: []string{"top"}},
		{path: "/api/v1/map?node=nowhere", args: []string{"top", "nowhere"}},
		{path: "/api/v1/usage?by=namespace", args: []string{"top", "--by", "namespace"}},
		{path: "/api/v1/usage?by=owner&namespace=default", args: []string{"top", "--by", "owner", "-n", "default"}},
		{path: "/api/v1/pods/default/waits/explain", args: []string{"explain", "pod/waits"}},
		{path: "/api/v1/pods/default/nobody/explain", args: []string{"explain", "pod/nobody"}},
		{path: "/api/v1/what-if", args: []string{"what-if"}},
		{path: "/api/v1/what-if", body: `{"drain":["gpu-a"]}`, args: []string{"what-if", "--drain", "gpu-a"}},
		{path: "/api/v1/what-if", body: `{"priority":"7"}`, args: []string{"what-if", "--priority", "7"}},
		{path: "/api/v1/what-if", body: `{"manifest":"{kind: Nothing}"}`, args: []string{"what-if", "-f", "-"}, stdin: "{kind: Nothing}"},
	}
	for name, cluster := range map[string]map[string]any{"a user of all": lists, "a user of one namespace": ofOneNamespace()} {
		for _, tt := range questions {
			t.Run(name+": "+strings.Join(tt.args, " "), func(t *testing.T) {
				server := httptest.NewServer(&api{lists: cluster})
				t.Cleanup(server.Close)
				world, err := ui.OfCluster(&rest.Config{Host: server.URL}, "lab", "default")
				if err != nil {
					t.Fatal(err)
				}
				var out, problems bytes.Buffer
				command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(tt.stdin), Out: &out, ErrOut: &problems})
				command.SetArgs(append(tt.args, "-o", "json", "--server", server.URL))
				err = command.ExecuteContext(t.Context())
				code, got := tt.answer(t, world)
				if ExitCode(err) > 1 || err != nil && out.Len() == 0 {
					var refused ui.Error
					if problem := json.Unmarshal([]byte(got), &refused); problem != nil || refused.Message != err.Error() || code < 400 || refused.Code != code {
						t.Errorf("the page says %d: %s\nthe command: %v", code, got, err)
					}
					return
				}
				if code != http.StatusOK {
					t.Fatalf("%d: %s", code, got)
				}
				want := times.ReplaceAllString(compact(t, out.String()), "")
				if diff := cmp.Diff(want, times.ReplaceAllString(got, "")); diff != "" {
					t.Errorf("(-command +page)\n%s", diff)
				}
			})
		}
	}
}

// TestErrorsOfThePageHaveTheirStatus, by which the page tells what is the user's to mend.
func TestErrorsOfThePageHaveTheirStatus(t *testing.T) {
	for name, tt := range map[string]struct {
		lists map[string]any
		asked asked
		want  int
	}{
		"what may not be read":         {ofOneNamespace(), asked{path: "/api/v1/map"}, http.StatusForbidden},
		"what cannot be known":         {ofOneNamespace(), asked{path: "/api/v1/what-if"}, http.StatusForbidden},
		"a pod that is not there":      {used(), asked{path: "/api/v1/pods/default/nobody/explain"}, http.StatusNotFound},
		"a grouping that is not there": {used(), asked{path: "/api/v1/usage?by=a%20b"}, http.StatusBadRequest},
		"a node that is not there":     {used(), asked{path: "/api/v1/what-if", body: `{"drain":["nowhere"]}`}, http.StatusBadRequest},
		"too many replicas":            {used(), asked{path: "/api/v1/what-if", body: whatIfBody(t, ui.Question{Manifest: manifest("1000000000", "1Gi")})}, http.StatusBadRequest},
		"too many replicas of a form":  {used(), asked{path: "/api/v1/what-if", body: `{"form":{"gpuMemory":"1Gi","replicas":1000000000}}`}, http.StatusBadRequest},
		"too many nodes":               {used(), asked{path: "/api/v1/what-if", body: `{"addNode":["h100-80x8=1000000000"]}`}, http.StatusBadRequest},
		"a form that says nothing":     {used(), asked{path: "/api/v1/what-if", body: `{"form":{}}`}, http.StatusBadRequest},
		"too many replicas of a list":  {used(), asked{path: "/api/v1/what-if", body: `{"manifest":"models: [{name: a, gpuMemory: 1Gi, replicas: 1000000000}]"}`}, http.StatusBadRequest},
		"a file named by a list":       {used(), asked{path: "/api/v1/what-if", body: `{"manifest":"models: [{name: a, gpuMemory: 1Gi, model: /etc/passwd}]"}`}, http.StatusBadRequest},
		"a file of this machine":       {used(), asked{path: "/api/v1/what-if", body: `{"manifest":"/etc/passwd"}`}, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(&api{lists: tt.lists})
			defer server.Close()
			world, err := ui.OfCluster(&rest.Config{Host: server.URL}, "lab", "default")
			if err != nil {
				t.Fatal(err)
			}
			if code, text := tt.asked.answer(t, world); code != tt.want {
				t.Errorf("%d, want %d: %s", code, tt.want, text)
			}
		})
	}
	t.Run("no cluster", func(t *testing.T) {
		world, err := ui.OfCluster(&rest.Config{Host: "http://127.0.0.1:1"}, "lab", "default")
		if err != nil {
			t.Fatal(err)
		}
		if code, text := (&asked{path: "/api/v1/map"}).answer(t, world); code != http.StatusBadGateway {
			t.Errorf("%d: %s", code, text)
		}
	})
}

// TestUIPrintsOneAddress, which opens the page until the command is interrupted.
func TestUIPrintsOneAddress(t *testing.T) {
	out, in := io.Pipe()
	var problems bytes.Buffer
	command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: in, ErrOut: &problems})
	command.SetArgs([]string{"ui", "--from", filepath.Join("..", "..", "hack", "look", "cluster.json.gz")})
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- command.ExecuteContext(ctx); in.Close() }()
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil {
		t.Fatalf("%v\n%s", err, &problems)
	}
	address := strings.TrimSpace(string(line[:n]))
	if !regexp.MustCompile(`^http://127\.0\.0\.1:\d+/\?token=[A-Z2-7]{26,}$`).MatchString(address) {
		t.Fatalf("it prints %q", address)
	}
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if response.StatusCode != http.StatusOK || !strings.Contains(string(page), "<html") {
		t.Errorf("%s: %s", response.Status, page)
	}
	http.DefaultClient.CloseIdleConnections()
	interrupt()
	if err := <-ended; err != nil {
		t.Errorf("an interrupted page is an error: %v", err)
	}
	if rest, _ := io.ReadAll(out); len(rest) > 0 || problems.Len() > 0 {
		t.Errorf("more is printed: %s%s", rest, &problems)
	}
}

func TestUIFlags(t *testing.T) {
	file := filepath.Join("..", "..", "hack", "look", "cluster.json.gz")
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"all addresses":             {[]string{"--listen", "0.0.0.0", "--from", file}, "no loopback address"},
		"an address of the network": {[]string{"--listen", "192.0.2.1", "--from", file}, "ssh -L"},
		"no port":                   {[]string{"--port", "99999", "--from", file}, "99999 is no port"},
		"no file":                   {[]string{"--from", "/no/such/file"}, "no such file"},
		"an argument":               {[]string{"gpu-a"}, "unknown command"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := berth(t, nil, "", append([]string{"ui"}, tt.args...)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
