// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// A what-if as the address has it, and as the server and the command are asked it.

import { addressOf } from './use.js';

// What the form asks for. The names are those of the server's Form.
export const formFields = ['gpuMemory', 'model', 'runtime', 'gpuCount', 'contextLength', 'parallel', 'kvCacheType', 'name', 'namespace'];
const listFields = ['addNode', 'drain', 'cordon', 'without'];

// questionOf is the address of a what-if about a pod like one that waits.
export const questionOf = (pod) => addressOf(['what-if'], {
  mode: 'form', gpuMemory: pod.gpuMemory, model: pod.gpuMemory ? '' : pod.model, gpuCount: pod.gpuCount, namespace: pod.namespace, name: 'like-' + pod.name,
  run: '1',
});

// parse makes the server's question of the parameters of the address. The manifest is not in the address: it can be long.
export function parse(params, manifest) {
  const question = {};
  const mode = params.get('mode') || 'form';
  if (mode === 'form') {
    const form = {};
    for (const name of formFields) if (params.get(name)) form[name] = params.get(name).trim();
    form.replicas = Number(params.get('replicas')) || 1;
    question.form = form;
  } else if (mode === 'manifest') {
    question.manifest = manifest;
  }
  for (const name of listFields) {
    const values = (params.get(name) ?? '').split(/[\s,]+/).filter(Boolean);
    if (values.length) question[name] = values;
  }
  for (const name of ['priority', 'strategy']) if (params.get(name)) question[name] = params.get(name).trim();
  if (mode === 'waiting') delete question.priority;
  return question;
}

// commandOf writes the question as the command line that has the same answer.
export function commandOf(question) {
  const flags = [];
  if (question.form || question.manifest) flags.push('-f manifest.yaml');
  const flag = { addNode: 'add-node', drain: 'drain', cordon: 'cordon', without: 'without' };
  for (const [name, text] of Object.entries(flag)) for (const value of question[name] ?? []) flags.push(`--${text} ${value}`);
  for (const name of ['priority', 'strategy']) if (question[name]) flags.push(`--${name} ${question[name]}`);
  return ['kubectl berth what-if', ...flags].join(' ');
}
