// Numbers and foreign text for people.

// clean is text of the network with what cannot be seen, or would turn the rest around,
// written out.
export const clean = (text) =>
  text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}]/gu, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");

export function bytes(n) {
  if (Number.isNaN(n)) return "–";
  let i = 0;
  for (; n >= 1000 && i < 5; i++) n /= 1024;
  return (i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + " " + ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][i];
}

export const rate = (n) => bytes(n) + "/s";

export function perSecond(n) {
  if (Number.isNaN(n)) return "–";
  return (n >= 100 || n === 0 ? Math.round(n) : n.toFixed(1)) + "/s";
}

const grouped = new Intl.NumberFormat("en", { useGrouping: true });
export const count = (n) => grouped.format(n);

// plural is "1 session", "2 sessions".
export const plural = (n, one, many = one + "s") => count(n) + " " + (n === 1 ? one : many);

// lasting is a span of milliseconds, two units at most.
export function lasting(ms) {
  const s = Math.max(0, Math.floor(ms / 1000)), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
  if (m < 1) return s + "s";
  if (h < 1) return m + "m " + (s % 60) + "s";
  if (d < 1) return h + "h " + (m % 60) + "m";
  return d + "d " + (h % 24) + "h";
}

const two = (n) => String(n).padStart(2, "0");

// clock is a time of day, with its date where that is not today's.
export function clock(ms) {
  const t = new Date(ms);
  const time = [t.getHours(), t.getMinutes(), t.getSeconds()].map(two).join(":");
  return t.toDateString() === new Date().toDateString() ? time : date(ms) + " " + time;
}

export function date(ms) {
  const t = new Date(ms);
  return t.getFullYear() + "-" + two(t.getMonth() + 1) + "-" + two(t.getDate());
}
