// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// What views are written with: Preact's elements by htm's templates. Text in them is always text, never markup.

import { h } from './vendor/preact.js';
import htm from './vendor/htm.js';

export const html = htm.bind(h);
export { render, Fragment } from './vendor/preact.js';
export { useState, useEffect, useLayoutEffect, useMemo, useRef, useCallback, useReducer } from './vendor/hooks.js';
