// What the page shows of the model, section by section.

import { Pager, attr, el, keyed, rows, say } from "./dom.js";
import { failedOf, okOf } from "./model.js";
import { draw } from "./plot.js";
import { Board } from "./board.js";
import { bytes, clean, clock, count, date, lasting, perSecond, plural, rate } from "./text.js";

const DAY = 86400e3;
const SORT_EVERY = 5000; // milliseconds for which an order by numbers stays

const byId = (id) => document.getElementById(id);
const cell = (className, label, ...content) => {
  const td = el("td", className, ...content);
  td.dataset.label = label; // shown where the table is too wide
  return td;
};

export class View {
  #model;
  #totals;
  #board;
  #pagers = {};
  #order = { by: "", at: 0, names: [] };

  constructor(model, changed) {
    this.#model = model;
    this.#totals = this.#makeTotals();
    for (const [id, size] of [["backends", 12], ["routes", 20], ["certificates", 10], ["refused", 10], ["events", 10]]) {
      this.#pagers[id] = new Pager(byId(id), size, changed);
    }
    this.#board = new Board(byId("backends"), this.#pagers.backends, changed);
  }

  turn(id, step) { this.#pagers[id].turn(step); }

  show() {
    if (!this.#model.status) return;
    const filter = byId("filter").value.trim().toLowerCase();
    const match = (...texts) => filter === "" || texts.some((t) => t.toLowerCase().includes(filter));
    this.#showHead();
    this.#showTotals();
    this.#board.show(this.#model, match);
    this.#showRoutes(match);
    this.#showCertificates(match);
    this.#showRefused(match);
    this.#showEvents(match);
  }

  #showHead() {
    const { status, pools, time } = this.#model;
    const down = [...pools.values()].reduce((n, p) => n + p.down + p.ejected, 0);
    const word = status.state !== "running" ? status.state : status.ready ? "ready" : "not ready";
    say(byId("state"), word);
    attr(byId("state"), "data-state", word);
    document.title = (down > 0 ? `${down} down · ` : "") + "Snicket";
    const facts = [
      ["Generation", `${status.generation}, for ${lasting(time - Date.parse(status.loaded))}`],
      ["Running", lasting(time - Date.parse(status.started))],
      ["Version", status.version],
      ["Configuration", status.config],
    ];
    rows(byId("facts"), facts, () => el("div", "", el("dt"), el("dd")), (e, [k, v]) => {
      say(e.firstChild, k);
      say(e.lastChild, clean(v));
    });
    const notes = [...(status.ready ? [] : status.not_ready.slice(0, 3)), ...(status.accept_paused ? ["accepting pauses: max_connections is reached"] : [])];
    if (status.not_ready.length > 3) notes.push(`and ${status.not_ready.length - 3} more`);
    if (status.reload_failed) notes.push("the latest reload failed: " + status.reload_failed);
    if (status.faults.length === 1) notes.push(status.faults[0].why + "; " + status.faults[0].so);
    if (status.faults.length > 1) notes.push(`${status.faults.length} files are not taken: snicket status says why`);
    byId("notice").hidden = notes.length === 0;
    say(byId("notice"), clean(notes.join(" · ")));
  }

  #makeTotals() {
    const make = (name, ...keys) => {
      const e = el("figure", "total", el("figcaption", "", el("span", "name", name), el("span", "value"), el("span", "more")), el("canvas"));
      e.lastChild.setAttribute("aria-hidden", "true");
      byId("totals").append(e);
      return { e, keys };
    };
    const all = [make("Sessions", "sessions"), make("Throughput", "out", "in"), make("Ended", "ended"), make("Failed", "failed")];
    all[1].e.querySelector(".more").append(el("span", "out"), el("span", "in"));
    return all;
  }

