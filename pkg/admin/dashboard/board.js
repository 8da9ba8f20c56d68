// The board of backends: a card for each pool, a row for each backend, with its state,
// its history and why. Where there are many, those that are well are a mark each.

import { attr, el, keyed, rows, say } from "./dom.js";
import { HISTORY } from "./model.js";
import { clean, clock, count, lasting, plural } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";
const FEW = 8; // backends of a pool that have rows at first
const MANY = 24; // backends on the board, above which only those in trouble have
const MARKS = 120; // of a pool at most; a sign stands for the rest
const ORDER = { down: 0, ejected: 1, draining: 2, ready: 3 };
const STRIP = 200; // units of a strip's width

export class Board {
  #section;
  #pager;
  #changed;
  #all = new Set(); // pools of which all are shown

  constructor(section, pager, changed) {
    this.#section = section;
    this.#pager = pager;
    this.#changed = changed;
  }

  show(model, match) {
    const pools = new Map();
    for (const b of model.backends.values()) {
      if (!match(b.pool, b.name, b.address, b.state)) continue;
      if (!pools.has(b.pool)) pools.set(b.pool, []);
      pools.get(b.pool).push(b);
    }
    const list = [...pools].map(([name, backends]) => ({ name, backends, pool: model.pools.get(name) }));
    for (const p of list) p.backends.sort((a, b) => ORDER[a.state] - ORDER[b.state] || (a.name < b.name ? -1 : 1));
    list.sort((a, b) => worst(a) - worst(b) || (a.name < b.name ? -1 : 1));
    say(this.#section.querySelector(".sum"), summary(model));
    const transitions = model.transitions(), many = list.reduce((n, p) => n + p.backends.length, 0) > MANY;
    keyed(this.#section.querySelector(".board"), this.#pager.of(list), (p) => p.name, () => this.#makePool(), (e, p) => {
      this.#fillPool(e, p, model, transitions, many);
    });
  }

  #makePool() {
    const marks = el("div", "marks"), more = el("button", "quiet more");
    const e = el("article", "pool", el("header", "", el("h3"), el("p")), el("div", "rows"), el("footer", "", marks, more));
    marks.setAttribute("role", "img");
    more.type = "button";
    more.addEventListener("click", () => {
      const name = e.dataset.key;
      if (!this.#all.delete(name)) this.#all.add(name);
      this.#changed();
    });
    return e;
  }

  #fillPool(e, { name, backends, pool }, model, transitions, many) {
    const all = this.#all.has(name);
    const listed = all ? backends : backends.filter((b) => !many || b.state !== "ready").slice(0, FEW);
    say(e.querySelector("h3"), clean(name));
    const notes = pool ? [`${count(pool.ready)} of ${count(pool.backends)} ready`, plural(pool.sessions, "session")] : [];
    if (pool?.queue) notes.push(`${count(pool.queue)} wait`);
    if (pool?.panic) notes.push("in panic: all are tried");
    say(e.querySelector("p"), notes.join(" · "));
    keyed(e.querySelector(".rows"), listed, (b) => b.name, makeBackend, (row, b) => {
      fillBackend(row, b, model, transitions.get(b.pool + "/" + b.name));
    });
    fillMarks(e.querySelector(".marks"), many ? backends.slice(listed.length) : []);
    const more = e.querySelector(".more");
    e.lastChild.hidden = !all && listed.length === backends.length;
    say(more, all ? "Show fewer" : `Show all ${count(backends.length)}`);
    attr(more, "aria-expanded", all);
  }
}

// fillMarks shows backends that have no row; those in trouble come first.
function fillMarks(e, backends) {
  e.hidden = backends.length === 0;
  attr(e, "data-rest", backends.length > MARKS ? "+" + count(backends.length - MARKS) : null);
  rows(e, backends.slice(0, MARKS), () => el("i"), (mark, b) => {
    attr(mark, "class", b.state);
    attr(mark, "title", `${clean(b.name)}: ${b.state}, ${plural(b.sessions, "session")}`);
  });
  const n = {};
  for (const b of backends) n[b.state] = (n[b.state] ?? 0) + 1;
  attr(e, "aria-label", "without a row: " + Object.entries(n).map(([state, k]) => `${count(k)} ${state}`).join(", "));
}

