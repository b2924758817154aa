// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// What is derived from the map of kubectl berth top -o json, by the rules of pkg/cli/gpumap: the same letters and
// colours as in the terminal, the same words.

import { size, each, since } from './format.js';

const colours = 7;

export const keyOf = (p) => `${p.namespace}/${p.name}/${p.uid}`;

// letters is A to Z, then AA, AB, …, as columns of a spreadsheet.
function letters(i) {
  let text = '';
  for (let n = i + 1; n > 0; n = Math.trunc((n - 1) / 26)) text = String.fromCharCode(65 + ((n - 1) % 26)) + text;
  return text;
}

// labelled gives each pod of a node a letter and a colour, in the order in which they are met.
export function labelled(devices) {
  const pods = new Map();
  for (const device of devices) {
    for (const share of device.pods) {
      const key = keyOf(share);
      if (!pods.has(key)) {
        pods.set(key, { key, namespace: share.namespace, name: share.name, letter: letters(pods.size), colour: pods.size % colours, shares: [] });
      }
      pods.get(key).shares.push(share);
    }
  }
  return pods;
}

// segments are the parts of a device's bar, which add up to at least its capacity.
export function segments(device, labels) {
  const parts = [];
  let charged = 0;
  for (const share of device.pods) {
    const pod = labels.get(keyOf(share));
    charged += share.charged;
    parts.push({ amount: share.measured, kind: 'used', pod }, { amount: share.charged - share.measured, kind: 'booked', pod });
  }
  parts.push({ amount: device.leaving, kind: 'leaving' }, { amount: device.foreign, kind: 'foreign' });
  const rest = Math.max(0, device.capacity - charged - device.leaving - device.foreign);
  parts.push({ amount: rest, kind: device.state === 'Ready' ? 'free' : 'blocked' });
  return parts.filter((part) => part.amount > 0);
}

// freeOn returns what can still be booked on a node: in all, and on the device that has most.
export function freeOn(node) {
  const free = node.reason ? [] : node.devices.map((d) => d.free);
  return { sum: free.reduce((a, b) => a + b, 0), largest: Math.max(0, ...free) };
}

// models counts the devices of each model: "4x NVIDIA A100, 2x NVIDIA L40S".
export function models(devices) {
  const counts = new Map();
  for (const d of devices) counts.set(d.model || 'GPU', (counts.get(d.model || 'GPU') ?? 0) + 1);
  return [...counts].map(([name, n]) => `${n}× ${name}`).join(', ');
}

// wordsOf says of a device what is not to be seen from the amounts.
export function wordsOf(device) {
  const words = [];
  if (device.state !== 'Ready') {
    words.push(`${device.state.toLowerCase()}${device.reason ? ': ' + device.reason : ''}, gets no pods`);
  }
  if (device.foreign > 0) words.push(`${size(device.foreign)} foreign: in use by processes of no pod`);
  if (device.leaving > 0) words.push(`${size(device.leaving)} still held by processes of pods that are gone`);
  const charged = device.pods.reduce((sum, p) => sum + p.charged, device.leaving + device.foreign);
  if (charged > device.capacity && device.pods.length > 0) words.push(`${size(charged - device.capacity)} more than the GPU has for pods`);
  return words;
}

// amountsOf says what was booked for a pod, and what it was measured to hold where that is more.
export function amountsOf(shares) {
  const measured = each(shares.map((s) => s.measured));
  if (!shares.some((s) => s.booked > 0)) return `not booked, measured ${measured}`;
  const over = shares.some((s) => s.booked > 0 && s.measured > s.booked);
  return each(shares.map((s) => s.booked)) + (over ? `, measured ${measured}: more than was booked` : '');
}

// stateOf says what a pod on a GPU does.
export function stateOf(share, now) {
  if (share.loading) return 'loading';
  return share.idleSince ? `idle for ${since(share.idleSince, now)}` : '';
}

// asks says what a pending pod asks for.
export function asks(pod) {
  const what = pod.gpuMemory || pod.model || 'no GPU memory';
  if (!pod.gpuCount) return what;
  return `${what} on ${pod.gpuCount === '1' ? '1 GPU' : pod.gpuCount + ' GPUs'}`;
}

// podsOf lists the pods on the GPUs of a map, each once, by namespace and name.
export function podsOf(map) {
  const pods = [];
  for (const node of map.nodes) {
    for (const pod of labelled(node.devices).values()) pods.push({ ...pod, node: node.name });
  }
  return pods.sort((a, b) => compare(a.namespace, b.namespace) || compare(a.name, b.name));
}

export const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

// sumsOf adds up what there is of GPU memory. What is free counts only where pods are placed.
export function sumsOf(nodes) {
  const sums = { gpus: 0, unusable: 0, capacity: 0, booked: 0, measured: 0, free: 0, largest: 0 };
  for (const node of nodes) {
    const free = freeOn(node);
    sums.free += free.sum;
    sums.largest = Math.max(sums.largest, free.largest);
    for (const d of node.devices) {
      sums.gpus++;
      if (node.reason || d.state !== 'Ready') sums.unusable++;
      sums.capacity += d.capacity;
      sums.booked += d.booked;
      sums.measured += d.measured;
    }
  }
  return sums;
}

export const nodeWords = (node, now) => {
  const words = [];
  if (node.reason) {
    words.push(`No GPU pod is placed here: ${node.reason}${node.lastHeard ? `, last heard of ${since(node.lastHeard, now)} ago` : ''}`);
  }
  return words.concat(node.problems ?? []);
};
