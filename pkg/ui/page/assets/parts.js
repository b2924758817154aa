// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Parts that several views are made of.

import { html, useEffect, useRef, useState } from './html.js';
import { addressOf } from './use.js';
import { id } from './format.js';

// Heading is the heading of a view: it gets the focus when the view is come to.
export function Heading({ title, lead, back, children }) {
  return html`<div class="heading">
    ${back && html`<p class="back"><a href=${back[0]}>← ${back[1]}</a></p>`}
    <h1 tabindex="-1">${title}</h1>
    ${lead && html`<p class="lead">${lead}</p>`}
    ${children}
  </div>`;
}

export const Loading = ({ what = 'Loading' }) => html`<p class="loading" role="status">${what}…</p>`;

export const Failed = ({ error }) => html`<p class="notice bad" role="alert">${error.message}</p>`;

// Figures are the numbers on top of a view: [name, value, more].
export const Figures = ({ of }) => html`<dl class="figures">
  ${of.map(([name, value, more]) => html`<div><dt>${name}</dt><dd>${value}</dd>${more && html`<dd>${more}</dd>`}</div>`)}
</dl>`;

export const PodLink = ({ pod }) => html`<a href=${addressOf(['pods', pod.namespace, pod.name])}>${id(pod)}</a>`;

export const NodeLink = ({ name }) => (name ? html`<a href=${addressOf(['nodes', name])}>${name}</a>` : '–');

let fields = 0;
const useId = (prefix) => useRef(`${prefix}-${++fields}`).current;

// Text is a field to type into; its value is told when the user pauses.
export function Text({ label, hint, value = '', onValue, type = 'text', kind = '', after = 0, ...rest }) {
  const name = useId('text');
  const [typed, set] = useState(value);
  const timer = useRef(0);
  const input = useRef(null);
  // What is being typed is newer than what comes back of it.
  useEffect(() => { if (document.activeElement !== input.current) set(value); }, [value]);
  const changed = (event) => {
    const now = event.target.value;
    set(now);
    clearTimeout(timer.current);
    if (after) timer.current = setTimeout(() => onValue(now), after);
    else onValue(now);
  };
  return html`<div class=${'field ' + kind}>
    <label for=${name}>${label}</label>
    <input ref=${input} id=${name} type=${type} value=${typed} onInput=${changed} autocomplete="off" spellcheck=${false}
      aria-describedby=${hint ? name + '-hint' : null} ...${rest} />
    ${hint && html`<span class="hint" id=${name + '-hint'}>${hint}</span>`}
  </div>`;
}

// Select is a choice of one; options are texts, or [value, text].
export function Select({ label, hint, value = '', onValue, options, any }) {
  const name = useId('select');
  const all = options.map((o) => (Array.isArray(o) ? o : [o, o]));
  if (value && !all.some(([v]) => v === value)) all.push([value, value]);
  return html`<div class="field">
    <label for=${name}>${label}</label>
    <select id=${name} value=${value} onChange=${(event) => onValue(event.target.value)} aria-describedby=${hint ? name + '-hint' : null}>
      ${any && html`<option value="" selected=${!value}>${any}</option>`}
      ${all.map(([v, text]) => html`<option value=${v} selected=${v === value}>${text}</option>`)}
    </select>
    ${hint && html`<span class="hint" id=${name + '-hint'}>${hint}</span>`}
  </div>`;
}

// Choice is a choice of few.
export const Choice = ({ label, value, onValue, options }) => html`<div class="field pick" role="group" aria-label=${label}>
  <span class="label" aria-hidden="true">${label}</span>
  <div class="choice">${options.map(([v, text]) => html`
    <button type="button" aria-pressed=${String(v === value)} onClick=${() => onValue(v)}>${text}</button>`)}</div>
</div>`;

// Command is a line for a terminal, to be copied.
export function Command({ text }) {
  const [copied, set] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    set(true);
    setTimeout(() => set(false), 2000);
  };
  return html`<div class="command"><code>${text}</code>
    <button type="button" onClick=${copy}>${copied ? 'Copied' : 'Copy'}<span class="hidden"> the command</span></button></div>`;
}

// Some shows the first of many, and the rest when it is asked to. What is never drawn costs nothing.
export function useSome(all, step = 100) {
  const [shown, set] = useState(step);
  const left = all.length - shown;
  const more = left > 0 && html`<p class="more"><button type="button" onClick=${() => set(shown + step)}>
    Show ${Math.min(step, left)} more of ${left}</button></p>`;
  return [all.slice(0, shown), more];
}

// Table is a table with a caption for those who hear it. Columns are [title, class]. Narrow screens show rows as lists.
export const Table = ({ caption, columns, foot, children }) => html`<div class="scroll"><table class="rows folds">
  <caption class="hidden">${caption}</caption>
  <thead><tr>${columns.map(([title, kind]) => html`<th scope="col" class=${kind}>${title}</th>`)}</tr></thead>
  <tbody>${children}</tbody>
  ${foot && html`<tfoot>${foot}</tfoot>`}
</table></div>`;
