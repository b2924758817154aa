// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package serverversion finds out which Kubernetes a cluster's apiservers are, for a program that is built from a
// newer one and must not rely on what the older does not have.
package serverversion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/version"
	apiversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// Skew is how many minor versions component-base can emulate backwards
// (k8s.io/apiserver/pkg/util/compatibility, kubeEffectiveVersionFloors).
const Skew = 3

// maxBody bounds what is read of an answer; a version is some 400 bytes.
const maxBody = 64 << 10

// Asking is how a cluster is asked.
type Asking struct {
	// Answers is how many are collected. While a control plane of several apiservers is upgraded they answer
	// differently, and which one answers is the load balancer's choice.
	Answers int
	// Timeout bounds each request, Pause follows one that failed, and Patience bounds all of them together.
	Timeout, Pause, Patience time.Duration
}

// DefaultAsking misses one old apiserver among three with a probability of (2/3)^10, below 2 %, if the load balancer
// chooses by chance. What is missed then shows when something cannot be listed (package firstlist).
var DefaultAsking = Asking{Answers: 10, Timeout: 5 * time.Second, Pause: 2 * time.Second, Patience: time.Minute}

// Lowest asks for the version of the apiserver, each time over a connection of its own, and returns the lowest answer
// as major.minor. It never guesses: without as many answers as it wants, it fails.
func (a Asking) Lowest(ctx context.Context, config *rest.Config) (*version.Version, error) {
	client, err := freshClient(config, a.Timeout)
	if err != nil {
		return nil, err
	}
	address, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	address = address.JoinPath("version")
	ctx, cancel := context.WithTimeout(ctx, a.Patience)
	defer cancel()
	var lowest *version.Version
	var why error // it failed last, other than by the end of our patience
	for answers := 0; answers < a.Answers; {
		v, err := ask(ctx, client, address.String())
		if err == nil {
			answers++
			if lowest == nil || v.LessThan(lowest) {
				lowest = v
			}
			continue
		}
		if ctx.Err() == nil || why == nil {
			why = err
		}
		klog.FromContext(ctx).Info("The apiserver did not tell its version, asking again", "address", address.Host, "err", err)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the apiserver at %s did not tell its version within %s: %w", address.Host, a.Patience, why)
		case <-time.After(a.Pause):
		}
	}
	return lowest, nil
}

// freshClient returns a client with the credentials of config that opens a connection for each request.
func freshClient(config *rest.Config, timeout time.Duration) (*http.Client, error) {
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	proxy := config.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	transport, err := rest.HTTPWrappersForConfig(config, &http.Transport{
		TLSClientConfig: tlsConfig, DisableKeepAlives: true, Proxy: proxy, DialContext: config.Dial,
	})
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: transport, Timeout: timeout}, nil
}

// ask returns the version of the apiserver that answers.
func ask(ctx context.Context, client *http.Client, address string) (*version.Version, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", address, response.Status)
	}
	var info apiversion.Info
	if err := json.Unmarshal(body, &info); err != nil {
		return nil, fmt.Errorf("GET %s: %w", address, err)
	}
	return Parse(&info)
}

// Parse returns what an apiserver serves, as major.minor: the version that it emulates where it does. Providers put
// more behind the numbers ("36+", "v1.36.3-gke.100").
func Parse(info *apiversion.Info) (*version.Version, error) {
	for _, text := range []string{
		info.EmulationMajor + "." + info.EmulationMinor,
		info.Major + "." + strings.TrimSuffix(info.Minor, "+"),
		info.GitVersion,
	} {
		if v, err := version.ParseGeneric(text); err == nil && v.Major() > 0 {
			return version.MajorMinor(v.Major(), v.Minor()), nil
		}
	}
	return nil, fmt.Errorf("the apiserver says that it is version %q, which is none", info.GitVersion)
}

// ErrTooOld is wrapped when the apiserver is below what can be emulated.
var ErrTooOld = errors.New("the apiserver is too old")

// ToEmulate returns which version a program built from Kubernetes binary has to emulate before an apiserver; "" for
// none, as before one that is newer.
func ToEmulate(binary, server *version.Version) (string, error) {
	floor := version.MajorMinor(binary.Major(), binary.Minor()).SubtractMinor(Skew)
	switch {
	case server.LessThan(floor):
		return "", fmt.Errorf("%w: it is Kubernetes %d.%d, and this program works with %d.%d or later",
			ErrTooOld, server.Major(), server.Minor(), floor.Major(), floor.Minor())
	case server.Major() == binary.Major() && server.Minor() < binary.Minor():
		return fmt.Sprintf("%d.%d", server.Major(), server.Minor()), nil
	}
	return "", nil
}
