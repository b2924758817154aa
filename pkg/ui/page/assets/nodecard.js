// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// A node as a card, with a bar for each GPU, and as a line. What is far off the screen is its name only.

import { html, useLayoutEffect, useMemo, useRef } from './html.js';
import { Bar, Mark, inWords } from './bars.js';
import { PodLink } from './parts.js';
import { addressOf, useSeen } from './use.js';
import { size } from './format.js';
import { labelled, segments, freeOn, models, wordsOf, amountsOf, stateOf, nodeWords } from './gpumap.js';

const rem = 16;

// NodeCard is the card of a node; match says of a pod whether the filters mean it, if there are any.
export function NodeCard({ node, now, match, first }) {
  const [ref, seen] = useSeen(first);
  const height = useHeight(ref, seen, (4.2 + node.devices.length * 1.85) * rem);
  return html`<section class="node" ref=${ref} aria-label=${'Node ' + node.name} style=${{ minHeight: height }}>
    <${CardHead} node=${node} />
    ${seen && html`<${CardBody} node=${node} now=${now} match=${match} />`}
  </section>`;
}

// useHeight keeps the room of what is not drawn any more, so that the page does not jump.
function useHeight(ref, seen, guess) {
  const was = useRef(guess);
  useLayoutEffect(() => { if (seen) was.current = ref.current.offsetHeight; });
  return seen ? '' : was.current + 'px';
}

function CardHead({ node }) {
  const { sum, largest } = freeOn(node);
  return html`<div class="node-head">
    <h2><a href=${addressOf(['nodes', node.name])}>${node.name}</a></h2>
    <p class="room"><b>${size(sum)}</b> free, <b>${size(largest)}</b> on one GPU</p>
    <p class="models">${node.devices.length ? models(node.devices) : 'no GPUs'}${node.pool ? ` · pool ${node.pool}` : ''}</p>
  </div>`;
}

export function CardBody({ node, now, match }) {
  const labels = useMemo(() => labelled(node.devices), [node]);
  const problems = nodeWords(node, now);
  return html`
    ${problems.length > 0 && html`<ul class="problems">${problems.map((p) => html`<li>${p}</li>`)}</ul>`}
    ${node.devices.length > 0 && html`<table class="gpus">
      <caption class="hidden">Memory of the GPUs of node ${node.name}</caption>
      <thead><tr><th scope="col"><span class="hidden">GPU</span></th><th scope="col" class="bar-head"><span class="hidden">Who holds it</span></th>
        <th scope="col" class="amount">Booked</th><th scope="col" class="amount">In use</th><th scope="col" class="amount">Free</th></tr></thead>
      <tbody>${node.devices.map((d) => html`<${DeviceRow} device=${d} labels=${labels} match=${match} />`)}</tbody>
    </table>`}
    <ul class="legend" aria-label=${'Pods on node ' + node.name}>${[...labels.values()].map((pod) => html`<li>
      <${Mark} pod=${pod} /><span><${PodLink} pod=${pod} /> <span class="muted">${[amountsOf(pod.shares), stateOf(pod.shares[0], now)].filter(Boolean).join(', ')}</span></span>
    </li>`)}</ul>`;
}

function DeviceRow({ device, labels, match }) {
  const words = wordsOf(device);
  const amount = (bytes) => html`<td class=${bytes ? '' : 'none'}>${size(bytes)}</td>`;
  return html`
    <tr title=${device.uuid}>
      <th scope="row">${device.index}</th>
      <td><${Bar} parts=${segments(device, labels)} match=${match} /><span class="hidden">${inWords(device, labels)}</span></td>
      ${amount(device.booked)}${amount(device.measured)}${amount(device.free)}
    </tr>
    ${words.map((text) => html`<tr><td></td><td class="words" colspan="4">${text}</td></tr>`)}`;
}

// NodeLine is a node as a line: for fleets of which cards show too little at once.
export function NodeLine({ node, match, first }) {
  const [ref, seen] = useSeen(first);
  const { sum, largest } = freeOn(node);
  return html`<section class="line" ref=${ref} aria-label=${'Node ' + node.name}>
    <h2><a href=${addressOf(['nodes', node.name])} title=${models(node.devices)}>${node.name}</a></h2>
    ${seen && html`<${LineBody} node=${node} match=${match} sum=${sum} largest=${largest} />`}
  </section>`;
}

function LineBody({ node, match, sum, largest }) {
  const labels = useMemo(() => labelled(node.devices), [node]);
  const unwell = node.devices.filter((d) => d.state !== 'Ready').length;
  const notes = [node.reason, ...(node.problems ?? []), unwell > 0 && `${unwell} of ${node.devices.length} GPUs not usable`].filter(Boolean);
  return html`
    <div class="bars" title=${notes.join('; ') || null}>
      ${node.devices.map((d) => html`<${Bar} parts=${segments(d, labels)} slim match=${match} />`)}
      ${notes.length > 0 && html`<span class="hidden">${notes.join('; ')}</span>`}
    </div>
    <p class="number">${notes.length > 0 && html`<span class="tag warn" title=${notes.join('; ')} aria-hidden="true">!</span> `}<b>${size(sum)}</b><span class="unit"> free</span></p>
    <p class="number">${size(largest)}<span class="unit"> on one GPU</span></p>`;
}
