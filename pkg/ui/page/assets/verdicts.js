// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// What each GPU of a node has of what a pod needs there.

import { html } from './html.js';
import { Bar } from './bars.js';
import { size } from './format.js';
import { gpuText } from './explain.js';

// partsOf shows how much of what is needed is free, and how much lacks.
const partsOf = (g) => [
  { amount: Math.min(g.free, g.needed), kind: 'enough' }, { amount: Math.max(0, g.needed - g.free), kind: 'lack' },
].filter((p) => p.amount > 0);

// Verdicts lists the GPUs of a node, and who holds what lacks.
export const Verdicts = ({ gpus }) => html`<ul class="verdicts">${gpus.map((g) => html`<li>
  <span class="gpu">GPU ${g.index}</span>
  <${Bar} slim parts=${partsOf(g)} />
  <span class="amounts">${size(g.free)} of ${size(g.needed)} free</span>
  ${gpuText(g) && html`<span class="muted who">${gpuText(g)}</span>`}
</li>`)}</ul>`;
