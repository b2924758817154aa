// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// The documents of the server, and how changes of them are learnt of: see pkg/ui/doc.go.

const root = '/api/v1';
const token = new URLSearchParams(location.search).get('token') ?? '';

// A stream that is silent for this long is taken to be dead; it is asked for anew after a while.
const silence = 30_000;
const pause = 1_000;

// Failure is an answer that is none, in the words of the server.
export class Failure extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const wait = (ms, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener('abort', () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
});

// request asks the server. A server that is busy is asked again when it says.
async function request(path, { body, etag, signal } = {}) {
  const headers = { Authorization: `Bearer ${token}` };
  if (etag) headers['If-None-Match'] = etag;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  for (;;) {
    let response;
    try {
      response = await fetch(root + path, {
        method: body === undefined ? 'GET' : 'POST', headers, body: body && JSON.stringify(body),
        signal, cache: 'no-store', credentials: 'omit', redirect: 'error',
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Failure(0, 'kubectl berth ui does not answer. Is it still running?');
    }
    if (response.ok || response.status === 304) return response;
    if (response.status === 429) {
      await wait(1000 * (Number(response.headers.get('Retry-After')) || 1), signal);
      continue;
    }
    throw new Failure(response.status, await messageOf(response));
  }
}

async function messageOf(response) {
  if (response.status === 401) return 'This address has not the token of the kubectl berth ui that runs now. Open the address that it printed.';
  try {
    return (await response.json()).message || response.statusText;
  } catch {
    return `kubectl berth ui answered ${response.status} ${response.statusText}`;
  }
}

// post sends a question, and returns the answer.
export async function post(path, body, signal) {
  return (await request(path, { body, signal })).json();
}

// Documents as they were read last, by path. They are few: those of the views that were looked at.
const read = new Map();

// get returns a document, anew if it changed.
export async function get(path, signal) {
  const known = read.get(path);
  const response = await request(path, { etag: known?.etag, signal });
  if (response.status === 304) return known.document;
  const document = await response.json();
  if (read.size > 200) read.delete(read.keys().next().value);
  read.set(path, { etag: response.headers.get('ETag'), document });
  return document;
}

// known returns a document as it was read last, if it was.
export const known = (path) => read.get(path)?.document;

// What is known of the connection: whether it is up, since when not, and the revision that was told last.
export const link = { up: false, lost: null, revision: 0, refused: '' };
const listeners = new Set();

export function onLink(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(change) {
  Object.assign(link, change);
  for (const listener of [...listeners]) listener();
}

// follow reads the stream of changes for as long as the page is open.
export async function follow() {
  for (;;) {
    try {
      await readChanges();
      throw new Failure(0, 'the stream ended');
    } catch (error) {
      tell({ up: false, lost: link.lost ?? Date.now(), refused: error.code === 401 ? error.message : '' });
    }
    await wait(pause);
  }
}

async function readChanges() {
  const control = new AbortController();
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => control.abort(), silence);
  };
  try {
    alive();
    const response = await request('/changes', { signal: control.signal });
    const lines = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { value, done } = await lines.read();
      if (done) return;
      alive();
      text += value;
      const events = text.split('\n\n');
      text = events.pop();
      for (const event of events) tellRevision(event);
    }
  } finally {
    clearTimeout(timer);
    control.abort();
  }
}

function tellRevision(event) {
  const data = event.split('\n').find((line) => line.startsWith('data:'));
  if (!data) return;
  const { revision } = JSON.parse(data.slice('data:'.length));
  tell({ up: true, lost: null, refused: '', revision });
}
