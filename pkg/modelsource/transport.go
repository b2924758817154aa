// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// Credentials returns the value of the Authorization header for a host ("huggingface.co", or "host:port" where the
// port is not the scheme's own), "" when there is none. It is asked for each request, so that a rotated token is
// used at once.
type Credentials func(ctx context.Context, host string) (string, error)

const (
	dialTimeout    = 10 * time.Second
	headersTimeout = 20 * time.Second
	maxRedirects   = 5
)

// newHTTPClient returns a client that goes only where policy lets it, and shows each host its own credentials.
func newHTTPClient(cfg *Config) *http.Client {
	proxy := cfg.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	g := &guard{policy: cfg.Policy}
	return &http.Client{
		Transport: &authorizer{
			policy:      cfg.Policy,
			credentials: cfg.Credentials,
			next: &http.Transport{
				Proxy:                  g.remember(proxy),
				DialContext:            g.dial,
				TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs},
				TLSHandshakeTimeout:    dialTimeout,
				ResponseHeaderTimeout:  headersTimeout,
				MaxResponseHeaderBytes: 64 << 10,
				MaxIdleConnsPerHost:    4,
				MaxConnsPerHost:        16,
				IdleConnTimeout:        90 * time.Second,
				DisableCompression:     true, // offsets are of the file, not of its compressed form
				ForceAttemptHTTP2:      true,
			},
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errorf(Unreachable, "the source redirects more than %d times", maxRedirects)
			}
			// The address of a private mirror is nothing that the next host needs to know.
			req.Header.Del("Referer")
			return cfg.Policy.checkURL(req.URL)
		},
	}
}

// guard checks addresses when they are dialled: after name resolution, on the very address that the connection is
// made to, so that a name that resolves differently a second time gains nothing.
type guard struct {
	policy *Policy
	// proxies are the addresses of the configured proxies. A proxy is dialled wherever it is; it resolves names
	// itself, so behind one only the list of hosts protects the cluster.
	proxies sync.Map
}

// remember wraps a proxy function so that the proxies that it names can be dialled.
func (g *guard) remember(proxy func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	return func(req *http.Request) (*url.URL, error) {
		u, err := proxy(req)
		if u != nil {
			g.proxies.Store(hostPort(u), true)
		}
		return u, err
	}
}

func (g *guard) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	if _, isProxy := g.proxies.Load(addr); !isProxy && !g.policy.isTrustedDial(addr) {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return g.policy.checkAddr(ap.Addr())
		}
	}
	return d.DialContext(ctx, network, addr)
}

// authorizer adds the credentials of the host that each single request goes to. Redirects are requests of their own
// to it, so a token never follows one to another host, a subdomain included.
type authorizer struct {
	policy      *Policy
	credentials Credentials
	next        http.RoundTripper
}

func (a *authorizer) RoundTrip(req *http.Request) (*http.Response, error) {
	// Over plain HTTP a token would be everybody's, unless an admin configured this very endpoint.
	if a.credentials == nil || isAnonymous(req.Context()) || req.URL.Scheme != "https" && !a.policy.trusted[originOf(req.URL)] {
		return a.next.RoundTrip(req)
	}
	value, err := a.credentials(req.Context(), credentialsHost(req.URL))
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			err = &Error{Reason: Unauthorized, Message: "the credentials for host " + req.URL.Host + " cannot be read", Err: err}
		}
		return nil, err
	}
	if value == "" {
		return a.next.RoundTrip(req)
	}
	noteCredentials(req.Context())
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", value)
	return a.next.RoundTrip(req)
}

// HostOf returns the host of an endpoint as Credentials are asked for it.
func HostOf(endpoint string) (string, error) {
	u, err := parseEndpoint(endpoint)
	if err != nil {
		return "", err
	}
	return credentialsHost(u), nil
}

// credentialsHost is the name that credentials are configured by: the port is part of it where it is not the usual.
func credentialsHost(u *url.URL) string {
	host := canonicalHost(u.Hostname())
	if port := u.Port(); port != "" && port != map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		return net.JoinHostPort(host, port)
	}
	return host
}
