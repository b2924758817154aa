// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Models: what is known of each, and what it was measured to hold beside what was estimated.

import { html } from '../html.js';
import { Heading, Loading, Failed, Text, Table, useSome } from '../parts.js';
import { useDocument, setParams } from '../use.js';
import { size, each, clock } from '../format.js';

export function Models({ at }) {
  const { document: models, error } = useDocument('/models', 5000);
  const q = (at.params.get('q') ?? '').trim().toLowerCase();
  const found = (models?.models ?? []).filter((m) => !q || m.source.toLowerCase().includes(q));
  const [some, more] = useSome(found, 50);
  return html`
    <${Heading} title="Models" lead="What each model's files say, and what pods were measured to hold beside what was estimated." />
    ${error && html`<${Failed} error=${error} />`}
    ${!models && !error && html`<${Loading} />`}
    ${models?.models.length === 0 && html`<p class="notice">No model is known: Berth's controller makes a ModelProfile of each model that a pending pod names.</p>`}
    ${models?.models.length > 0 && html`<div class="filters" role="search" aria-label="Filter the models">
      <${Text} label="Find a model" type="search" kind="text" value=${at.params.get('q') ?? ''} onValue=${(v) => setParams({ q: v })} after=${150} /></div>`}
    <div class="cards">${some.map((m) => html`<${Model} key=${m.profile} model=${m} />`)}</div>
    ${more}
    ${models?.notes?.map((note) => html`<p class="muted small">Note: ${note}</p>`)}`;
}

const Model = ({ model }) => html`<section class="panel">
  <h2>${model.source} <span class=${'tag ' + (model.ready ? 'good' : 'warn')}>${model.ready ? 'size known' : 'size not known'}</span></h2>
  <p class="muted small">${[model.architecture, model.quantization, model.fileSize && `files of ${size(model.fileSize)}`, `profile ${model.profile}`].filter(Boolean).join(' · ')}</p>
  ${model.message && html`<p>${model.message}</p>`}
  ${model.peaks.length === 0 ? html`<p class="muted small">No pod that ran it was measured yet.</p>` : html`
    <${Table} caption=${'What pods of ' + model.source + ' were measured to hold'}
      columns=${[['Runtime and settings'], ['Namespace'], ['GPUs', 'number'], ['Estimate', 'number'], ['Peak', 'number'], ['Peak against estimate'], ['Pods', 'number'], ['Last']]}>
      ${model.peaks.map((p) => html`<${Peak} peak=${p} />`)}<//>`}
</section>`;

const sum = (amounts) => amounts.reduce((a, b) => a + b, 0);

function Peak({ peak }) {
  const estimate = peak.estimate && sum(peak.estimate), measured = sum(peak.measured);
  return html`<tr>
    <th scope="row">${peak.runtime || 'custom'}${settingsOf(peak.settings).map((text) => html`<div class="muted small plain">${text}</div>`)}</th>
    <td data-label="Namespace">${peak.namespace || '–'}</td>
    <td data-label="GPUs" class="number">${peak.gpus}</td>
    <td data-label="Estimate" class="number">${peak.estimate ? each(peak.estimate) : html`<span title=${peak.problem}>none</span>`}</td>
    <td data-label="Peak" class="number">${each(peak.measured)}</td>
    <td data-label="Against">${peak.fills ? html`<span class="small">${fillsText(peak)}</span>`
      : estimate ? html`<${Against} estimate=${estimate} measured=${measured} />` : html`<span class="muted small">${peak.problem}</span>`}</td>
    <td data-label="Pods" class="number">${peak.samples}</td>
    <td data-label="Last">${clock(peak.time)}</td>
  </tr>`;
}

// An engine that takes all that it is booked says by its peak nothing of what it needs.
const fillsText = (peak) => (peak.excess ? `takes all that it is booked, and ${size(peak.excess)} beyond the estimate` : 'takes all that it is booked, never more than was estimated');

// Against draws the peak under the estimate, on one scale.
function Against({ estimate, measured }) {
  const over = measured - estimate;
  const most = Math.max(estimate, measured);
  const share = Math.round((100 * Math.abs(over)) / estimate);
  return html`<div class="against">
    <div class="gauge" aria-hidden="true"><span class="estimate" style=${{ width: `${(100 * estimate) / most}%` }}></span>
      <span class=${'peak' + (over > 0 && share > 0 ? ' over' : '')} style=${{ width: `${(100 * measured) / most}%` }}></span></div>
    <span class="small">${share === 0 ? 'as estimated, within 1 %' : `${share} % ${over > 0 ? 'more' : 'less'} (${size(Math.abs(over))})`}</span>
  </div>`;
}

// settingsOf writes the settings of an engine, as name and value.
function settingsOf(settings) {
  const texts = [];
  for (const [name, value] of Object.entries(settings ?? {})) {
    if (name === 'runtime' || value === null || value === '' || value === false) continue;
    const words = name.replace(/([A-Z]+)/g, ' $1').toLowerCase();
    texts.push(value === true ? words : `${words} ${typeof value === 'object' ? JSON.stringify(value) : value}`);
  }
  return texts.length > 0 ? [texts.join(', ')] : [];
}
