// What is known of the balancer: the frames put together, rates, and what became of each
// backend.

import { Series } from "./plot.js";

// HISTORY is how far back the health of backends is shown, in milliseconds.
export const HISTORY = 10 * 60e3;

const SAMPLE = 900; // milliseconds at least between two samples
const KEPT_EVENTS = 1000;

const counted = (route) => route.ended !== null;
const sum = (counts) => Object.values(counts ?? {}).reduce((a, b) => a + b, 0);
export const okOf = (route) => route.ended?.ok ?? 0;
export const failedOf = (route) => sum(route.ended) - okOf(route);

export class Model {
  status = null;
  time = 0; // of the latest frame, by the balancer's clock
  pools = new Map();
  routes = new Map();
  backends = new Map();
  certificates = [];
  refused = [];
  events = [];
  plots = new Map(); // by route
  total = { sessions: new Series(), in: new Series(), out: new Series(), ended: new Series(), failed: new Series() };
  #sampled = 0;

  // take adds a frame.
  take(frame) {
    const anew = this.status !== null && frame.status.started !== this.status.started;
    if (frame.whole) {
      for (const kind of ["pools", "routes", "backends"]) this[kind].clear();
      this.events = [];
    }
    this.status = frame.status;
    this.time = Date.parse(frame.time);
    this.#merge(this.pools, frame.pools, (p) => p.name);
    this.#merge(this.routes, frame.routes, (r) => r.name);
    this.#merge(this.backends, frame.backends, (b) => b.pool + "/" + b.name);
    if (frame.certificates) this.certificates = frame.certificates.toSorted((a, b) => Date.parse(a.not_after) - Date.parse(b.not_after));
    if (frame.refused) this.refused = frame.refused;
    if (frame.events?.length) this.events = this.events.concat(frame.events).slice(-KEPT_EVENTS);
    this.#sample(anew);
  }

  #merge(into, changed, key) {
    for (const thing of changed.set) into.set(key(thing), thing);
    for (const k of changed.gone) into.delete(k);
  }

  // #sample adds a sample to each plot, if it is time for one.
  #sample(anew) {
    const span = this.time - this.#sampled;
    if (span < SAMPLE && !anew) return;
    const steady = this.#sampled > 0 && !anew && span < 10 * SAMPLE;
    this.#sampled = this.time;
    const total = { in: 0, out: 0, ended: 0, failed: 0 };
    for (const name of this.plots.keys()) if (!this.routes.has(name)) this.plots.delete(name);
    for (const [name, route] of this.routes) {
      let p = this.plots.get(name);
      const now = { in: route.bytes_in, out: route.bytes_out, ended: sum(route.ended), failed: failedOf(route) };
      if (!p) this.plots.set(name, p = { sessions: new Series(), in: new Series(), out: new Series(), was: null });
      const rate = {};
      for (const k in now) {
        rate[k] = steady && p.was && counted(route) ? Math.max(0, now[k] - p.was[k]) * 1000 / span : NaN;
        if (!Number.isNaN(rate[k])) total[k] += rate[k];
      }
      p.sessions.add(route.sessions);
      p.in.add(rate.in);
      p.out.add(rate.out);
      p.was = now;
    }
    this.total.sessions.add(this.status.sessions);
    for (const k in total) this.total[k].add(steady ? total[k] : NaN);
  }

  // gap says that nothing is known of a while.
  gap() {
    if (this.#sampled === 0) return;
    for (const s of Object.values(this.total)) s.add(NaN);
    for (const p of this.plots.values()) {
      p.sessions.add(NaN);
      p.in.add(NaN);
      p.out.add(NaN);
    }
  }

  // transitions are by backend what its events say became of it, the oldest first.
  transitions() {
    const found = new Map();
    for (const e of this.events) {
      if (!MARKS.has(e.message)) continue;
      const attrs = Object.fromEntries(e.attrs.map((a) => [a.key, a.value]));
      const key = attrs.pool + "/" + attrs.backend;
      if (!found.has(key)) found.set(key, []);
      found.get(key).push({ time: Date.parse(e.time), message: e.message, why: attrs.why ?? "" });
    }
    return found;
  }

  // history are the states of a backend in the latest HISTORY, as {state, from, to, why}.
  history(backend, transitions = []) {
    const begin = this.time - HISTORY, started = Date.parse(this.status.started);
    const marks = { unknown: false, down: false, draining: false, ejected: false };
    const seen = new Set();
    for (const t of transitions) { // what the first of a kind ends was so before
      const [mark, on] = MARKS.get(t.message);
      if (!seen.has(mark) && !on) marks[mark === "down" ? "unknown" : mark] = true;
      seen.add(mark);
    }
    const spans = [];
    const state = () => ["down", "draining", "ejected", "unknown"].find((m) => marks[m]) ?? "ready";
    let from = Math.max(begin, started), why = "";
    const until = (to, as) => {
      if (to > from) spans.push({ state: as, from, to, why });
      from = Math.max(from, to);
    };
    for (const t of transitions) {
      const [mark, on] = MARKS.get(t.message), was = state();
      marks[mark] = on;
      if (mark === "down") marks.unknown = false;
      until(t.time, was);
      why = on ? t.why : "";
    }
    why = backend.why;
    until(this.time, backend.state);
    return spans;
  }
}

// MARKS are the messages that tell what becomes of a backend: which mark, and whether it
// is set.
const MARKS = new Map([
  ["backend down", ["down", true]],
  ["backend ready", ["down", false]],
  ["backend drains", ["draining", true]],
  ["backend drains no more", ["draining", false]],
  ["backend ejected", ["ejected", true]],
  ["backend no longer ejected", ["ejected", false]],
]);
