// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Bars of GPU memory: who holds how much of a GPU. What a bar shows is said beside it in text, too.

import { html } from './html.js';
import { size, id } from './format.js';
import { segments } from './gpumap.js';

const meaning = {
  used: (s) => `${id(s.pod)}, in use`, booked: (s) => `${id(s.pod)}, booked and not in use`,
  leaving: () => 'held by processes of pods that are gone', foreign: () => 'in use by processes of no pod',
  free: () => 'free', blocked: () => 'not usable', new: (s) => `${s.name}, would be placed here`, enough: () => 'free', lack: () => 'lacking',
};

// A letter is shown where there is room for it: on a bar, of a part that is large enough.
const least = 0.045;

function Segment({ part, whole, slim, match }) {
  const { kind, pod } = part;
  const letter = !slim && part.amount / whole > least && { used: pod?.letter, booked: '', foreign: '#', new: '+' }[kind];
  return html`<span class=${`seg ${kind}${pod ? ' c' + pod.colour : ''}${match && pod && match(pod) ? ' match' : ''}`}
    style=${{ flexGrow: String(part.amount / 2 ** 20) }} title=${`${meaning[kind](part)}: ${size(part.amount)}`}>${letter || null}</span>`;
}

// Bar draws parts: {amount, kind, pod}. Parts are told in text by who draws the bar.
export function Bar({ parts, slim, match }) {
  const whole = parts.reduce((sum, part) => sum + part.amount, 0);
  return html`<div class=${'bar' + (slim ? ' slim' : '') + (match ? ' faded' : '')} aria-hidden="true">
    ${parts.map((part) => html`<${Segment} part=${part} whole=${whole} slim=${slim} match=${match} />`)}
  </div>`;
}

// inWords says what the bar of a device shows.
export const inWords = (device, labels) => segments(device, labels)
  .map((part) => `${meaning[part.kind](part)}: ${size(part.amount)}`).join('; ');

export const Mark = ({ pod }) => html`<span class=${'mark c' + pod.colour} aria-hidden="true">${pod.letter}</span>`;

// Key explains the signs of bars.
export function Key({ kinds }) {
  const sample = { letter: 'A', colour: 0, namespace: '', name: '' };
  const texts = {
    used: 'in use by pod A', booked: 'booked for it', free: 'free', foreign: 'in use by no pod', leaving: 'of pods that are gone',
    blocked: 'not usable', new: 'what is asked about',
  };
  return html`<ul class="key" aria-label="What bars show">${kinds.map((kind) => html`<li>
    <span class="bar" aria-hidden="true"><span class=${'seg c0 ' + kind}>${{ used: sample.letter, foreign: '#', new: '+' }[kind]}</span></span>
    ${texts[kind]}</li>`)}</ul>`;
}
