// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Hooks: documents that stay up to date, the connection, the address, what is seen.

import { useState, useEffect, useReducer, useRef } from './html.js';
import { get, known, link, onLink } from './api.js';

const useAnew = () => useReducer((n) => n + 1, 0)[1];

// useLink returns the state of the connection, and draws anew when it changes.
export function useLink() {
  const anew = useAnew();
  useEffect(() => onLink(anew), []);
  return link;
}

// useDocument returns a document, undefined as long as it was never read, and fetches it when there are changes: at most once
// in so many ms, and longer where an answer takes long, so that a large cluster is not read all the time.
export function useDocument(path, every = 1000) {
  const anew = useAnew();
  const now = useRef({ path: null });
  if (now.current.path !== path) now.current = { path, document: path && known(path), error: null };
  useEffect(() => {
    if (!path) return undefined;
    const control = new AbortController();
    let timer = 0, busy = false, dirty = false, next = 0, had = null;
    const load = async () => {
      timer = 0;
      busy = true;
      dirty = false;
      const began = performance.now();
      had = link.revision;
      try {
        const document = await get(path, control.signal);
        if (control.signal.aborted) return;
        now.current = { path, document, error: null };
      } catch (error) {
        if (control.signal.aborted) return;
        now.current = { ...now.current, error };
      }
      busy = false;
      next = performance.now() + Math.max(every, 4 * (performance.now() - began));
      anew();
      if (dirty) plan();
    };
    const plan = () => {
      if (busy) dirty = true;
      else if (!timer) timer = setTimeout(load, Math.max(0, next - performance.now()));
    };
    load();
    const stop = onLink(() => { if (link.up && link.revision !== had) plan(); });
    return () => { stop(); clearTimeout(timer); control.abort(); };
  }, [path]);
  return now.current;
}

// route reads the address: #/pods/default/chat?x=y.
export function route() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const parts = path.split('/').filter(Boolean).map(decodeURIComponent);
  return { view: parts[0] ?? 'fleet', parts: parts.slice(1), path, params: new URLSearchParams(query) };
}

// addressOf writes what route reads.
export function addressOf(parts, params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value)).toString();
  return '#/' + parts.map(encodeURIComponent).join('/') + (query ? '?' + query : '');
}

// useRoute returns the address as it is, and draws anew when it changes.
export function useRoute() {
  const [at, set] = useState(route);
  useEffect(() => {
    const changed = () => set(route());
    addEventListener('hashchange', changed);
    addEventListener('berth:address', changed);
    return () => { removeEventListener('hashchange', changed); removeEventListener('berth:address', changed); };
  }, []);
  return at;
}

// setParams writes parameters of the view into the address, in place: what is typed letter by letter is no history.
export function setParams(change) {
  const { view, parts, params } = route();
  history.replaceState(history.state, '', addressOf([view, ...parts], { ...Object.fromEntries(params), ...change }));
  dispatchEvent(new Event('berth:address'));
}

// useSeen returns a ref for an element, and whether the element is on the screen or near it. Those that surely are at first need not
// wait to be told.
export function useSeen(first = false) {
  const ref = useRef(null);
  const [seen, set] = useState(first);
  useEffect(() => {
    const element = ref.current;
    watched.set(element, set);
    eyes.observe(element);
    return () => { eyes.unobserve(element); watched.delete(element); };
  }, []);
  return [ref, seen];
}

// What has left stays for a moment: it may come back, as when a window changes its size or a picture is taken.
const leaves = 300;
const watched = new WeakMap();
const leaving = new WeakMap();
const eyes = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    clearTimeout(leaving.get(target));
    if (isIntersecting) watched.get(target)?.(true);
    else leaving.set(target, setTimeout(() => watched.get(target)?.(false), leaves));
  }
}, { rootMargin: '800px 0px' });

// useTick draws anew every so many ms, for what tells how long ago something was.
export function useTick(ms) {
  const anew = useAnew();
  useEffect(() => {
    const timer = setInterval(anew, ms);
    return () => clearInterval(timer);
  }, [ms]);
}
