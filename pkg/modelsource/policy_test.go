// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"net/netip"
	"net/url"
	"testing"
)

func TestAddressesThatMayBeDialled(t *testing.T) {
	p, err := NewPolicy(nil, nil, []string{"10.1.0.0/16", "fd00:1::/32"}, []string{"10.1.2.0/24", "93.184.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, addr string
		want       bool
	}{
		{"a public address", "18.164.174.23", true},
		{"a public IPv6 address", "2600:9000:2000::1", true},
		{"loopback", "127.0.0.1", false},
		{"all of loopback", "127.8.9.10", false},
		{"IPv6 loopback", "::1", false},
		{"the metadata service", "169.254.169.254", false},
		{"IPv6 link-local", "fe80::1%eth0", false},
		{"a private address", "192.168.1.1", false},
		{"another private address", "172.16.0.1", false},
		{"a unique local address", "fd12::1", false},
		{"carrier-grade NAT", "100.64.0.1", false},
		{"unspecified, which is this machine", "0.0.0.0", false},
		{"IPv6 unspecified", "::", false},
		{"multicast", "224.0.0.1", false},
		{"broadcast", "255.255.255.255", false},
		{"loopback in an IPv4-mapped address", "::ffff:127.0.0.1", false},
		{"loopback in an IPv4-compatible address", "::7f00:1", false},
		{"loopback behind NAT64", "64:ff9b::7f00:1", false},
		{"a private address behind 6to4", "2002:c0a8:101::1", false},
		{"an allowed private address", "10.1.0.1", true},
		{"an allowed private address, IPv4-mapped", "::ffff:10.1.0.1", true},
		{"an allowed unique local address", "fd00:1::5", true},
		{"a private address beside the allowed range", "10.2.0.1", false},
		{"what is denied within what is allowed", "10.1.2.3", false},
		{"a public address that is denied", "93.184.1.1", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := p.checkAddr(netip.MustParseAddr(tc.addr))
			if got := err == nil; got != tc.want {
				t.Errorf("checkAddr(%s) = %v, want allowed %v", tc.addr, err, tc.want)
			}
		})
	}
}

func TestHostsThatMayBeNamed(t *testing.T) {
	p, err := NewPolicy(
		[]string{"http://mirror.svc:8080/hf"},
		[]string{"huggingface.co", "*.hf.co", "models.example:8443", "http://plain.example"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, url string
		want      bool
	}{
		{"a host of the list", "https://huggingface.co/x", true},
		{"a host of the list in capitals and with a dot", "https://HuggingFace.co./x", true},
		{"a host of the list over plain HTTP", "http://huggingface.co/x", false},
		{"a subdomain of a host", "https://evil.huggingface.co/x", false},
		{"a subdomain of a pattern", "https://cdn.eu.hf.co/x", true},
		{"the domain of a pattern itself", "https://hf.co/x", false},
		{"a name that ends alike", "https://nothf.co/x", false},
		{"a host that begins alike", "https://huggingface.co.evil.example/x", false},
		{"a host with its port", "https://models.example:8443/x", true},
		{"a port beside the usual one of a host, which is attack 9", "https://huggingface.co:81/x", false},
		{"the usual port, written out", "https://huggingface.co:443/x", true},
		{"a port beside the usual one of a pattern", "https://cdn.hf.co:8443/x", false},
		{"the usual port of plain HTTP, written out", "http://plain.example:80/x", true},
		{"the port of TLS without it", "http://plain.example:443/x", false},
		{"a host with another port", "https://models.example/x", false},
		{"a host that may be plain", "http://plain.example/x", true},
		{"a host that may be plain, with TLS", "https://plain.example/x", true},
		{"a configured endpoint", "http://mirror.svc:8080/other/x", true},
		{"another port of an endpoint's host", "http://mirror.svc:9090/x", false},
		{"another scheme at an endpoint", "https://mirror.svc:8080/x", false},
		{"an address", "https://127.0.0.1/x", false},
		{"a redirect to a file", "file:///etc/passwd", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u, err := url.Parse(tc.url)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.checkURL(u); (err == nil) != tc.want {
				t.Errorf("checkURL(%s) = %v, want allowed %v", tc.url, err, tc.want)
			}
		})
	}
}

func TestNewPolicyRefusesWhatItCannotRead(t *testing.T) {
	for _, tc := range []struct {
		name                              string
		endpoints, hosts, allowed, denied []string
	}{
		{"an endpoint without a scheme", []string{"mirror:8080"}, nil, nil, nil},
		{"an endpoint with a password", []string{"https://a:b@mirror"}, nil, nil, nil},
		{"a host with a path", nil, []string{"example.com/x"}, nil, nil},
		{"a star in the middle", nil, []string{"a.*.example"}, nil, nil},
		{"an address for a range", nil, nil, []string{"10.0.0.1"}, nil},
		{"a denied range that is none", nil, nil, nil, []string{"all"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := NewPolicy(tc.endpoints, tc.hosts, tc.allowed, tc.denied); err == nil {
				t.Error("want an error")
			}
		})
	}
}
