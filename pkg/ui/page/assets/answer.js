// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// The answer to a what-if, in the words of the command and as a map of the nodes that it is about.

import { html, useMemo } from './html.js';
import { Table, PodLink, NodeLink, useSome } from './parts.js';
import { Bar, Key } from './bars.js';
import { size, count, duration, id } from './format.js';
import { labelled, segments } from './gpumap.js';

// summary is the last line that the command prints.
export function summary(answer) {
  const placed = answer.pods.filter((p) => p.node).length;
  const victims = new Set(answer.pods.flatMap((p) => p.victims.map(id)));
  if (answer.pods.length === 0) return 'No pod of this scheduler is asked about: describe one, or drain a node.';
  return `${placed} of ${count(answer.pods.length, 'pod')} would be placed, and ${victims.size ? count(victims.size, 'pod') + ' evicted' : 'nobody evicted'}.`;
}

export const allPlaced = (answer) => answer.pods.length > 0 && answer.pods.every((p) => p.node);

// Answer draws an answer; map is the cluster as it is.
export function Answer({ answer, map, title = 'Answer' }) {
  const pending = answer.pods.filter((p) => !p.node);
  return html`<div class="stack">
    <section class=${'panel words ' + (allPlaced(answer) ? 'answer-yes' : 'answer-no')} role="status">
      <h2>${title}</h2>
      <p class="summary"><b>${summary(answer)}</b></p>
      ${pending.slice(0, 20).map((p) => html`<p class="pending">${id(p)} stays pending: ${p.pending}</p>`)}
      ${pending.length > 20 && html`<p class="muted">and ${pending.length - 20} more</p>`}
      ${answer.notes?.map((note) => html`<p class="muted small">Note: ${note}</p>`)}
    </section>
    ${answer.pods.length > 0 && html`<section class="panel"><h2>Pod by pod</h2><${Outcomes} pods=${answer.pods} map=${map} caption="Where each pod would go" /></section>`}
    ${answer.others?.length > 0 && html`<section class="panel"><h2>Pods that wait now would find a place too</h2>
      <${Outcomes} pods=${answer.others} map=${map} caption="Pods that wait now" /></section>`}
    ${map && html`<${After} answer=${answer} map=${map} />`}
  </div>`;
}

export function Outcomes({ pods, map, caption }) {
  const names = useMemo(() => gpuNames(map), [map]);
  const [some, more] = useSome(pods, 100);
  return html`<${Table} caption=${caption} columns=${[['Pod'], ['Node'], ['GPUs'], ['Evicts'], ['After', 'number']]}>
    ${some.map((p) => html`<tr>
      <th scope="row">${known(map, p) ? html`<${PodLink} pod=${p} />` : id(p)}</th>
      <td data-label="Node">${p.node ? html`<${Where} node=${p.node} map=${map} />` : html`<span class="tag warn">stays pending</span>`}</td>
      <td data-label="GPUs">${p.devices.map((d) => html`<div title=${d.uuid}>${size(d.memory)} on ${names.get(d.uuid) ?? newName(d.uuid)}</div>`)}${!p.devices.length && '–'}</td>
      <td data-label="Evicts">${p.victims.map((v) => html`<div><${PodLink} pod=${v} /></div>`)}${!p.victims.length && (p.node ? 'nobody' : '–')}</td>
      <td data-label="After" class="number">${p.node ? duration(p.afterSeconds ?? 0) : '–'}</td>
    </tr>`)}<//>${more}`;
}

// known says whether a pod is one of the cluster.
const known = (map, pod) => Boolean(map) && (map.pendingPods.some((p) => id(p) === id(pod))
  || map.nodes.some((n) => n.devices.some((d) => d.pods.some((p) => id(p) === id(pod)))));

// Where names a node; one that would be added is none of the cluster.
const Where = ({ node, map }) => (map?.nodes.some((n) => n.name === node) ? html`<${NodeLink} name=${node} />` : html`<span>${node} <span class="tag">new</span></span>`);

// newName shortens what the simulator calls a GPU of a node that would be added.
const newName = (uuid) => uuid.replace(/^GPU-new-.*-(\d+)$/, 'GPU $1');

function gpuNames(map) {
  const names = new Map();
  for (const node of map?.nodes ?? []) for (const d of node.devices) names.set(d.uuid, `GPU ${d.index}`);
  return names;
}

// After draws the nodes that get pods, as they would be then.
function After({ answer, map }) {
  const placed = [...answer.pods, ...(answer.others ?? [])].filter((p) => p.node && p.devices.length);
  const nodes = map.nodes.filter((n) => placed.some((p) => p.node === n.name));
  const [some, more] = useSome(nodes, 12);
  if (nodes.length === 0) return null;
  const gone = new Set(placed.flatMap((p) => [id(p), ...p.victims.map(id)]));
  const given = new Map();
  for (const p of placed) for (const d of p.devices) given.set(d.uuid, [...(given.get(d.uuid) ?? []), { name: id(p), amount: d.memory }]);
  return html`<section class="panel">
    <h2>The nodes then</h2>
    <${Key} kinds=${['new', 'used', 'booked', 'free']} />
    ${some.map((node) => html`<${NodeThen} node=${node} gone=${gone} given=${given} />`)}
    ${more}
  </section>`;
}

function NodeThen({ node, gone, given }) {
  const labels = labelled(node.devices);
  return html`<div class="then"><h3><${NodeLink} name=${node.name} /></h3>
    <table class="gpus"><caption class="hidden">GPUs of node ${node.name} then</caption>
      <thead><tr><th scope="col"><span class="hidden">GPU</span></th><th scope="col" class="bar-head"><span class="hidden">Who would hold it</span></th>
        <th scope="col" class="amount">Gets</th><th scope="col" class="amount">Free then</th></tr></thead>
      <tbody>${node.devices.map((device) => {
        const { parts, gets, free } = deviceThen(device, labels, gone, given.get(device.uuid) ?? []);
        return html`<tr><th scope="row">${device.index}</th><td><${Bar} parts=${parts} /></td>
          <td class=${gets ? '' : 'none'}>${gets ? size(gets) : '–'}</td><td class=${free ? '' : 'none'}>${size(free)}</td></tr>`;
      })}</tbody></table></div>`;
}

// deviceThen is what a device would hold once victims have gone and pods have come.
function deviceThen(device, labels, gone, given) {
  const pods = device.pods.filter((p) => !gone.has(id(p)));
  const parts = segments({ ...device, pods }, labels);
  const gets = given.reduce((sum, g) => sum + g.amount, 0);
  const rest = parts.at(-1)?.kind === 'free' ? parts.pop().amount : 0;
  const free = Math.max(0, rest - gets);
  parts.push(...given.map((g) => ({ ...g, kind: 'new' })));
  if (free) parts.push({ amount: free, kind: 'free' });
  else if (device.state !== 'Ready' && parts.length === 0) parts.push({ amount: 1, kind: 'blocked' });
  return { parts, gets, free };
}
