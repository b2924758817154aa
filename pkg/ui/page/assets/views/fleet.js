// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// The fleet: who holds what on which GPU of which node.

import { html, useEffect, useMemo } from '../html.js';
import { Heading, Loading, Figures, Text, Select, Choice } from '../parts.js';
import { Key } from '../bars.js';
import { NodeCard, NodeLine } from '../nodecard.js';
import { setParams } from '../use.js';
import { size, count } from '../format.js';
import { sumsOf, compare } from '../gpumap.js';

// Up to so many nodes are drawn as cards, if the user does not say.
const cards = 24;

export function Fleet({ at, map }) {
  const filters = Object.fromEntries(at.params);
  const choices = useMemo(() => map && choicesOf(map), [map]);
  const { nodes, match } = useMemo(() => (map ? filtered(map, filters) : { nodes: [] }), [map, at.params.toString()]);
  const kinds = useMemo(() => kindsOf(nodes), [nodes]);
  useEffect(() => { if (map) performance.mark('fleet drawn'); }, [!map]);
  if (!map) return html`<${Heading} title="Fleet" /><${Loading} />`;
  const show = filters.show || (map.nodes.length > cards ? 'lines' : 'cards');
  const set = (name) => (value) => setParams({ [name]: value });
  const all = nodes.length === map.nodes.length;
  return html`
    <${Heading} title="Fleet" lead="What each GPU holds, as the scheduler sees it." />
    <${Sums} nodes=${nodes} map=${map} />
    <div class="filters" role="search" aria-label="Filter the fleet">
      <${Text} label="Find nodes, pods, models" type="search" kind="text" value=${filters.q} onValue=${set('q')} after=${150} />
      ${choices.pools.length > 0 && html`<${Select} label="Node pool" any="All" options=${choices.pools} value=${filters.pool} onValue=${set('pool')} />`}
      <${Select} label="GPU" any="All" options=${choices.gpus} value=${filters.gpu} onValue=${set('gpu')} />
      ${choices.models.length > 0 && html`<${Select} label="Model" any="All" options=${choices.models} value=${filters.model} onValue=${set('model')} />`}
      <${Select} label="Namespace" any="All" options=${choices.namespaces} value=${filters.namespace} onValue=${set('namespace')} />
      <${Choice} label="Show" value=${show} options=${[['cards', 'Cards'], ['lines', 'Lines']]} onValue=${set('show')} />
    </div>
    <p class="hidden" role="status">${all ? '' : `${nodes.length} of ${count(map.nodes.length, 'node')} shown`}</p>
    ${kinds.length > 0 && html`<${Key} kinds=${kinds} />`}
    ${map.nodes.length === 0 && html`<p class="notice">No GPUs: no node has a GPUNode report. Berth's agent makes them; is it running on the nodes with GPUs?</p>`}
    ${map.nodes.length > 0 && nodes.length === 0 && html`<p class="notice">No node is left by these filters.
      <button type="button" onClick=${() => setParams({ q: '', pool: '', gpu: '', model: '', namespace: '' })}>Show all</button></p>`}
    ${!all && nodes.length > 0 && html`<p class="muted small">${nodes.length} of ${count(map.nodes.length, 'node')}</p>`}
    ${nodes.length > 0 && (show === 'cards' ? html`<div class=${nodes.length > cards ? 'fleet' : 'fleet few'}>${nodes.map((n, i) => html`<${NodeCard} key=${n.name} node=${n} now=${map.time} match=${match} first=${i < 8 || nodes.length <= cards} />`)}</div>`
      : html`<div class="lines">
        <div class="line head" aria-hidden="true"><span>Node</span><span>GPUs</span><span class="number">Free</span><span class="number">On one GPU</span></div>
        ${nodes.map((n, i) => html`<${NodeLine} key=${n.name} node=${n} match=${match} first=${i < 40} />`)}
      </div>`)}`;
}

function Sums({ nodes, map }) {
  const sums = sumsOf(nodes);
  const share = (part) => (sums.capacity ? `${Math.round((100 * part) / sums.capacity)} % of ${size(sums.capacity)}` : '');
  const waiting = map.pendingPods.length;
  return html`<${Figures} of=${[
    ['GPUs', sums.gpus, `${count(nodes.length, 'node')}${sums.unusable ? `, ${sums.unusable} not usable` : ''}`],
    ['Booked', size(sums.booked), share(sums.booked)],
    ['In use', size(sums.measured), share(sums.measured)],
    ['Free', size(sums.free), `${size(sums.largest)} on one GPU`],
    ['Waiting', waiting ? html`<a href="#/waiting">${count(waiting, 'pod')}</a>` : 'nobody', waiting ? 'see why' : ''],
  ]} />`;
}

// choicesOf lists what can be filtered by.
function choicesOf(map) {
  const pools = new Set(), gpus = new Set(), models = new Set(), namespaces = new Set();
  for (const node of map.nodes) {
    if (node.pool) pools.add(node.pool);
    for (const device of node.devices) {
      if (device.model) gpus.add(device.model);
      for (const pod of device.pods) {
        namespaces.add(pod.namespace);
        if (pod.model) models.add(pod.model);
      }
    }
  }
  const sorted = (set) => [...set].sort(compare);
  return { pools: sorted(pools), gpus: sorted(gpus), models: sorted(models), namespaces: sorted(namespaces) };
}

// filtered returns the nodes that the filters leave, and what says of a pod whether they mean it; nothing if they mean no pods.
function filtered(map, { q = '', pool, gpu, model, namespace }) {
  const text = q.trim().toLowerCase();
  const has = (value) => Boolean(value) && value.toLowerCase().includes(text);
  const ofPod = (pod) => (!namespace || pod.namespace === namespace) && (!model || pod.model === model);
  const named = (pod) => has(`${pod.namespace}/${pod.name}`) || has(pod.model);
  const whole = (node) => has(node.name) || has(node.pool) || node.devices.some((d) => has(d.model));
  let byPod = Boolean(model || namespace);
  const nodes = map.nodes.filter((node) => {
    if (pool && node.pool !== pool) return false;
    if (gpu && !node.devices.some((d) => d.model === gpu)) return false;
    const pods = node.devices.flatMap((d) => d.pods).filter(ofPod);
    if ((model || namespace) && pods.length === 0) return false;
    return !text || whole(node) || pods.some(named);
  });
  const found = new Set();
  if (text && !nodes.some(whole)) byPod = true;
  for (const node of nodes) {
    for (const pod of node.devices.flatMap((d) => d.pods)) {
      if (ofPod(pod) && (!text || whole(node) || named(pod))) found.add(`${pod.namespace}/${pod.name}`);
    }
  }
  return { nodes, match: byPod ? (pod) => found.has(`${pod.namespace}/${pod.name}`) : null };
}

// kindsOf lists the signs that the bars of nodes have.
function kindsOf(nodes) {
  const kinds = new Set();
  for (const node of nodes) {
    for (const d of node.devices) {
      if (d.pods.length) kinds.add('used').add('booked');
      if (d.foreign) kinds.add('foreign');
      if (d.leaving) kinds.add('leaving');
      kinds.add(d.state === 'Ready' ? 'free' : 'blocked');
    }
  }
  return ['used', 'booked', 'free', 'foreign', 'leaving', 'blocked'].filter((kind) => kinds.has(kind));
}
