// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// The pods on GPUs, and those that wait.

import { html, useMemo } from '../html.js';
import { Heading, Loading, Text, Select, Table, PodLink, NodeLink, useSome } from '../parts.js';
import { setParams } from '../use.js';
import { count, each, id } from '../format.js';
import { podsOf, asks, stateOf, compare } from '../gpumap.js';

const columns = [['Pod'], ['State'], ['Node'], ['GPUs', 'number'], ['Booked', 'number'], ['In use', 'number'], ['Model']];

export function Pods({ at, map }) {
  const { q = '', namespace = '', node = '', state = '' } = Object.fromEntries(at.params);
  const all = useMemo(() => (map ? rowsOf(map) : []), [map]);
  const rows = all.filter((r) => (!q || r.text.includes(q.trim().toLowerCase())) && (!namespace || r.pod.namespace === namespace)
    && (!node || r.node === node) && (!state || r.kind === state));
  const [some, more] = useSome(rows, 200);
  if (!map) return html`<${Heading} title="Pods" /><${Loading} />`;
  const set = (name) => (value) => setParams({ [name]: value });
  const values = (of) => [...new Set(all.map(of).filter(Boolean))].sort(compare);
  return html`
    <${Heading} title="Pods" lead="Pods that hold GPU memory, and pods that wait for it." />
    <div class="filters" role="search" aria-label="Filter the pods">
      <${Text} label="Find pods, models" type="search" kind="text" value=${q} onValue=${set('q')} after=${150} />
      <${Select} label="Namespace" any="All" options=${values((r) => r.pod.namespace)} value=${namespace} onValue=${set('namespace')} />
      <${Select} label="Node" any="All" options=${values((r) => r.node)} value=${node} onValue=${set('node')} />
      <${Select} label="State" any="All" options=${values((r) => r.kind)} value=${state} onValue=${set('state')} />
    </div>
    <section class="panel">
      <p class="muted small" role="status">${rows.length === all.length ? count(all.length, 'pod') : `${rows.length} of ${count(all.length, 'pod')}`}</p>
      ${rows.length > 0 && html`<${Table} caption="Pods" columns=${columns}>${some.map((r) => html`<${Row} key=${r.key} row=${r} />`)}<//>`}
      ${more}
    </section>`;
}

const Row = ({ row }) => html`<tr>
  <th scope="row"><${PodLink} pod=${row.pod} /></th>
  <td data-label="State"><span class=${'tag ' + row.tone}>${row.state}</span></td>
  <td data-label="Node" class=${row.node ? '' : 'nothing'}>${row.node ? html`<${NodeLink} name=${row.node} />` : '–'}</td>
  <td data-label="GPUs" class=${'number' + (row.gpus ? '' : ' nothing')}>${row.gpus || '–'}</td>
  <td data-label="Booked" class="number">${row.booked}</td>
  <td data-label="In use" class=${'number' + (row.gpus ? '' : ' nothing')}>${row.used}</td>
  <td data-label="Model" class=${row.model ? '' : 'nothing'}>${row.model || '–'}</td>
</tr>`;

function rowsOf(map) {
  const rows = map.pendingPods.map((pod) => ({
    key: pod.uid, pod, kind: 'waiting', tone: 'warn', state: 'waits', node: '', gpus: 0, booked: `asks for ${asks(pod)}`, used: '–', model: pod.model,
  }));
  for (const pod of podsOf(map)) {
    const first = pod.shares[0];
    const doing = stateOf(first, map.time);
    rows.push({
      key: pod.key + pod.node, pod, kind: first.loading ? 'loading' : doing ? 'idle' : 'running', tone: first.loading ? '' : doing ? '' : 'good',
      state: doing || 'running', node: pod.node, gpus: pod.shares.length, booked: each(pod.shares.map((s) => s.booked)),
      used: each(pod.shares.map((s) => s.measured)), model: first.model,
    });
  }
  for (const row of rows) row.text = `${id(row.pod)} ${row.model ?? ''} ${row.node}`.toLowerCase();
  return rows;
}
