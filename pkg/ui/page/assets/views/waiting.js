// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// The pods that wait, each with why.

import { html } from '../html.js';
import { Heading, Loading, Failed, PodLink, NodeLink, useSome } from '../parts.js';
import { useDocument, useSeen, addressOf } from '../use.js';
import { since, count } from '../format.js';
import { asks } from '../gpumap.js';
import { nextLine } from '../explain.js';
import { questionOf } from '../question.js';
import { Verdicts } from '../verdicts.js';

export function Waiting({ map }) {
  const [some, more] = useSome(map?.pendingPods ?? [], 50);
  if (!map) return html`<${Heading} title="Waiting" /><${Loading} />`;
  const n = map.pendingPods.length;
  return html`
    <${Heading} title="Waiting" lead=${n ? `${count(n, 'pod')} ${n === 1 ? 'waits' : 'wait'} for GPU memory, the longest waiting first.` : ''} />
    ${n === 0 && html`<p class="notice">No pod waits for GPU memory.</p>`}
    <div class="cards">${some.map((pod, i) => html`<${WaitingPod} key=${pod.uid} pod=${pod} now=${map.time} first=${i < 3} />`)}</div>
    ${more}`;
}

function WaitingPod({ pod, now, first }) {
  const [ref, seen] = useSeen(first);
  const address = addressOf(['pods', pod.namespace, pod.name]);
  return html`<article class="panel waiting" ref=${ref}>
    <h2><${PodLink} pod=${pod} /> <span class="tag warn">waits ${since(pod.since, now)}</span></h2>
    <p>Asks for <b>${asks(pod)}</b>.${pod.nominatedNode && html` Others leave node <${NodeLink} name=${pod.nominatedNode} /> for it.`}</p>
    <${Reason} text=${pod.reason} />
    ${seen && html`<${Explained} pod=${pod} />`}
    <p class="links"><a href=${address}>Node by node, GPU by GPU<span class="hidden"> for ${pod.name}</span></a>
      <a href=${questionOf(pod)}>What would help?<span class="hidden"> For ${pod.name}</span></a></p>
  </article>`;
}

// Reason is what the scheduler says: what it counts, and folded, the GPUs that it lists.
function Reason({ text }) {
  const at = text.indexOf(' nearest on node ');
  if (at < 0) return html`<p class="why">${text}</p>`;
  return html`<p class="why">${text.slice(0, at)}</p>
    <details class="small"><summary>All that the scheduler says</summary><p class="muted">${text}</p></details>`;
}

// Explained says how near the pod came, and what happens next. Each answer is a run of the scheduler's code, so those off the
// screen are not asked for.
function Explained({ pod }) {
  const { document: e, error } = useDocument(`/pods/${encodeURIComponent(pod.namespace)}/${encodeURIComponent(pod.name)}/explain`, 5000);
  if (error) return html`<${Failed} error=${error} />`;
  if (!e) return html`<p class="muted">Looking for the nearest miss…</p>`;
  const o = e.outcome;
  const near = e.nearest && e.nodes?.[0];
  return html`<div class="explained">
    ${near && html`<div class="near"><h3>Nearest miss: <${NodeLink} name=${near.name} /></h3><p class="nearest">${e.nearest}</p><${Verdicts} gpus=${near.gpus ?? []} /></div>`}
    ${e.why && !o.node && html`<p><b>Next.</b> ${nextLine(e)}</p>`}
    ${o.node && html`<p><b>Next.</b> It would be placed on node <${NodeLink} name=${o.node} />${o.victims.length > 0 && html`, evicting ${o.victims.map((v) => `${v.namespace}/${v.name}`).join(', ')}`}.</p>`}
  </div>`;
}
