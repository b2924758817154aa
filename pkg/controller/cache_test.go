// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// The attack is that one node's token keeps the controller from ever starting: the list of GPUNodes could not be decoded.
func TestOneNodesTokenDoesNotKeepTheControllerFromStarting(t *testing.T) {
	const item = `{"kind":"GPUNode","apiVersion":"berth.dev/v1alpha1","metadata":{"name":%q,"resourceVersion":"1","managedFields":[{"manager":"m"}]},` +
		`"status":{"observedTime":%q,"devices":[{"uuid":"GPU-a","memory":{"total":%q},"processes":[{"podUID":"u","memory":"1Gi"}]}]}}`
	bad := []string{
		fmt.Sprintf(item, "bad", "2026-01-01t00:00:00z", "80Gi"), fmt.Sprintf(item, "bad", "2026-01-01T00:00:00Z", "1e-2000000000"),
	}
	for _, bad := range bad {
		items := bad + "," + fmt.Sprintf(item, "good", "2026-01-01T00:00:00Z", "80Gi")
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			switch query := r.URL.Query(); {
			case query.Get("sendInitialEvents") != "": // so that it lists instead
				w.WriteHeader(http.StatusUnprocessableEntity)
				_, _ = fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
			case query.Get("watch") != "":
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			default:
				_, _ = fmt.Fprintf(w, `{"kind":"GPUNodeList","apiVersion":"berth.dev/v1alpha1","metadata":{"resourceVersion":"1"},"items":[%s]}`, items)
			}
		}))
		t.Cleanup(server.Close)
		t.Cleanup(server.CloseClientConnections)

		o := CacheOptions()
		o.Scheme = runtime.NewScheme()
		if err := gpunode.AddToScheme(o.Scheme); err != nil {
			t.Fatal(err)
		}
		mapper := meta.NewDefaultRESTMapper(nil)
		mapper.Add(berthv1alpha1.GroupVersion.WithKind(gpunode.Kind), meta.RESTScopeRoot)
		o.Mapper = mapper
		o.ByObject = map[client.Object]cache.ByObject{&gpunode.Object{}: {Transform: trimGPUNode}}
		c, err := cache.New(&rest.Config{Host: server.URL}, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.GetInformer(t.Context(), &gpunode.Object{}, cache.BlockUntilSynced(false)); err != nil {
			t.Fatal(err)
		}
		go func() { _ = c.Start(t.Context()) }()
		if !c.WaitForCacheSync(t.Context()) {
			t.Fatal("the cache did not start")
		}
		objects := map[string]*gpunode.Object{"bad": {}, "good": {}}
		for name, object := range objects {
			if err := c.Get(t.Context(), client.ObjectKey{Name: name}, object); err != nil {
				t.Fatal(err)
			}
			if object.ManagedFields != nil || object.Raw != nil {
				t.Errorf("%s: the cache keeps what nobody reads", name)
			}
		}
		if problem := objects["bad"].Problem; problem == "" || objects["bad"].GPUNode() != nil {
			t.Errorf("the bad report is read")
		}
		if gn := objects["good"].GPUNode(); gn == nil || len(heldBy(gn)) != 1 {
			t.Errorf("of the good report nothing is known: %s", objects["good"].Problem)
		}
	}
}