  #showTotals() {
    const { total, status } = this.#model;
    const values = [
      [count(status.sessions), plural(status.hellos, "unfinished hello")],
      [rate(total.in.last + total.out.last), null],
      [perSecond(total.ended.last), "routed sessions"],
      [perSecond(total.failed.last), "routed, but not ok"],
    ];
    const ways = this.#totals[1].e;
    say(ways.querySelector(".out"), bytes(total.out.last) + " out");
    say(ways.querySelector(".in"), bytes(total.in.last) + " in");
    this.#totals.forEach(({ e, keys }, i) => {
      say(e.querySelector(".value"), values[i][0]);
      if (values[i][1] !== null) say(e.querySelector(".more"), values[i][1]);
      draw(e.lastChild, keys.map((k) => total[k]), i === 1 ? 1024 : 2);
    });
  }

  #sorted() {
    const by = byId("sort").value, { routes, plots } = this.#model;
    const weight = {
      name: () => 0,
      sessions: (r) => r.sessions,
      bytes: (r) => (plots.get(r.name)?.in.last || 0) + (plots.get(r.name)?.out.last || 0),
      failed: failedOf,
    }[by];
    const order = this.#order;
    if (order.by !== by || performance.now() - order.at > SORT_EVERY || order.names.length !== routes.size) {
      const list = [...routes.values()].sort((a, b) => weight(b) - weight(a) || (a.name < b.name ? -1 : 1));
      this.#order = { by, at: performance.now(), names: list.map((r) => r.name) };
    }
    return this.#order.names.map((name) => routes.get(name)).filter(Boolean);
  }

  #showRoutes(match) {
    const section = byId("routes"), { routes, plots } = this.#model;
    const list = this.#sorted().filter((r) => match(r.name, r.mode, r.pool, ...r.hosts));
    say(section.querySelector(".sum"), list.length === routes.size ? plural(routes.size, "route") : `${count(list.length)} of ${plural(routes.size, "route")}`);
    const make = () => {
      const plot = () => {
        const c = el("canvas");
        c.setAttribute("aria-hidden", "true");
        return c;
      };
      return el("tr", "",
        cell("name", "", el("strong"), el("small")),
        cell("plot", "Sessions", el("span"), plot()), cell("plot wide", "Throughput", el("span"), plot()),
        cell("number", "Ended ok"), cell("number", "Failed", el("span"), el("small")));
    };
    keyed(section.querySelector("tbody"), this.#pagers.routes.of(list), (r) => r.name, make, (e, r) => {
      const [name, sessions, throughput, ok, failed] = e.children, p = plots.get(r.name);
      say(name.firstChild, clean(r.name));
      say(name.lastChild, clean([r.mode + (r.pool ? " to " + r.pool : ""), few(r.hosts)].join(" · ")));
      say(sessions.firstChild, count(r.sessions));
      say(throughput.firstChild, p ? rate(p.in.last + p.out.last) : "–");
      say(ok, r.ended ? count(okOf(r)) : "–");
      say(failed.firstChild, r.ended ? count(failedOf(r)) : "–");
      say(failed.lastChild, worst(r));
      if (!p) return;
      draw(sessions.lastChild, [p.sessions], 2);
      draw(throughput.lastChild, [p.out, p.in], 1024);
    });
  }

  #showCertificates(match) {
    const section = byId("certificates"), { certificates, time } = this.#model;
    const list = certificates.filter((c) => match(...c.names, ...c.routes));
    const soon = certificates.filter((c) => !c.superseded && left(c, time) < 14).length;
    say(section.querySelector(".sum"), plural(certificates.length, "certificate") + (soon ? `, ${soon} with less than 14 days` : ""));
    const make = () => el("tr", "", cell("name", ""), cell("left", "Days left", el("span", "days"), el("meter")), cell("", "Expires"), cell("", "Key"), cell("", "From"));
    rows(section.querySelector("tbody"), this.#pagers.certificates.of(list), make, (e, c) => {
      const [names, days, expires, key, from] = e.children, n = left(c, time);
      const meter = days.lastChild;
      say(names, clean(few(c.names)) + (c.superseded ? " (superseded)" : ""));
      say(days.firstChild, n < 0 ? "expired" : String(Math.floor(n)));
      attr(e, "data-level", c.superseded ? "none" : n < 0 ? "over" : n < 14 ? "soon" : "good");
      meter.min = 0;
      meter.max = Math.max(1, (Date.parse(c.not_after) - Date.parse(c.not_before)) / DAY);
      meter.value = Math.max(0, n);
      attr(meter, "aria-label", "share of its life that is left");
      say(expires, date(Date.parse(c.not_after)));
      say(key, c.key);
      say(from, c.acme ? "ACME" : clean(c.file));
    });
    section.querySelector("table").hidden = list.length === 0;
  }

  #showRefused(match) {
    const section = byId("refused"), { refused, time } = this.#model;
    const list = refused.filter((r) => match(r.sni, r.client, r.outcome, r.ja4, r.route));
    say(section.querySelector(".sum"), refused.length === 0 ? "none" : `the latest ${lasting(time - Date.parse(refused[0].time))} ago`);
    const make = () => el("tr", "", cell("time", ""), cell("name foreign", "Asked for", el("strong"), el("small")), cell("", "Outcome"), cell("mono", "Client"), cell("mono", "JA4"));
    rows(section.querySelector("tbody"), this.#pagers.refused.of(list), make, (e, r) => {
      const [at, sni, outcome, client, ja4] = e.children;
      say(at, clock(Date.parse(r.time)));
      say(sni.firstChild, r.sni === "" ? "no name" : clean(r.sni));
      say(sni.lastChild, clean(r.error));
      say(outcome, r.outcome);
      say(client, clean(r.client || "–"));
      say(ja4, clean(r.ja4 || "–"));
    });
    section.querySelector("table").hidden = list.length === 0;
  }

  #showEvents(match) {
    const section = byId("events"), { events } = this.#model;
    const list = events.filter((e) => match(e.message, ...e.attrs.map((a) => a.value))).reverse();
    const make = () => el("tr", "", cell("time", ""), cell("", ""), cell("details foreign", "Details"));
    rows(section.querySelector("tbody"), this.#pagers.events.of(list), make, (e, event) => {
      const [at, what, details] = e.children;
      attr(e, "data-level", event.level);
      say(at, clock(Date.parse(event.time)));
      say(what, (event.level === "info" ? "" : event.level + ": ") + clean(event.message));
      say(details, event.attrs.map((a) => a.key + " " + clean(a.value)).join(" · "));
    });
  }
}

const left = (c, now) => (Date.parse(c.not_after) - now) / DAY;

function few(names) {
  return names.length > 3 ? names.slice(0, 3).join(", ") + ` and ${names.length - 3} more` : names.join(", ");
}

// worst is the most frequent outcome beside ok.
function worst(route) {
  const others = Object.entries(route.ended ?? {}).filter(([word]) => word !== "ok").sort((a, b) => b[1] - a[1]);
  return others.length ? others[0][0] : "";
}
