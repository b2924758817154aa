// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
)

// TokenFile is where the credentials for one host are: a key of a Secret that is mounted into the controller.
type TokenFile struct {
	// Host is the host that they are for, "host:port" where the port is not the usual one.
	Host string `json:"host"`
	// Path is the file. Its content is a token, or "user:password" for Basic.
	Path string `json:"tokenFile"`
	// Scheme is Bearer (default) or Basic.
	Scheme string `json:"scheme,omitempty"`
}

// maxToken is more than any token has.
const maxToken = 16 << 10

// FileCredentials returns credentials that are read from files each time they are used, so that the kubelet's
// update of a mounted Secret is seen at once.
func FileCredentials(files []TokenFile) (Credentials, error) {
	byHost := make(map[string]TokenFile, len(files))
	for _, f := range files {
		host := canonicalHost(f.Host)
		switch {
		case host == "" || strings.ContainsAny(host, "/@*"):
			return nil, fmt.Errorf("credentials: %q is not a host: want one name such as huggingface.co, without a scheme", f.Host)
		case f.Path == "":
			return nil, fmt.Errorf("credentials of %s: tokenFile is missing", host)
		case f.Scheme != "" && f.Scheme != "Bearer" && f.Scheme != "Basic":
			return nil, fmt.Errorf("credentials of %s: the scheme %q is neither Bearer nor Basic", host, f.Scheme)
		}
		if _, twice := byHost[host]; twice {
			return nil, fmt.Errorf("credentials of %s are there twice", host)
		}
		byHost[host] = f
	}
	return func(_ context.Context, host string) (string, error) {
		f, ok := byHost[host]
		if !ok {
			return "", nil
		}
		data, err := os.ReadFile(f.Path)
		if err != nil {
			return "", err
		}
		token := strings.TrimSpace(string(data))
		if token == "" || len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", fmt.Errorf("%s does not hold a token", f.Path)
		}
		if f.Scheme == "Basic" {
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(token)), nil
		}
		return "Bearer " + token, nil
	}, nil
}
