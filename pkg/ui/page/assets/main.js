// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// The frame: what is looked at, the way to the views, and the view that the address names.

import { html, render, useEffect, useRef, useState } from './html.js';
import { follow } from './api.js';
import { useDocument, useLink, useRoute, useTick } from './use.js';
import { clock, count, span } from './format.js';
import { Failed } from './parts.js';
import { Fleet } from './views/fleet.js';
import { Node } from './views/node.js';
import { Pods } from './views/pods.js';
import { Pod } from './views/pod.js';
import { Waiting } from './views/waiting.js';
import { WhatIf } from './views/whatif.js';
import { Evictions } from './views/evictions.js';
import { Models } from './views/models.js';
import { Usage } from './views/usage.js';

const views = [
  { name: 'fleet', title: 'Fleet', draw: Fleet },
  { name: 'pods', title: 'Pods', draw: Pods, one: Pod },
  { name: 'waiting', title: 'Waiting', draw: Waiting },
  { name: 'what-if', title: 'What if', draw: WhatIf },
  { name: 'evictions', title: 'Plans and evictions', draw: Evictions },
  { name: 'models', title: 'Models', draw: Models },
  { name: 'usage', title: 'Usage', draw: Usage },
];

function App() {
  const at = useRoute();
  const { document: session, error: noSession } = useDocument('/session');
  const map = useDocument('/map');
  const link = useLink();
  usePlaces(at);
  const view = views.find((v) => v.name === at.view);
  let shown;
  if (at.view === 'nodes' && at.parts[0]) shown = html`<${Node} name=${at.parts[0]} map=${map.document} />`;
  else if (view?.one && at.parts.length) shown = html`<${view.one} key=${at.path} at=${at} map=${map.document} session=${session} />`;
  else if (view) shown = html`<${view.draw} at=${at} map=${map.document} session=${session} />`;
  else shown = html`<h1 tabindex="-1">There is no such view</h1><p><a href="#/fleet">The fleet</a> is a good place to begin.</p>`;
  const refused = link.refused || (noSession?.code === 401 && noSession.message);
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top"><div class="top-in">
      <a class="brand" href="#/fleet"><${Mark} /> Berth</a>
      <nav class="views" aria-label="Views"><ul>
        ${views.map((v) => html`<li><a href=${'#/' + v.name} aria-current=${v === view || (v.name === 'fleet' && at.view === 'nodes') ? 'page' : null}>
          ${v.title}${v.name === 'waiting' && map.document?.pendingPods.length > 0 && html`
            <span class="badge">${map.document.pendingPods.length}<span class="hidden"> ${map.document.pendingPods.length === 1 ? 'pod' : 'pods'}</span></span>`}
        </a></li>`)}
      </ul></nav>
      <${Live} session=${session} link=${link} time=${map.document?.time} />
    </div></header>
    <main id="main" tabindex="-1">
      ${refused && html`<p class="notice bad" role="alert">${refused}</p>`}
      ${!refused && map.error && html`<${Failed} error=${map.error} />`}
      ${shown}
    </main>
    <footer class="foot">
      ${map.document?.notes?.map((note) => html`<p>Note: ${note}</p>`)}
      ${session && html`<p>kubectl berth ${session.version}. The scheduler's own code answers, on this machine; nothing is written.</p>`}
    </footer>
    <${Announced} map=${map.document} link=${link} />`;
}

const skip = (event) => {
  event.preventDefault();
  document.getElementById('main').focus();
};

const Mark = () => html`<svg viewBox="0 0 32 32" aria-hidden="true" focusable="false">
  <rect width="32" height="32" rx="7" fill="#0b4f8a" /><rect x="6" y="7" width="14" height="5" rx="1.5" fill="#e69f00" />
  <rect x="21.5" y="7" width="4.5" height="5" rx="1.5" fill="#7fb2dd" /><rect x="6" y="13.5" width="8" height="5" rx="1.5" fill="#56b4e9" />
  <rect x="15.5" y="13.5" width="10.5" height="5" rx="1.5" fill="#f0e442" /><rect x="6" y="20" width="20" height="5" rx="1.5" fill="#7fb2dd" />
</svg>`;

// Live says of what the page is, and of when.
function Live({ session, link, time }) {
  useTick(1000);
  if (!session) return html`<p class="live">Connecting…</p>`;
  const what = session.file ? session.file.split('/').pop() : session.context || session.server;
  if (link.lost) {
    return html`<p class="live lost">Connection lost ${span((Date.now() - link.lost) / 1000)} ago${time && `, data of ${clock(time)}`}</p>`;
  }
  if (session.live === 'never') return html`<p class="live" title=${session.file}>Snapshot ${what}${time && `, of ${clock(time)}`}</p>`;
  const how = session.live === 'poll' ? 'Looks every 15 s' : 'Live';
  return html`<p class=${link.up ? 'live on' : 'live'} title=${session.server}>${link.up ? how : 'Connecting'}: ${what}${time && `, as of ${clock(time)}`}</p>`;
}

// Announced tells those who hear the page what changed.
function Announced({ map, link }) {
  const [text, set] = useState('');
  const before = useRef(null);
  const waiting = map?.pendingPods.length;
  useEffect(() => {
    if (before.current !== null && waiting !== undefined) set(waiting === 0 ? 'No pod waits any more.' : `${count(waiting, 'pod')} ${waiting === 1 ? 'waits' : 'wait'} now.`);
    if (waiting !== undefined) before.current = waiting;
  }, [waiting]);
  const lost = link.lost !== null;
  useEffect(() => {
    if (before.current !== null) set(lost ? 'The connection is lost.' : 'The connection is back.');
  }, [lost]);
  return html`<p class="hidden" role="status" aria-live="polite">${text}</p>`;
}

// usePlaces gives each place of the history its title, its heading the focus, and its place on the page back.
function usePlaces(at) {
  const first = useRef(true);
  useEffect(() => {
    const heading = document.querySelector('main h1');
    document.title = `${heading?.textContent || 'Berth'} · Berth`;
    if (first.current) {
      first.current = false;
      history.scrollRestoration = 'manual';
    } else {
      heading?.focus({ preventScroll: true });
    }
    const place = history.state?.place;
    if (place === undefined) history.replaceState({ place: ++lastPlace }, '');
    scrollTo(0, places.get(place) ?? 0);
    const remember = () => places.set(history.state?.place, scrollY);
    addEventListener('scroll', remember, { passive: true });
    return () => removeEventListener('scroll', remember);
  }, [at.path]);
}

const places = new Map();
let lastPlace = Date.now();

render(html`<${App} />`, document.getElementById('app'));
follow();