const worst = (p) => ORDER[p.backends[0].state];

function summary(model) {
  const n = { ready: 0, down: 0, draining: 0, ejected: 0 };
  for (const b of model.backends.values()) n[b.state]++;
  const others = ["down", "ejected", "draining"].filter((s) => n[s]).map((s) => `${count(n[s])} ${s}`);
  return [`${count(n.ready)} of ${plural(model.backends.size, "backend")} ready`, ...others].join(", ");
}

function makeBackend() {
  const strip = document.createElementNS(SVG, "svg");
  strip.setAttribute("viewBox", `0 0 ${STRIP} 10`);
  strip.setAttribute("preserveAspectRatio", "none");
  strip.setAttribute("class", "strip");
  strip.setAttribute("role", "img");
  return el("details", "backend",
    el("summary", "", el("span", "dot"), el("span", "name foreign"), strip, el("span", "count"),
      el("span", "note", el("span", "state"), el("span", "why foreign"))),
    el("dl", "facts"), el("ol", "history"));
}

function fillBackend(e, b, model, transitions) {
  const [, name, strip, sessions, note] = e.firstChild.children, [state, why] = note.children;
  attr(e, "data-state", b.state);
  say(name, clean(b.name));
  attr(name, "title", clean(b.name));
  const since = b.since ? " for " + lasting(model.time - Date.parse(b.since)) : "";
  say(state, b.state + (b.state === "ready" ? "" : since));
  say(sessions, count(b.sessions));
  attr(sessions, "aria-label", plural(b.sessions, "session"));
  attr(sessions, "title", plural(b.sessions, "session"));
  say(why, clean(b.why));
  attr(note, "class", b.state === "ready" && b.why === "" ? "note unseen" : "note"); // the dot says it
  fillStrip(strip, model.history(b, transitions), model.time);
  if (!e.open) return;
  const facts = [
    ["Address", b.address || "does not resolve"],
    ["Weight", b.weight + (b.share === 100 ? "" : ` × ${b.share}%`) + (b.weight_wish ? ` (declared ${b.weight_declared}), by ${b.weight_wish.by}` : "")],
    ["Sessions", `${count(b.sessions)} now, ${count(b.total)} in all` + (b.max_connections ? `, at most ${count(b.max_connections)}` : "")],
    ["Failed dials", count(b.dial_failures)],
    ["Probe", b.probe],
  ];
  if (b.wish) facts.push(["Wish", `${b.wish.value}, by ${b.wish.by} since ${clock(Date.parse(b.wish.since))}`]);
  rows(e.children[1], facts, () => el("div", "", el("dt"), el("dd")), (row, [k, v]) => {
    say(row.firstChild, k);
    say(row.lastChild, clean(v));
  });
  rows(e.lastChild, (transitions ?? []).slice(-10).reverse(), () => el("li", "", el("time"), el("span", "foreign")), (row, t) => {
    say(row.firstChild, clock(t.time));
    say(row.lastChild, clean(t.message.replace(/^backend /, "") + (t.why ? ": " + t.why : "")));
  });
}

function fillStrip(strip, spans, now) {
  const x = (t) => ((t - now + HISTORY) / HISTORY) * STRIP;
  while (strip.children.length > spans.length) strip.lastChild.remove();
  while (strip.children.length < spans.length) {
    const r = document.createElementNS(SVG, "rect");
    r.append(document.createElementNS(SVG, "title"));
    r.setAttribute("height", "10");
    strip.append(r);
  }
  spans.forEach((s, i) => {
    const r = strip.children[i];
    attr(r, "class", s.state);
    attr(r, "x", x(s.from).toFixed(1));
    attr(r, "width", Math.max(1, x(s.to) - x(s.from)).toFixed(1)); // what is short is seen, too
    say(r.firstChild, `${s.state} ${clock(s.from)} to ${clock(s.to)}` + (s.why ? ": " + clean(s.why) : ""));
  });
  const bad = spans.filter((s) => s.state !== "ready" && s.state !== "unknown");
  attr(strip, "aria-label", "the latest 10 minutes: " + (bad.length ? bad.map((s) => `${s.state} for ${lasting(s.to - s.from)}`).join(", ") : "ready"));
}
