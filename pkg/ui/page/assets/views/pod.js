// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// One pod: why it waits, or where it is and where it would go now; node by node, GPU by GPU; what is recorded of it.

import { html } from '../html.js';
import { Heading, Loading, Failed, Table, NodeLink, Command, useSome } from '../parts.js';
import { Verdicts } from '../verdicts.js';
import { useDocument } from '../use.js';
import { size, since, each, clock, count } from '../format.js';
import { asks, podsOf, amountsOf, stateOf } from '../gpumap.js';
import { linesOf } from '../explain.js';
import { questionOf } from '../question.js';

export function Pod({ at, map }) {
  const [namespace, name] = at.parts;
  const { document: e, error } = useDocument(`/pods/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}/explain`, 3000);
  const isIt = (p) => p.namespace === namespace && p.name === name;
  const pending = map?.pendingPods.find(isIt);
  const placed = map && podsOf(map).find(isIt);
  const back = pending ? ['#/waiting', 'Waiting'] : ['#/pods', 'Pods'];
  return html`
    <${Heading} title=${`${namespace}/${name}`} back=${back}>
      ${pending && html`<span class="tag warn">waits ${since(pending.since, map.time)}</span>`}
      ${placed && html`<span class="tag good">on ${placed.node}</span>`}
    <//>
    ${error && html`<${Failed} error=${error} />`}
    ${!e && !error && html`<${Loading} what="Asking the scheduler's code" />`}
    <div class="stack">
      <div class="side">
        ${e && html`<${Why} e=${e} pending=${pending} />`}
        ${(pending || placed) && html`<${Facts} pending=${pending} placed=${placed} map=${map} e=${e} />`}
      </div>
      ${e?.nodes?.length > 0 && html`<${Nodes} nodes=${e.nodes} />`}
      ${e?.history?.length > 0 && html`<${History} entries=${e.history} />`}
      ${e?.notes?.map((note) => html`<p class="muted small">Note: ${note}</p>`)}
      <section class="panel"><h2>In a terminal</h2><${Command} text=${`kubectl berth explain pod/${name} -n ${namespace} -o wide`} /></section>
    </div>`;
}

const Why = ({ e, pending }) => html`<section class=${'panel words ' + (e.boundTo || !e.why ? 'answer-yes' : 'answer-no')}>
  <h2>${e.boundTo ? 'Why it is there' : e.why ? 'Why it waits' : 'What the scheduler says'}</h2>
  ${linesOf(e).map((line) => html`<p>${line}</p>`)}
  ${pending && html`<p><a href=${questionOf(pending)}>What if it asked for less, or there were more?</a></p>`}
</section>`;

const Facts = ({ pending, placed, map, e }) => html`<section class="panel">
  <h2>${pending ? 'What it asks for' : 'What it holds'}</h2>
  <dl class="facts">
    ${pending && html`<dt>Asks for</dt><dd>${asks(pending)}</dd>`}
    ${pending?.model && pending.gpuMemory && html`<dt>Model</dt><dd>${pending.model}</dd>`}
    ${pending?.nominatedNode && html`<dt>Nominated to</dt><dd><${NodeLink} name=${pending.nominatedNode} /></dd>`}
    ${placed && html`<dt>Node</dt><dd><${NodeLink} name=${placed.node} /></dd>
      <dt>Booked</dt><dd>${amountsOf(placed.shares)}</dd>
      <dt>In use</dt><dd>${each(placed.shares.map((s) => s.measured))}</dd>
      <dt>Does</dt><dd>${stateOf(placed.shares[0], map.time) || 'compute, or it is not measured'}</dd>
      ${placed.shares[0].model && html`<dt>Model</dt><dd>${placed.shares[0].model}</dd>`}`}
    ${e?.options?.length > 0 && html`<dt>${e.options.length > 1 ? 'Any of' : 'On GPUs'}</dt><dd>${e.options.map((o) => each(o)).join('; or ')}</dd>`}
  </dl>
</section>`;

function Nodes({ nodes }) {
  const [some, more] = useSome(nodes, 25);
  return html`<section class="panel">
    <h2>Node by node</h2>
    <${Table} caption="Verdicts on nodes, those that lack least first" columns=${[['Node'], ['Fits'], ['Lacks', 'number'], ['By'], ['Reason, and each GPU']]}>
      ${some.map((n) => html`<tr>
        <th scope="row"><${NodeLink} name=${n.name} /></th>
        <td data-label="Fits"><span class=${'tag ' + (n.fits ? 'good' : 'warn')}>${n.fits ? 'yes' : 'no'}</span></td>
        <td data-label="Lacks" class="number">${n.short ? size(n.short) : '–'}</td>
        <td data-label="By">${n.plugin || '–'}</td>
        <td data-label="Reason">${n.reason}${n.gpus?.length > 0 && html`<${Gpus} node=${n} />`}</td>
      </tr>`)}
    <//>
    ${more}
  </section>`;
}

const Gpus = ({ node }) => html`<details open=${node.fits || node.short > 0 || null}><summary>${count(node.gpus.length, 'GPU')}</summary>
  <${Verdicts} gpus=${node.gpus} />
</details>`;

export const History = ({ entries, title = 'What is recorded of it', named }) => html`<section class="panel">
  <h2>${title}</h2>
  <ol class="history">${entries.map((entry) => html`<li>
    <span class="muted">${entry.time ? clock(entry.time) : '–'}</span>
    <span class="muted">${entry.source}</span>
    <span>${named?.(entry)}${entry.text}</span>
  </li>`)}</ol>
</section>`;
