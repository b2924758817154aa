// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/berth-dev/berth/internal/redact"
)

// Ref is a parsed model URI: one of HuggingFaceRef, OllamaRef, WebRef, FileRef and ProfileRef.
type Ref interface{ isRef() }

// HuggingFaceRef is hf://org/repo[@revision][/path].
type HuggingFaceRef struct {
	// Repo is "org/repo".
	Repo string
	// Revision is a branch, tag or commit; "main" when not said.
	Revision string
	// Path is a file or a folder of the repository; empty for all of it.
	Path string
}

// OllamaRef is ollama://[host/][namespace/]name[:tag].
type OllamaRef struct {
	// Host is the registry; empty for the default one.
	Host string
	// Name is "namespace/name"; the namespace is "library" when not said.
	Name string
	// Tag is "latest" when not said.
	Tag string
}

// WebRef is https://host/path, or http:// where an admin allowed that.
type WebRef struct{ URL *url.URL }

// FileRef is file:///path: a file or a folder of a model store that is mounted into the controller.
type FileRef struct{ Path string }

// ProfileRef is profile://NAME: what the ModelProfile NAME says.
type ProfileRef struct{ Name string }

func (HuggingFaceRef) isRef() {}
func (OllamaRef) isRef()      {}
func (WebRef) isRef()         {}
func (FileRef) isRef()        {}
func (ProfileRef) isRef()     {}

const maxURI = 1024

