// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ui serves the page of kubectl berth ui: what the commands say of a cluster, or of a snapshot, in a browser on the same
// machine. It only reads.
//
// # Who may ask
//
// It listens on a loopback address. Whoever has the token of the address that is printed is let in; nobody else is.
//
//	GET /?token=TOKEN     the page; 403 without the token
//	GET /assets/FILE      its scripts and styles, which hold no data and need no token
//	    /api/v1/…         the data: Authorization: Bearer TOKEN, never a cookie, never in the address
//
// The page takes the token from its own address, keeps it there (a reload works), and sends it with each request. Every request
// must name the server as its Host (127.0.0.1:PORT, localhost:PORT or [::1]:PORT), may have no Origin but that one, and may not be
// Sec-Fetch-Site: cross-site or same-site. Requests have methods GET and HEAD; POST where it is said, with Content-Type:
// application/json.
//
// The page lives with this policy: no inline script or style (neither <style> nor style="…" nor setAttribute("style", …); element.style
// of the CSSOM is allowed), no eval, no innerHTML of a string (Trusted Types), pictures from itself or data:.
//
//	default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none';
//	form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'
//
// # What is answered
//
// Bodies are the documents of the commands' -o json (apiVersion cli.berth.dev/v1alpha1), without indentation. Fields are added, and
// never change or go.
//
//	GET  /api/v1/session                            Session: what is looked at
//	GET  /api/v1/map[?node=NODE&node=…]             GPUMap: kubectl berth top [NODE…] -o json. pendingPods are in it, and who is on each GPU
//	GET  /api/v1/usage?by=BY[&namespace=NS][&node=…] Usage: kubectl berth top --by BY [-n NS] -o json; BY is namespace, model, owner,
//	                                                node-pool or the key of a label. rightSizing and notSized are in it
//	GET  /api/v1/pods/NAMESPACE/NAME/explain        Explanation: kubectl berth explain pod/NAME -n NAMESPACE -o json, its history in it
//	GET  /api/v1/what-if                            WhatIf: kubectl berth what-if -o json: where the pods that wait would go, whom
//	                                                they would evict. These are the plans
//	POST /api/v1/what-if                            WhatIf: kubectl berth what-if -f … -o json; body: Question
//	POST /api/v1/manifest                           Manifest: what a form stands for, as YAML; body: Form
//	GET  /api/v1/history                            History: what is recorded of decisions and evictions, the latest first
//	GET  /api/v1/models                             Models: each ModelProfile, its peaks beside its estimates
//	GET  /api/v1/changes                            a stream, see below
//
// What is known changes by revisions. Each answer to a GET has the revision that it is of as its ETag, so that If-None-Match is
// answered by 304 without a body; the header Berth-Revision has its number, also for POST.
//
// Errors are of kind Error, with the words that the command would have: 400 what was asked makes no sense (a manifest that cannot be
// read, a pod that would be refused), 401 no token, 403 Host or Origin, or what the user of the kubeconfig may not read, 404 there is no
// such thing, 405, 413 a body over 1 MiB, 415, 429 too many questions at once (Retry-After: 1), 502 the cluster did not answer.
//
// A map has, beside what top showed so far, the node pool of each node (pool), and the model of each pod (model).
//
// # The page
//
// Package pkg/ui/page holds the page: its variable Files is an fs.FS with index.html at its top and the folder assets. The server
// sends index.html as it is, so it refers to /assets/….
//
// # Changes
//
// GET /api/v1/changes is text/event-stream. It is read by fetch, since EventSource sends no Authorization:
//
//	event: revision
//	data: {"revision":7}
//
// comes at once with the revision as it is, and again when it changes, at most once a second. Then what is shown is to be fetched
// again. A line ": heartbeat" comes every 10 s. Nothing for 30 s, or an end of the stream, means that it is to be asked for anew, after a
// second. Of a file there is one revision, and heartbeats.
package ui
