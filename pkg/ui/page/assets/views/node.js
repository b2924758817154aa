// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// One node: its card, and what each GPU is.

import { html } from '../html.js';
import { Heading, Loading, Table, Command } from '../parts.js';
import { CardBody } from '../nodecard.js';
import { Key } from '../bars.js';
import { size, count } from '../format.js';
import { freeOn, models } from '../gpumap.js';

export function Node({ name, map }) {
  const back = ['#/fleet', 'Fleet'];
  if (!map) return html`<${Heading} title=${name} back=${back} /><${Loading} />`;
  const node = map.nodes.find((n) => n.name === name);
  if (!node) return html`<${Heading} title=${name} back=${back} lead="There is no node of this name that has GPUs." />`;
  const { sum, largest } = freeOn(node);
  return html`
    <${Heading} title=${name} back=${back} lead=${`${models(node.devices) || 'no GPUs'}; ${size(sum)} free, ${size(largest)} on one GPU${node.pool ? `; pool ${node.pool}` : ''}`} />
    <${Key} kinds=${['used', 'booked', 'free']} />
    <div class="stack">
      <section class="panel" aria-label="What its GPUs hold"><${CardBody} node=${node} now=${map.time} /></section>
      <section class="panel">
        <h2>${count(node.devices.length, 'GPU')}</h2>
        <${Table} caption=${'GPUs of ' + name} columns=${[['GPU'], ['Model'], ['State'], ['Total', 'number'], ['Can be booked', 'number'], ['UUID']]}>
          ${node.devices.map((d) => html`<tr>
            <th scope="row">GPU ${d.index}</th>
            <td data-label="Model">${d.model || 'not known'}</td>
            <td data-label="State"><span class=${'tag ' + (d.state === 'Ready' ? 'good' : 'warn')}>${d.state}</span>${d.reason ? ' ' + d.reason : ''}</td>
            <td data-label="Total" class="number">${size(d.total)}</td>
            <td data-label="Can be booked" class="number">${size(d.capacity)}</td>
            <td data-label="UUID" class="mono">${d.uuid}</td>
          </tr>`)}
        <//>
        ${node.driverVersion && html`<p class="muted small">Driver ${node.driverVersion}</p>`}
      </section>
      <section class="panel">
        <h2>Can it be drained?</h2>
        <p><a href=${'#/what-if?mode=waiting&run=1&drain=' + encodeURIComponent(name)}>See where its pods would go</a>, or ask in a terminal:</p>
        <${Command} text=${`kubectl berth what-if --drain ${name}`} />
      </section>
    </div>`;
}
