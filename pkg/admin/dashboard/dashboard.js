// The dashboard: follows /v1/live and shows what it says. Whatever ends the stream, it is
// asked for again until somebody answers.

import { attr, say } from "./dom.js";
import { Model } from "./model.js";
import { View } from "./view.js";

const RETRY = 1000; // milliseconds until it is asked for again
const SILENCE = 10e3; // milliseconds without a frame, which is one that was lost

const byId = (id) => document.getElementById(id);
const model = new Model();
let held = false, lastFrame = 0, version = "", stream = null, pending = 0, queued = false;

// show shows the model at the next opportunity of the browser.
function show() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => {
    queued = false;
    view.show();
    if (held) mark("held", "The view is held; Space goes on.");
  });
}
const view = new View(model, show);

function connect() {
  pending = 0;
  stream?.close();
  stream = new EventSource("/v1/live");
  stream.onmessage = (e) => take(JSON.parse(e.data));
  stream.onerror = lost;
  lastFrame = performance.now();
}

function take(frame) {
  lastFrame = performance.now();
  if (version !== "" && version !== frame.status.version) {
    location.reload(); // another page belongs to another version
    return;
  }
  version = frame.status.version;
  document.body.classList.remove("lost");
  model.take(frame);
  if (!held) show();
}

function lost() {
  stream?.close();
  document.body.classList.add("lost");
  model.gap();
  mark("no answer", "Snicket does not answer. This is how it stood; asking again every second.");
  if (!pending) pending = setTimeout(connect, RETRY);
}

function mark(word, notice) {
  say(byId("state"), word);
  attr(byId("state"), "data-state", word);
  byId("notice").hidden = false;
  say(byId("notice"), notice);
}

setInterval(() => {
  if (!pending && performance.now() - lastFrame > SILENCE) lost();
}, RETRY);

const SECTIONS = ["backends", "routes", "certificates", "refused", "events"];
let current = "routes";

function go(id) {
  current = id;
  byId(id).focus({ preventScroll: true });
  byId(id).scrollIntoView({ block: "start" });
}

function sortNext() {
  byId("sort").selectedIndex = (byId("sort").selectedIndex + 1) % byId("sort").options.length;
  show();
}

function hold() {
  held = !held;
  show();
}

const KEYS = {
  "/": () => byId("filter").select(),
  "?": () => byId("help").showModal(),
  s: sortNext,
  n: () => { view.turn(current, 1); show(); },
  p: () => { view.turn(current, -1); show(); },
  " ": hold,
};
SECTIONS.forEach((id, i) => { KEYS[i + 1] = () => go(id); });

addEventListener("keydown", (e) => {
  const typing = e.target.matches("input, select, textarea");
  if (e.key === "Escape" && e.target === byId("filter")) {
    byId("filter").value = "";
    byId("filter").blur();
    show();
    return;
  }
  const busy = typing || byId("help").open || e.ctrlKey || e.metaKey || e.altKey;
  if (busy || (e.key === " " && e.target.matches("button, summary, a"))) return;
  if (!Object.hasOwn(KEYS, e.key)) return;
  e.preventDefault();
  KEYS[e.key]();
});
for (const id of SECTIONS) byId(id).addEventListener("focusin", () => { current = id; });
byId("keys").addEventListener("click", () => byId("help").showModal());
byId("filter").addEventListener("input", show);
byId("sort").addEventListener("change", show);
byId("backends").addEventListener("toggle", show, true); // of a backend's details
addEventListener("resize", show);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
addEventListener("pageshow", () => { if (document.body.classList.contains("lost")) connect(); });
connect();
