// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// What if: where pods would go, whom they would evict, if something were different. Nothing is changed by asking.

import { html, useEffect, useMemo, useRef, useState } from '../html.js';
import { Heading, Failed, Loading, Text, Select, Choice, Command } from '../parts.js';
import { Answer } from '../answer.js';
import { post } from '../api.js';
import { setParams } from '../use.js';
import { parse, commandOf } from '../question.js';

const runtimes = ['custom', 'vllm', 'sglang', 'tensorrt-llm', 'ollama', 'llama.cpp'];
const strategies = ['MostAllocated', 'LeastAllocated', 'Fragmentation'];
const example = `apiVersion: v1
kind: Pod
metadata:
  name: chat
  annotations:
    berth.dev/gpu-memory: 30Gi
spec:
  schedulerName: berth
  containers:
  - name: server
    image: example.com/chat:v1
`;

// The manifest that was pasted outlives the view, as long as the page is open.
let pasted = '';

export function WhatIf({ at, map }) {
  const params = at.params;
  const mode = params.get('mode') || 'form';
  const [manifest, setManifest] = useState(pasted);
  const { answer, error, busy, ask, fail } = useAnswer();
  const question = useMemo(() => parse(params, manifest), [params.toString(), manifest]);
  const first = useRef(true);
  useEffect(() => {
    if (first.current && params.get('run')) ask(question);
    first.current = false;
  }, []);
  const set = (name) => (value) => setParams({ [name]: value, run: '' });
  const submit = (event) => {
    event.preventDefault();
    if (mode !== 'manifest') setParams({ run: '1' });
    ask(question);
  };
  const asYAML = async () => {
    try {
      pasted = (await post('/manifest', question.form)).manifest;
    } catch (error) {
      fail(error);
      return;
    }
    setManifest(pasted);
    setParams({ mode: 'manifest', run: '' });
  };
  const field = (name, label, hint, rest) => html`<${Text} label=${label} hint=${hint} value=${params.get(name) ?? ''} onValue=${set(name)} ...${rest} />`;
  return html`
    <${Heading} title="What if" lead="Where pods would go, and whom they would evict. The scheduler's own code answers; nothing is changed." />
    <div class="two">
      <form class="panel" onSubmit=${submit} aria-label="The question">
        <div class="form">
          <div class="field wide"><${Choice} label="Ask about" value=${mode} onValue=${set('mode')}
            options=${[['form', 'New pods'], ['manifest', 'A manifest'], ['waiting', 'What waits']]} /></div>
          ${mode === 'form' && html`
            ${field('gpuMemory', 'GPU memory', 'As 30Gi, or 1=72Gi,2=76Gi')}
            ${field('model', 'or model', 'As hf://Qwen/Qwen2.5-7B-Instruct')}
            <${Select} label="Runtime" any="not said" options=${runtimes} value=${params.get('runtime') ?? ''} onValue=${set('runtime')} />
            ${field('gpuCount', 'GPUs', 'As 1 or 1,2,4 or 2-8')}
            ${field('contextLength', 'Context length', 'In tokens', { inputmode: 'numeric' })}
            ${field('replicas', 'Replicas', '', { inputmode: 'numeric' })}`}
          ${mode === 'manifest' && html`<${Manifest} value=${manifest} onValue=${(text) => { pasted = text; setManifest(text); }} />`}
          ${mode === 'waiting' && html`<p class="field wide muted small">Where the pods that wait now would go, with what is different below. If a node is drained, its pods are asked about.</p>`}
          <details class="field wide" open=${['addNode', 'drain', 'cordon', 'without', 'strategy', 'priority'].some((n) => params.get(n)) || mode === 'waiting' || null}>
            <summary>If the cluster were different</summary>
            <div class="form">
              ${field('addNode', 'Add nodes', 'As h100-80x8=2: two nodes of 8 GPUs')}
              ${field('drain', 'Drain nodes', 'Names, with commas', { list: 'node-names' })}
              ${field('cordon', 'Cordon', 'NODE or NODE/GPU-UUID')}
              ${field('without', 'Without', 'As pod/NAMESPACE/NAME')}
              <${Select} label="Strategy" any="The scheduler's" options=${strategies} value=${params.get('strategy') ?? ''} onValue=${set('strategy')} />
              ${mode !== 'waiting' && field('priority', 'Priority', 'A number, or a class')}
            </div>
          </details>
          ${mode === 'form' && html`<details class="field wide"><summary>More of the pods</summary><div class="form">
            ${field('name', 'Name')}${field('namespace', 'Namespace')}
            ${field('parallel', 'Parallel requests', '', { inputmode: 'numeric' })}${field('kvCacheType', 'KV cache type', 'As q8_0')}
          </div></details>`}
          <div class="actions">
            <button class="primary" type="submit" disabled=${busy}>${busy ? 'Asking…' : 'Ask'}</button>
            ${mode === 'form' && html`<button type="button" onClick=${asYAML}>As a manifest</button>`}
          </div>
        </div>
        <datalist id="node-names">${map?.nodes.map((n) => html`<option value=${n.name} />`)}</datalist>
      </form>
      <div class="stack">
        ${error && html`<${Failed} error=${error} />`}
        ${busy && !answer && html`<${Loading} what="Asking the scheduler's code" />`}
        ${!busy && !answer && !error && html`<div class="panel muted"><p>Describe pods, and ask. The answer comes here: where each would go, GPU by GPU, whom it would evict, or why it would wait.</p></div>`}
        ${answer && html`<div aria-busy=${String(busy)} class=${busy ? 'stale' : ''}><${Answer} answer=${answer.document} map=${map} /></div>`}
        ${answer && html`<section class="panel"><h2>In a terminal</h2><${Command} text=${commandOf(answer.question)} />
          ${answer.question.form && html`<p class="muted small">"As a manifest" has the text of manifest.yaml.</p>`}</section>`}
      </div>
    </div>`;
}

const Manifest = ({ value, onValue }) => html`<div class="field wide">
  <label for="manifest">Manifest</label>
  <textarea id="manifest" spellcheck=${false} value=${value} placeholder=${example} onInput=${(e) => onValue(e.target.value)} aria-describedby="manifest-hint"></textarea>
  <span class="hint" id="manifest-hint">Pods, Deployments, Jobs and so on, as kubectl apply takes them. It stays on this machine.</span>
</div>`;

// useAnswer asks one question at a time, the latest.
function useAnswer() {
  const [state, set] = useState({ answer: null, error: null, busy: false });
  const control = useRef(null);
  const ask = async (question) => {
    control.current?.abort();
    const mine = control.current = new AbortController();
    set((s) => ({ ...s, busy: true }));
    try {
      const document = await post('/what-if', question, mine.signal);
      if (!mine.signal.aborted) set({ answer: { document, question }, error: null, busy: false });
    } catch (error) {
      if (!mine.signal.aborted) set({ answer: null, error, busy: false });
    }
  };
  useEffect(() => () => control.current?.abort(), []);
  return { ...state, ask, fail: (error) => set({ answer: null, error, busy: false }) };
}
