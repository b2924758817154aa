// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// What kubectl berth explain says, in its words (pkg/cli/explain/render.go): of the document that -o json prints.

import { size, id, duration, shortly, moment } from './format.js';

const evicting = (outcome) => (outcome.victims?.length ? `, evicting ${outcome.victims.map(id).join(', ')}` : ', nobody evicted');

// linesOf is the answer.
export function linesOf(e) {
  const pod = id(e), o = e.outcome;
  if (e.gone) return [`${pod} is gone, or about to be: it is placed nowhere any more.`];
  if (e.missing?.length) return byItself(e, pod);
  const lines = [];
  if (e.boundTo) {
    lines.push(`${pod} is on node ${e.boundTo}.`);
    for (const note of e.recorded ?? []) lines.push(`The scheduler told: ${note}`);
    lines.push(o.node ? `If it were placed again now, it would go to node ${o.node}${evicting(o)}.`
      : `If it were placed again now, it would wait: ${o.pending}`);
  } else if (!e.why) {
    lines.push(`${pod} would be placed now, on node ${o.node}.`);
  } else {
    lines.push(`${pod} waits: ${e.why}`);
    lines.push(o.node ? `It would be placed on node ${o.node} after ${duration(o.afterSeconds ?? 0)}${evicting(o)}.` : nextLine(e));
  }
  if (e.decision) lines.push(e.decision + '.');
  if (e.nearest) lines.push(e.nearest);
  return lines;
}

// byItself is what the pod and its Events tell, where the scheduler cannot be asked.
function byItself(e, pod) {
  const lines = [];
  if (e.boundTo) lines.push(`${pod} is on node ${e.boundTo}.`);
  else if (!e.why) lines.push(`${pod} waits, and the scheduler has not said why yet.`);
  else lines.push(`${pod} waits. The scheduler said at ${moment(e.said)}: ${e.why}`);
  for (const note of e.recorded ?? []) lines.push(`It was told: ${note}`);
  return lines.concat(`More is not known here: ${e.missing.join(', ')} could not be read, without which it is not known where a pod would go: `
    + 'ask for the ClusterRole berth-view, for the whole cluster.');
}

// nextLine says when a pod is tried again for which nothing under way makes room.
export function nextLine(e) {
  const n = e.next;
  if (!n) return 'Nothing that is known will give it a place: it is tried again when memory is freed, or a node or a report changes.';
  let text = `Nothing that is under way will give it a place. It is tried again at ${moment(n.time)}, in ${shortly((Date.parse(n.time) - Date.parse(e.time)) / 1000)}`;
  if (n.because?.length) text += `, when ${n.because.join(' and ')}`;
  if (!n.outcome.node) return `${text}, and would wait on. It is tried too when memory is freed, or a node or a report changes.`;
  return `${text}, and would be placed on node ${n.outcome.node}${evicting(n.outcome)}, if all else stays as it is; earlier if memory is freed, or a node or a report changes.`;
}

// gpuText says why a GPU has no more free, and who holds its memory.
export function gpuText(gpu) {
  const parts = (gpu.holders ?? []).map(holderText);
  if (gpu.reason && gpu.reason !== 'not enough free GPU memory') parts.unshift(gpu.reason);
  return parts.join('; ');
}

function holderText(h) {
  const memory = size(h.memory);
  if (h.state === 'foreign') return `processes of no known pod hold ${memory}`;
  if (h.state === 'promised') return `${memory} are kept for pod ${id(h)}`;
  let text = `pod ${id(h)} holds ${memory}`;
  if (h.state === 'leaving') {
    text += ' and is going' + (h.leavesBy ? `, by ${moment(h.leavesBy)} at the latest` : '');
  } else if (h.idleSeconds > 0) {
    text += ` and is idle for ${shortly(h.idleSeconds)}${h.idleAfterSeconds > 0 ? ` of ${shortly(h.idleAfterSeconds)}` : ''}`;
  }
  return text + (h.protectedUntil ? `, protected until ${moment(h.protectedUntil)}` : '');
}
