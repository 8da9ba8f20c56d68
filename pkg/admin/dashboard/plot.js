// Plots of the latest two minutes, one sample a second.

export const WINDOW = 120;

// Series are the samples of one quantity, the oldest first; NaN where there is none.
export class Series {
  #ring = new Float64Array(WINDOW).fill(NaN);
  #next = 0;

  add(v) {
    this.#ring[this.#next] = v;
    this.#next = (this.#next + 1) % WINDOW;
  }

  at(i) { return this.#ring[(this.#next + i) % WINDOW]; }

  get last() { return this.at(WINDOW - 1); }

  get max() {
    let m = 0;
    for (const v of this.#ring) if (v > m) m = v;
    return m;
  }
}

// draw draws series one over the other, all to one scale; the first is filled.
export function draw(canvas, series, floor = 1) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (width === 0) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const style = getComputedStyle(canvas);
  const colours = [style.getPropertyValue("--plot"), style.getPropertyValue("--plot-other")];
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  g.lineWidth = 1.25;
  g.lineJoin = "round";
  const top = Math.max(floor, ...series.map((s) => s.max));
  const y = (v) => height - 1 - (v / top) * (height - 3);
  const x = (i) => (i / (WINDOW - 1)) * width;
  g.globalAlpha = 0.35;
  g.fillStyle = style.getPropertyValue("--line");
  g.fillRect(0, height - 1, width, 1);
  series.forEach((s, n) => {
    g.strokeStyle = g.fillStyle = colours[n];
    for (const [from, to] of runs(s)) {
      g.beginPath();
      g.moveTo(x(from), y(s.at(from)));
      for (let i = from + 1; i < to; i++) g.lineTo(x(i), y(s.at(i)));
      g.globalAlpha = 0.9;
      g.stroke();
      if (n > 0) continue;
      g.lineTo(x(to - 1), height);
      g.lineTo(x(from), height);
      g.globalAlpha = 0.14;
      g.fill();
    }
  });
}

// runs are the stretches of samples without a gap, as [from, to).
function* runs(s) {
  let from = -1;
  for (let i = 0; i <= WINDOW; i++) {
    const there = i < WINDOW && !Number.isNaN(s.at(i));
    if (there && from < 0) from = i;
    if (!there && from >= 0) {
      yield [from, i];
      from = -1;
    }
  }
}
