// What the page is made of. Text is only ever text: nothing here makes markup of it.

// el is an element with a class and content.
export function el(tag, className, ...content) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  e.append(...content);
  return e;
}

// say makes text what an element says, touching it only if it says something else.
export function say(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

export function attr(e, name, value) {
  if (value === null) e.removeAttribute(name);
  else if (e.getAttribute(name) !== String(value)) e.setAttribute(name, value);
}

// rows makes as many children in parent as there are things, each made by make and
// filled by fill. Children are kept, so that focus and selection stay.
export function rows(parent, things, make, fill) {
  while (parent.children.length > things.length) parent.lastElementChild.remove();
  while (parent.children.length < things.length) parent.append(make());
  things.forEach((thing, i) => fill(parent.children[i], thing));
}

// keyed is rows with one child for each key, which moves with its thing, and so does the
// focus.
export function keyed(parent, things, key, make, fill) {
  const focus = parent.contains(document.activeElement) ? document.activeElement : null;
  const there = new Map([...parent.children].map((e) => [e.dataset.key, e]));
  things.forEach((thing, i) => {
    const k = key(thing);
    let e = there.get(k);
    there.delete(k);
    if (!e) {
      e = make();
      e.dataset.key = k;
    }
    if (parent.children[i] !== e) parent.insertBefore(e, parent.children[i] ?? null);
    fill(e, thing);
  });
  for (const e of there.values()) e.remove();
  if (focus?.isConnected && document.activeElement !== focus) focus.focus({ preventScroll: true });
}

// Pager shows a list by pages, and has its buttons in a nav.
export class Pager {
  page = 0;
  #nav;
  #text = el("span", "", "");
  #size;
  #count = 1;

  constructor(section, size, changed) {
    this.#size = size;
    this.#nav = section.querySelector(".pager");
    const button = (label, text, step) => {
      const b = el("button", "quiet", text);
      b.type = "button";
      b.setAttribute("aria-label", label);
      b.addEventListener("click", () => {
        this.turn(step);
        changed();
      });
      return b;
    };
    this.#text.setAttribute("aria-live", "polite");
    this.#nav.append(button("Previous page", "‹", -1), this.#text, button("Next page", "›", 1));
  }

  turn(step) { this.page = (this.page + step + this.#count) % this.#count; }

  // of returns the things on the page.
  of(things) {
    this.#count = Math.max(1, Math.ceil(things.length / this.#size));
    this.page = Math.min(this.page, this.#count - 1);
    this.#nav.hidden = this.#count === 1;
    say(this.#text, `${this.page + 1} of ${this.#count}`);
    return things.slice(this.page * this.#size, (this.page + 1) * this.#size);
  }
}
