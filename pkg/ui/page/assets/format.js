// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// How amounts, times and names are written: as the commands write them, so that both can be compared.

const units = [[2 ** 30, 'Gi'], [2 ** 20, 'Mi'], [2 ** 10, 'Ki']];

// size writes bytes as alloc.Bytes.String does: one decimal, without a ".0"; what is halfway goes to the even digit.
export function size(bytes) {
  for (const [unit, name] of units) {
    if (bytes >= unit) {
      let tenths = Math.round((bytes * 10) / unit);
      const halfway = (bytes * 20) % (2 * unit) === unit;
      if (halfway && tenths % 2 === 1) tenths--;
      return (tenths % 10 === 0 ? tenths / 10 : (tenths / 10).toFixed(1)) + name;
    }
  }
  return String(bytes);
}

// span writes a duration in seconds as kubectl does (HumanDuration of k8s.io/apimachinery).
export function span(seconds) {
  const s = Math.max(0, Math.trunc(seconds));
  const m = Math.trunc(s / 60), h = Math.trunc(s / 3600), d = Math.trunc(h / 24);
  const two = (a, unitA, b, unitB) => a + unitA + (b > 0 ? b + unitB : '');
  if (s < 120) return s + 's';
  if (m < 10) return two(m, 'm', s % 60, 's');
  if (m < 180) return m + 'm';
  if (h < 8) return two(h, 'h', m % 60, 'm');
  if (h < 48) return h + 'h';
  if (h < 192) return two(d, 'd', h % 24, 'h');
  if (d < 730) return d + 'd';
  if (d < 2920) return two(Math.trunc(d / 365), 'y', d % 365, 'd');
  return Math.trunc(d / 365) + 'y';
}

// since is how long before now something was; both are times as JSON has them.
export const since = (time, now) => span((Date.parse(now) - Date.parse(time)) / 1000);

// clock writes a time of today as one, any other with its day. It is local time, as the user's terminal is.
export function clock(time, now = Date.now()) {
  const t = new Date(time);
  const two = (n) => String(n).padStart(2, '0');
  const hours = `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
  if (t.toDateString() === new Date(now).toDateString()) return hours;
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${hours}`;
}

// count writes a number of things.
export const count = (n, noun, many = noun + 's') => `${n} ${n === 1 ? noun : many}`;

export const id = (pod) => `${pod.namespace}/${pod.name}`;

// each lists amounts, equal ones once: "36Gi on each of 2 GPUs".
export function each(amounts) {
  const texts = amounts.map(size);
  if (texts.length > 1 && texts.every((t) => t === texts[0])) return `${texts[0]} on each of ${texts.length} GPUs`;
  return texts.join(' + ');
}

// duration writes whole seconds as Go does: 1h0m30s.
export function duration(seconds) {
  const s = Math.round(seconds);
  const h = Math.trunc(s / 3600), m = Math.trunc(s / 60) % 60;
  return (h ? h + 'h' : '') + (h || m ? m + 'm' : '') + (s % 60) + 's';
}

// shortly writes a duration as people do: 10m, not 10m0s.
export const shortly = (seconds) => duration(seconds).replace(/m0s$/, 'm').replace(/h0m$/, 'h');

// moment writes a time as RFC 3339 has it, in UTC and whole seconds.
export const moment = (time) => new Date(time).toISOString().replace(/\.\d+Z$/, 'Z');
