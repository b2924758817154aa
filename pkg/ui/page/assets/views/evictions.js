// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Plans: where the pods that wait would go, and whom they would evict. Then what is recorded of decisions and evictions.

import { html } from '../html.js';
import { Heading, Loading, Failed, Choice, PodLink, useSome } from '../parts.js';
import { Outcomes, summary } from '../answer.js';
import { History } from './pod.js';
import { useDocument, setParams } from '../use.js';

export function Evictions({ at, map }) {
  const plans = useDocument('/what-if', 5000);
  const history = useDocument('/history', 3000);
  const only = at.params.get('of') ?? '';
  return html`
    <${Heading} title="Plans and evictions" lead="What becomes of the pods that wait, once evictions and waits that begin now are over; then what was decided before." />
    <div class="stack">
      <section class="panel">
        <h2>Plans</h2>
        ${plans.error && html`<${Failed} error=${plans.error} />`}
        ${!plans.document && !plans.error && html`<${Loading} what="Asking the scheduler's code" />`}
        ${plans.document && (plans.document.pods.length === 0 ? html`<p>No pod waits, so there is nothing to plan.</p>` : html`
          <p class="summary">${summary(plans.document)}</p>
          <${Outcomes} pods=${plans.document.pods} map=${map} caption="What becomes of the pods that wait" />`)}
      </section>
      ${history.error && html`<${Failed} error=${history.error} />`}
      ${history.document && html`
        <div class="filters"><${Choice} label="Show" value=${only} onValue=${(of) => setParams({ of })}
          options=${[['', 'Everything'], ['evictions', 'Evictions'], ['decisions', 'Decisions']]} /></div>
        <${Recorded} history=${history.document} only=${only} />`}
    </div>`;
}

function Recorded({ history, only }) {
  const entries = history.entries.filter((e) => !only || (only === 'evictions') === Boolean(e.eviction));
  const [some, more] = useSome(entries, 100);
  return html`
    ${entries.length === 0 && html`<section class="panel"><h2>What is recorded</h2><p>${only === 'evictions' ? 'No eviction is recorded.' : 'Nothing is recorded.'}</p></section>`}
    ${entries.length > 0 && html`<${History} title="What is recorded" entries=${some} named=${(e) => html`
      <${PodLink} pod=${e} />${e.eviction && html` <span class="tag bad">evicted</span>`}${e.for && html` for <${PodLink} pod=${e.for} />`}: `} />`}
    ${more}
    ${history.left > 0 && html`<p class="muted small">${history.left} older entries are not shown.</p>`}
    ${history.notes?.map((note) => html`<p class="muted small">Note: ${note}</p>`)}`;
}
