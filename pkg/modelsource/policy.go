// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/berth-dev/berth/internal/redact"
)

// DefaultHosts are the hosts that models may be read from unless an admin says otherwise: the public hubs and the
// stores that they redirect to.
var DefaultHosts = []string{
	"huggingface.co", "*.huggingface.co", "*.hf.co",
	"registry.ollama.ai", "*.r2.cloudflarestorage.com",
}

// Policy says where requests may go. The zero Policy lets none through.
type Policy struct {
	// hosts are the patterns of hosts that URLs and redirects may name.
	hosts []hostPattern
	// allowed are ranges that may be dialled though they are not public, denied those that may not though they are.
	allowed, denied []netip.Prefix
	// trusted are the origins ("http://host:port") of endpoints that an admin configured: they may be plain HTTP,
	// and their addresses are not checked.
	trusted map[string]bool
}

// hostPattern is one entry of the list of hosts: "[http://]host[:port]"; a host that begins with "*." stands for all
// below it, and one without a port for the port of the scheme alone: a name that serves models on 443 is no leave to
// connect to what else listens there.
type hostPattern struct {
	plain      bool // plain HTTP too
	host, port string
}

// NewPolicy makes a policy. endpoints are the URLs of hubs and mirrors that an admin configured; hosts are patterns
// "[http://]host[:port]"; allowed and denied are ranges in CIDR notation.
func NewPolicy(endpoints, hosts, allowed, denied []string) (*Policy, error) {
	p := &Policy{trusted: make(map[string]bool, len(endpoints))}
	for _, e := range endpoints {
		u, err := parseEndpoint(e)
		if err != nil {
			return nil, err
		}
		p.trusted[originOf(u)] = true
	}
	for _, h := range hosts {
		pattern, err := parseHostPattern(h)
		if err != nil {
			return nil, err
		}
		p.hosts = append(p.hosts, pattern)
	}
	var err error
	if p.allowed, err = parsePrefixes(allowed); err != nil {
		return nil, err
	}
	p.denied, err = parsePrefixes(denied)
	return p, err
}

func parseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("endpoint %s: want http(s)://HOST[:PORT][/PATH]", redact.URI(s))
	}
	return u, nil
}

func parseHostPattern(s string) (hostPattern, error) {
	rest, plain := strings.CutPrefix(s, "http://")
	u, err := url.Parse("https://" + rest)
	if err != nil || u.Host != rest || u.Hostname() == "" || strings.Contains(strings.TrimPrefix(u.Hostname(), "*."), "*") {
		return hostPattern{}, fmt.Errorf("host %q: want [http://]HOST[:PORT], where HOST may begin with \"*.\"", s)
	}
	return hostPattern{plain: plain, host: canonicalHost(u.Hostname()), port: u.Port()}, nil
}

func parsePrefixes(cidrs []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, s := range cidrs {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("address range %q: want CIDR notation such as 10.96.0.0/12", s)
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}

// canonicalHost makes hosts comparable: names do not depend on case or on the dot of the root.
func canonicalHost(h string) string { return strings.TrimSuffix(strings.ToLower(h), ".") }

// originOf returns scheme, host and port of u: "https://huggingface.co:443".
func originOf(u *url.URL) string { return u.Scheme + "://" + hostPort(u) }

var defaultPorts = map[string]string{"http": "80", "https": "443"}

// portOf returns the port that u is dialled at.
func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return defaultPorts[u.Scheme]
}

// hostPort returns the host and port that u is dialled at.
func hostPort(u *url.URL) string {
	port := portOf(u)
	host := canonicalHost(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

// checkURL says whether a request, or a redirect, may go to u. It is about names; addresses are checkAddr's.
func (p *Policy) checkURL(u *url.URL) error {
	if p.trusted[originOf(u)] {
		return nil
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return errorf(Unsupported, "the source redirects to a %q address", u.Scheme)
	}
	host := canonicalHost(u.Hostname())
	named := false
	for _, h := range p.hosts {
		if !h.matches(u.Scheme, host, portOf(u)) {
			continue
		}
		if u.Scheme == "https" || h.plain {
			return nil
		}
		named = true
	}
	if named {
		return errorf(Unsupported, "host %q is allowed with https only; an admin can allow http with --allow-host=http://%s", host, u.Host)
	}
	return errorf(Unsupported, "host %q is not one that models may be read from; an admin can add it with --allow-host=%s", host, u.Host)
}

func (h hostPattern) matches(scheme, host, port string) bool {
	want := h.port
	if want == "" {
		want = defaultPorts[scheme]
	}
	if port != want {
		return false
	}
	if suffix, ok := strings.CutPrefix(h.host, "*"); ok {
		return len(host) > len(suffix) && strings.HasSuffix(host, suffix)
	}
	return host == h.host
}

// isTrustedDial says whether hostport ("host:port") is that of a configured endpoint, which may be anywhere.
func (p *Policy) isTrustedDial(hostport string) bool {
	return p.trusted["http://"+hostport] || p.trusted["https://"+hostport]
}

// checkAddr says whether a may be dialled for a host that users chose.
func (p *Policy) checkAddr(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	if containsAddr(p.denied, a) {
		return errorf(Unsupported, "the host has the address %s, which is denied", a)
	}
	if containsAddr(p.allowed, a) || isPublic(a) {
		return nil
	}
	return errorf(Unsupported, "the host has the address %s, which is not public; an admin can allow it with --allow-cidr", a)
}

func containsAddr(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// specialPurpose are the ranges of the IANA special-purpose address registries (RFC 6890) that are not globally
// reachable or that lead to an embedded IPv4 address, beyond those that netip.Addr knows.
var specialPurpose = mustPrefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	"5f00::/16", "fec0::/10",
)

func mustPrefixes(cidrs ...string) []netip.Prefix {
	prefixes, err := parsePrefixes(cidrs)
	if err != nil {
		panic(err)
	}
	return prefixes
}

func isPublic(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !a.IsLoopback() && !containsAddr(specialPurpose, a)
}
