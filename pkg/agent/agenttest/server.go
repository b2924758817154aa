// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package agenttest is a small API server for tests of the agent. It has just the requests that the agent makes, keeps
// every report that was written, and can be gone for a while. What it cannot show, such as the merging of server-side
// apply, is tested against a real API server.
package agenttest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Server is the API server of one node's agent.
type Server struct {
	// URL is where it serves.
	URL string

	t       testing.TB
	address string
	server  *http.Server

	mu      sync.Mutex
	version int
	node    *berthv1alpha1.GPUNode
	size    int
	reports []Report
	lease   *coordinationv1.Lease
	renewed int
	refuse  func(*http.Request) int
	tokens  map[string]bool
	reviews int
}

// Report is a status that was written.
type Report struct {
	At     time.Time
	Status berthv1alpha1.GPUNodeStatus
}

// NewServer starts a server that ends with the test.
func NewServer(t testing.TB) *Server {
	s := &Server{t: t, address: "127.0.0.1:0", tokens: map[string]bool{}}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start serves again after Stop, at the same address.
func (s *Server) Start() {
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = listener.Addr().String()
	s.URL = "http://" + s.address
	s.server = &http.Server{Handler: s.routes(), ReadHeaderTimeout: time.Minute}
	go func(server *http.Server) { _ = server.Serve(listener) }(s.server)
}

// Stop ends all connections; what was written stays.
func (s *Server) Stop() { _ = s.server.Close() }

// Refuse answers requests with a status code of HTTP; zero = serves them.
func (s *Server) Refuse(f func(*http.Request) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = f
}

// Node returns the GPUNode; nil if there is none.
func (s *Server) Node() *berthv1alpha1.GPUNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.node == nil {
		return nil
	}
	return s.node.DeepCopy()
}

// Delete removes the GPUNode, as an administrator may.
func (s *Server) Delete() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.node = nil
}

// Reports returns all statuses that were written, and Size the bytes of the last.
func (s *Server) Reports() []Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Report(nil), s.reports...)
}

// Size returns the length in bytes of the last report written.
func (s *Server) Size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// Lease returns the node's Lease, nil if there is none, and how often it was renewed.
func (s *Server) Lease() (*coordinationv1.Lease, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease.DeepCopy(), s.renewed
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	const gpuNode = "/apis/berth.dev/v1alpha1/gpunodes"
	const leases = "/apis/coordination.k8s.io/v1/namespaces/berth-system/leases"
	mux.HandleFunc("GET "+gpuNode+"/{name}", s.getNode)
	mux.HandleFunc("POST "+gpuNode, s.postNode)
	mux.HandleFunc("PATCH "+gpuNode+"/{name}/status", s.applyStatus)
	mux.HandleFunc("PATCH "+leases+"/{name}", s.patchLease)
	mux.HandleFunc("POST "+leases, s.postLease)
	mux.HandleFunc("GET /api/v1/nodes/{name}", func(w http.ResponseWriter, r *http.Request) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: r.PathValue("name"), UID: "node-uid"}}
		node.Status.NodeInfo.ContainerRuntimeVersion = "containerd://2.1.4"
		node.Status.RuntimeHandlers = []corev1.NodeRuntimeHandler{{}, {Name: "runc"}, {Name: "nvidia"}}
		write(w, http.StatusOK, node)
	})
	mux.HandleFunc("POST /apis/authentication.k8s.io/v1/tokenreviews", s.reviewToken)
	mux.HandleFunc("POST /apis/authorization.k8s.io/v1/subjectaccessreviews", s.reviewAccess)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		refuse := s.refuse
		s.mu.Unlock()
		if refuse != nil {
			if code := refuse(r); code != 0 {
				writeStatus(w, code)
				return
			}
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) getNode(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.node == nil {
		writeStatus(w, http.StatusNotFound)
		return
	}
	write(w, http.StatusOK, s.node)
}

func (s *Server) postNode(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.node != nil {
		writeStatus(w, http.StatusConflict)
		return
	}
	gn := &berthv1alpha1.GPUNode{}
	if !s.read(w, r, gn) {
		return
	}
	s.version++
	gn.Status = berthv1alpha1.GPUNodeStatus{}
	gn.ResourceVersion = strconv.Itoa(s.version)
	s.node = gn
	write(w, http.StatusCreated, gn)
}

func (s *Server) applyStatus(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.node == nil {
		writeStatus(w, http.StatusNotFound)
		return
	}
	if got := r.Header.Get("Content-Type"); got != "application/apply-patch+yaml" || r.URL.Query().Get("fieldManager") == "" {
		writeStatus(w, http.StatusUnsupportedMediaType)
		return
	}
	gn := &berthv1alpha1.GPUNode{}
	if !s.read(w, r, gn) {
		return
	}
	s.version++
	s.node.ResourceVersion = strconv.Itoa(s.version)
	s.node.Status = gn.Status
	s.reports = append(s.reports, Report{At: time.Now(), Status: *gn.Status.DeepCopy()})
	write(w, http.StatusOK, &metav1.PartialObjectMetadata{ObjectMeta: s.node.ObjectMeta})
}

func (s *Server) patchLease(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil {
		writeStatus(w, http.StatusNotFound)
		return
	}
	if s.read(w, r, s.lease) {
		s.renewed++
		write(w, http.StatusOK, s.lease)
	}
}

func (s *Server) postLease(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lease := &coordinationv1.Lease{}
	if s.read(w, r, lease) {
		s.lease = lease
		s.renewed++
		write(w, http.StatusCreated, lease)
	}
}

// Token makes a token known, of an account that may or may not get /metrics.
func (s *Server) Token(token string, allowed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = allowed
}

// Reviews returns how many tokens were asked about.
func (s *Server) Reviews() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reviews
}

func (s *Server) reviewToken(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	review := &authenticationv1.TokenReview{}
	if s.read(w, r, review) {
		s.reviews++
		// The account is called as its token is.
		_, review.Status.Authenticated = s.tokens[review.Spec.Token]
		review.Status.User.Username = review.Spec.Token
		write(w, http.StatusCreated, review)
	}
}

func (s *Server) reviewAccess(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	review := &authorizationv1.SubjectAccessReview{}
	if s.read(w, r, review) {
		a := review.Spec.NonResourceAttributes
		review.Status.Allowed = s.tokens[review.Spec.User] && a != nil && a.Path == "/metrics" && a.Verb == "get"
		write(w, http.StatusCreated, review)
	}
}

// read decodes a body strictly; false if it answered an error.
func (s *Server) read(w http.ResponseWriter, r *http.Request, into any) bool {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		decoder := json.NewDecoder(strings.NewReader(string(body)))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(into)
	}
	if err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		writeStatus(w, http.StatusBadRequest)
		return false
	}
	if strings.HasSuffix(r.URL.Path, "/status") {
		s.size = len(body)
	}
	return true
}

func write(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func writeStatus(w http.ResponseWriter, code int) {
	reason := map[int]metav1.StatusReason{
		http.StatusNotFound: metav1.StatusReasonNotFound,
		http.StatusConflict: metav1.StatusReasonAlreadyExists,
	}[code]
	write(w, code, &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure,
		Reason:   reason,
		Code:     int32(code),
		Message:  fmt.Sprint("the test says ", code),
	})
}