var (
	// repoPart is what the hub accepts as an organization or as a repository's name.
	repoPart = regexp.MustCompile("^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
	// revisionPart is a git reference; the slashes of one are written %2F.
	revisionPart = regexp.MustCompile("^[A-Za-z0-9][A-Za-z0-9._/+-]{0,254}$")
	// hubRevision are the references with slashes that the hub makes itself, and that may be written as they are.
	hubRevision  = regexp.MustCompile("^(refs/(?:pr/[0-9]+|convert/[A-Za-z0-9_-]+))(?:/(.*))?$")
	registryName = regexp.MustCompile("^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
	registryHost = regexp.MustCompile("^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?$")
	profileName  = regexp.MustCompile("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")
)

// Parse reads a model URI. Its errors have the reason Unsupported and say the form that would be accepted.
func Parse(uri string) (Ref, error) {
	scheme, rest, found := strings.Cut(uri, "://")
	switch {
	case len(uri) > maxURI:
		return nil, errorf(Unsupported, "the model's URI is longer than %d characters", maxURI)
	case redact.HasSecret(uri):
		return nil, errorf(Unsupported, "%s: %s", redact.URI(uri), redact.Why)
	case !found:
		return nil, errorf(Unsupported, "%q names no source: write hf://ORG/REPO, ollama://NAME:TAG, https://HOST/FILE.gguf, file:///PATH or profile://NAME", uri)
	}
	switch scheme {
	case "hf":
		return parseHuggingFace(uri, rest)
	case "ollama":
		return parseOllama(uri, rest)
	case "https", "http":
		return parseWeb(uri)
	case "file":
		return parseFile(uri, rest)
	case "profile":
		if !profileName.MatchString(rest) {
			return nil, errorf(Unsupported, "%q: want profile://NAME, with the name of a ModelProfile", uri)
		}
		return ProfileRef{Name: rest}, nil
	}
	return nil, errorf(Unsupported, "%q: the scheme %q is not known: use hf, ollama, https, file or profile", uri, scheme)
}

func parseHuggingFace(uri, rest string) (Ref, error) {
	const form = "want hf://ORG/REPO[@REVISION][/FILE]"
	org, rest, found := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	if !found {
		return nil, errorf(Unsupported, "%q names no organization: %s", uri, form)
	}
	// The revision is whatever follows the @ of the repository's name, but an @ in a file's name is just that.
	repo, file, _ := strings.Cut(rest, "/")
	repo, revision, pinned := strings.Cut(repo, "@")
	if !repoPart.MatchString(org) || !repoPart.MatchString(repo) {
		return nil, errorf(Unsupported, "%q: %q is not the name of a repository: %s", uri, org+"/"+repo, form)
	}
	ref := HuggingFaceRef{Repo: org + "/" + repo, Revision: "main", Path: file}
	if pinned {
		_, afterAt, _ := strings.Cut(rest, "@")
		if m := hubRevision.FindStringSubmatch(afterAt); m != nil {
			revision, ref.Path = m[1], m[2]
		}
		unescaped, err := url.PathUnescape(revision)
		if err != nil || !revisionPart.MatchString(unescaped) || strings.Contains(unescaped, "..") {
			return nil, errorf(Unsupported, "%q: %q is not a revision: write a branch, a tag or a commit, with %%2F for a slash", uri, revision)
		}
		ref.Revision = unescaped
	}
	if ref.Path != "" && !isCleanPath(ref.Path) {
		return nil, errorf(Unsupported, "%q: %q is not the path of a file in the repository", uri, ref.Path)
	}
	return ref, nil
}

func parseOllama(uri, rest string) (Ref, error) {
	const form = "want ollama://[HOST/][NAMESPACE/]NAME[:TAG]"
	ref := OllamaRef{Tag: "latest"}
	parts := strings.Split(rest, "/")
	last := len(parts) - 1
	name, tag, tagged := strings.Cut(parts[last], ":")
	parts[last] = name
	if tagged {
		ref.Tag = tag
	}
	switch len(parts) {
	case 1:
		parts = []string{"library", name}
	case 2:
	case 3:
		ref.Host, parts = parts[0], parts[1:]
		if !registryHost.MatchString(ref.Host) {
			return nil, errorf(Unsupported, "%q: %q is not a host: %s", uri, ref.Host, form)
		}
	default:
		return nil, errorf(Unsupported, "%q has too many parts: %s", uri, form)
	}
	for _, part := range append(parts, ref.Tag) {
		if !registryName.MatchString(part) {
			return nil, errorf(Unsupported, "%q: %q is not a name of a registry: %s", uri, part, form)
		}
	}
	ref.Name = strings.Join(parts, "/")
	return ref, nil
}

func parseWeb(uri string) (Ref, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Hostname() == "" || u.Opaque != "" {
		return nil, errorf(Unsupported, "%q is not a URL: want https://HOST/PATH/FILE.gguf", uri)
	}
	if hub, ok := asHuggingFace(u); ok {
		return nil, errorf(Unsupported, "%q is a page of a model hub: write %s", uri, hub)
	}
	return WebRef{URL: u}, nil
}

// asHuggingFace returns the hf:// form of the address of a page on the public hub, which is what people copy.
func asHuggingFace(u *url.URL) (string, bool) {
	if host := u.Hostname(); host != "huggingface.co" && host != "hf.co" {
		return "", false
	}
	parts := strings.SplitN(strings.Trim(u.Path, "/"), "/", 5)
	switch {
	case len(parts) == 2:
		return "hf://" + parts[0] + "/" + parts[1], true
	case len(parts) < 4 || parts[2] != "blob" && parts[2] != "tree":
		return "", false
	}
	uri := "hf://" + parts[0] + "/" + parts[1]
	if parts[3] != "main" {
		uri += "@" + parts[3]
	}
	return strings.Join(append([]string{uri}, parts[4:]...), "/"), true
}

func parseFile(uri, rest string) (Ref, error) {
	p := strings.TrimSuffix(rest, "/")
	if !strings.HasPrefix(p, "/") || !isCleanPath(p[1:]) {
		return nil, errorf(Unsupported, "%q: want file:///PATH, absolute and without . or ..", uri)
	}
	return FileRef{Path: p}, nil
}

// isCleanPath says whether p is a relative path that means what it says.
func isCleanPath(p string) bool {
	return p != "" && p != "." && path.Clean(p) == p && !strings.HasPrefix(p, "/") && p != ".." && !strings.HasPrefix(p, "../") &&
		!strings.ContainsAny(p, "\x00\\")
}
