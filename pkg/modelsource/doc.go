// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package modelsource finds the files of a model that a user named by URI, and reads parts of them from where they
// are: a Hugging Face hub, an Ollama registry, a web server or a mounted model store.
//
// Parse makes a Ref of a URI; Resolver.Resolve asks the source which files the model is made of and at which version,
// without reading them; the Files of the Snapshot that it returns are random-access readers that fetch ranges as they
// are read, so that a header costs its own size and not the model's.
//
// URIs come from users and answers from strangers, so nothing here is trusted: hosts must be on a list, addresses are
// checked when they are dialled (after name resolution, and again for each redirect), the bytes and the time that one
// model may cost are limited, and credentials, which are an admin's, go to the host that they are for and no other.
//
// Errors are of type *Error, whose Reason says whose turn it is: the user's, the admin's, or nobody's but time's.
package modelsource
