// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Usage: who uses how much, and which bookings are far from what was measured.

import { html } from '../html.js';
import { Heading, Loading, Failed, Text, Select, Table, PodLink, Command, useSome } from '../parts.js';
import { useDocument, setParams } from '../use.js';
import { size, count, id } from '../format.js';

const keys = [['namespace', 'Namespace'], ['model', 'Model'], ['owner', 'Owner'], ['node-pool', 'Node pool']];

export function Usage({ at }) {
  const by = at.params.get('by') || 'namespace';
  const label = keys.every(([key]) => key !== by);
  const { document: usage, error } = useDocument(`/usage?by=${encodeURIComponent(by)}`, 3000);
  return html`
    <${Heading} title="Usage" lead="Who uses how much GPU memory: what is booked, what is in use, what is idle." />
    <div class="filters">
      <${Select} label="Add up by" options=${[...keys, ['label', 'Label of pods']]} value=${label ? 'label' : by}
        onValue=${(v) => setParams({ by: v === 'label' ? 'app' : v })} />
      ${label && html`<${Text} label="Key of the label" value=${by} onValue=${(v) => setParams({ by: v })} after=${400} />`}
    </div>
    ${error && html`<${Failed} error=${error} />`}
    ${!usage && !error && html`<${Loading} />`}
    ${usage && html`<div class="stack"><${Rows} usage=${usage} by=${by} /><${Sizes} usage=${usage} />
      ${usage.notes?.map((note) => html`<p class="muted small">Note: ${note}</p>`)}
      <section class="panel"><h2>In a terminal</h2><${Command} text=${`kubectl berth top --by ${by}`} /></section></div>`}`;
}

function Rows({ usage, by }) {
  const pools = usage.rows.some((r) => r.capacity !== undefined);
  const columns = [[keys.find(([key]) => key === by)?.[1] ?? by], ['Pods', 'number'], ['GPUs', 'number'], ['Booked', 'number'], ['In use', 'number'], ['Idle', 'number'],
    ...(pools ? [['Can be booked', 'number']] : []), ['Of what is booked']];
  const [some, more] = useSome(usage.rows, 100);
  const total = usage.total;
  const most = Math.max(1, ...usage.rows.map((r) => r.booked), ...usage.rows.map((r) => r.measured));
  return html`<section class="panel">
    <h2>Who uses what</h2>
    ${usage.rows.length === 0 ? html`<p>Nobody holds GPU memory.</p>` : html`
    <${Table} caption="Usage" columns=${columns}
      foot=${html`<tr><th scope="row">Total</th>${cells(total, pools)}<td></td></tr>`}>
      ${some.map((r) => html`<tr><th scope="row">${r.name}</th>${cells(r, pools)}<td data-label="Share"><${Share} row=${r} most=${most} total=${total.booked} /></td></tr>`)}
    <//>`}
    ${more}
    ${total.unmeasuredPods > 0 && html`<p class="muted small">+ without ${count(total.unmeasuredPods, 'pod')} whose GPUs are in no report</p>`}
    ${total.capacity !== undefined && html`<p class="muted small">Pods can book ${size(total.capacity)} on these GPUs. Processes of none of these pods hold ${size(usage.others ?? 0)}.</p>`}
  </section>`;
}

const cells = (row, pools) => html`
  <td data-label="Pods" class="number">${row.pods}</td><td data-label="GPUs" class="number">${row.gpus}</td>
  <td data-label="Booked" class="number">${size(row.booked)}</td><td data-label="In use" class="number">${measuredOf(row)}</td>
  <td data-label="Idle" class="number">${size(row.idle)}</td>
  ${pools && html`<td data-label="Can be booked" class="number">${row.capacity === undefined ? '–' : size(row.capacity)}</td>`}`;

// measuredOf is marked where it is not all.
function measuredOf(row) {
  if (row.unmeasuredPods === 0) return size(row.measured);
  return row.unmeasuredPods === row.pods ? '–' : size(row.measured) + '+';
}

function Share({ row, most, total }) {
  return html`<div class="against"><div class="gauge" aria-hidden="true">
    <span class="estimate" style=${{ width: `${(100 * row.booked) / most}%` }}></span><span class="peak" style=${{ width: `${(100 * row.measured) / most}%` }}></span></div>
    <span class="small">${total ? Math.round((100 * row.booked) / total) : 0} %</span></div>`;
}

// Sizes says what to book instead, and of whom that is not known.
function Sizes({ usage }) {
  const [some, more] = useSome(usage.rightSizing, 20);
  const reasons = new Map();
  for (const pod of usage.notSized) reasons.set(pod.reason, [...(reasons.get(pod.reason) ?? []), pod]);
  return html`<section class="panel">
    <h2>Right-sizing</h2>
    ${usage.rightSizing.length === 0 && html`<p>No booking is known to be far from what was measured.</p>`}
    <div class="cards">${some.map((a) => html`<div class="advice">
      <p><${PodLink} pod=${a} /> books <b>${size(a.booked)}</b>, peaks at <b>${size(a.peak)}</b>${a.gpus > 1 && ` on ${a.gpus} GPUs`} (${count(a.samples, 'pod')} measured ${a.where.replace(/,$/, '')})${a.measured > 0 && `, holds ${size(a.measured)} now`}.</p>
      ${a.hint ? html`<p class="muted">${a.hint}</p>` : html`<${Command} text=${a.line} />`}
    </div>`)}</div>
    ${more}
    ${[...reasons].map(([reason, pods]) => html`<p class="muted small">Not known of ${id(pods[0])}${pods.length > 1 && ` and ${pods.length - 1} more`}: ${reason}.</p>`)}
  </section>`;
}
