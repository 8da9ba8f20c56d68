// Looks at a dashboard as a person would, by Chromium. It says each step that it has come to and goes on when a line
// comes on its standard input; the test beside it does to Snicket what belongs there.
//
// usage: node dashboard.js URL
const assert = require("node:assert/strict");
const readline = require("node:readline");
const { chromium } = require("playwright-core");

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const step = async (...words) => {
  console.log("step", ...words);
  assert.equal((await lines.next()).done, false, "nobody goes on");
};

// contrast is the least contrast of any text on the page with what is behind it (WCAG 2.2, 1.4.3), and which text it is.
function contrast() {
  const rgb = (c) => {
    const g = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
    g.fillStyle = c;
    g.fillRect(0, 0, 1, 1);
    return [...g.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (c) => {
    const [r, g, b] = c.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c[3] === 255) return c;
    }
    return [255, 255, 255, 255];
  };
  let least = { ratio: 21 };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !e.checkVisibility() || e.closest("noscript, dialog, .skip")) continue;
    const [a, b] = [luminance(rgb(getComputedStyle(e).color)), luminance(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < least.ratio) least = { ratio, text: texts.currentNode.data };
  }
  return least;
}

async function main() {
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
  });
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
  const page = await context.newPage();
  page.setDefaultTimeout(60e3);
  const wrong = [], asked = new Set();
  page.on("pageerror", (e) => wrong.push("error: " + e.stack));
  page.on("console", (m) => { if (/Content Security Policy|Trusted/.test(m.text())) wrong.push(m.text()); });
  page.on("dialog", (d) => { wrong.push("dialog: " + d.message()); d.dismiss(); });
  page.on("request", (r) => asked.add(new URL(r.url()).origin));
  const url = process.argv[2];
  const text = (selector) => page.locator(selector).innerText();
  const has = (selector, what) => page.locator(selector, { hasText: what }).first().waitFor();

  // It loads, and shows what there is.
  await page.goto(url);
  await has("#state", "ready");
  await has("#backends", "2 of 2 backends ready");
  await has("#facts", "Generation");
  await has("#routes tbody", "shop");
  await has("#certificates tbody", "t.test");
  await has("#totals .value", "1");
  await has("#routes tbody tr:has-text('shop') td[data-label=Sessions]", "1");
  assert.match(await text("#certificates tbody .days"), /^\d+$/);

  // A backend goes down, and comes back. What the clock of this machine says at that moment is compared with the log.
  await page.evaluate(() => {
    new MutationObserver((_, o) => {
      if (!document.querySelector(".backend[data-state=down]")) return;
      window.downAt = Date.now();
      o.disconnect();
    }).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
  });
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.closest("[data-key]")?.dataset.key);
  await page.locator("[data-key=b2] summary").focus();
  await step("loaded");
  await has(".backend[data-state=down]", "connection refused");
  assert.equal(await page.locator(".backend").first().getAttribute("data-key"), "b2", "what is in trouble comes first");
  assert.equal(await focused(), "b2", "the focus moves with its backend");
  await step("down", await page.evaluate(() => window.downAt));
  assert.match(await page.title(), /^1 down/);
  await has("#events tbody", "backend down");
  const strip = page.locator(".backend[data-state=down] .strip");
  await strip.locator("rect.down").waitFor();
  await page.waitForFunction(() => /down for/.test(document.querySelector(".backend[data-state=down] .strip").getAttribute("aria-label")));

  // The history tells why, by the keyboard.
  await page.locator(".backend[data-state=down] summary").focus();
  await page.keyboard.press("Enter");
  await has(".backend[data-state=down] .history", "down: connect: connection refused");
  await has(".backend[data-state=down] .facts", "Failed dials");
  await page.keyboard.press("/");
  assert.equal(await focused(), "filter");
  await page.keyboard.type("SHOP");
  await has("#routes .sum", "1 of 3 routes");
  assert.equal(await page.locator("#routes tbody tr").count(), 1);
  await page.keyboard.press("Escape");
  await has("#routes .sum", "3 routes");
  await page.keyboard.press("4");
  assert.equal(await focused(), "refused");
  await page.keyboard.press("?");
  await page.locator("#help[open]").waitFor();
  await page.keyboard.press("Escape");
  await page.locator("#help").waitFor({ state: "hidden" });
  await page.keyboard.press("s");
  assert.equal(await page.locator("#sort").inputValue(), "sessions");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("Space");
  await has("#state", "held");
  await page.keyboard.press("Space");
  await has("#state", "ready");

  // Nothing that comes from the network is more than text.
  await step("hostile");
  await has("#refused tbody", "<img src=x onerror=window.hostile=1>");
  await has("#refused tbody", "no-route");
  assert.equal(await page.locator("main img, main script, main iframe").count(), 0);
  assert.equal(await page.evaluate(() => window.hostile), undefined);

  // Light and dark differ, and both can be read; no width, a phone's neither, scrolls sideways.
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await paper();
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    const least = await page.evaluate(contrast);
    assert.ok(least.ratio >= 4.5, `${colorScheme}: contrast ${least.ratio} of ${least.text}`);
  }
  assert.notEqual(await paper(), light);
  for (const width of [360, 800, 1280]) {
    await page.setViewportSize({ width, height: 740 });
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${width} pixels scroll sideways`);
  }
  await page.setViewportSize({ width: 1280, height: 900 });

  // Snicket ends, and another answers.
  await step("restart");
  await has("#state", "no answer");
  await has("#notice", "does not answer");
  await has("#backends", "1 of 2 backends ready"); // as it stood
  await step("gone");
  await has("#state", "ready");
  assert.equal(await page.evaluate(() => document.body.className), "");

  // A thousand routes are shown by pages, and many backends that are well by marks, until all are wanted.
  await step("many");
  await has("#routes .sum", "1,001 routes");
  const fleet = page.locator("[data-key=fleet]");
  assert.equal(await fleet.locator(".backend").count(), 0);
  assert.equal(await fleet.locator(".marks i.ready").count(), 40);
  assert.match(await fleet.locator(".marks").getAttribute("aria-label"), /40 ready/);
  await fleet.locator("button").click();
  await fleet.locator(".backend").nth(39).waitFor();
  assert.equal(await fleet.locator(".marks").isVisible(), false);
  assert.equal(await page.locator("#routes tbody tr").count(), 20);
  await page.keyboard.press("2");
  await page.keyboard.press("n");
  await has("#routes .pager", "2 of 51");
  await page.fill("#filter", "route-777");
  await has("#routes tbody tr", "route-777");
  assert.equal(await page.locator("#routes tbody tr").count(), 1);
  const showing = await page.evaluate(async () => {
    const began = performance.now();
    for (let i = 0; i < 10; i++) {
      document.querySelector("#filter").value = "route-" + i;
      document.querySelector("#filter").dispatchEvent(new Event("input"));
      await new Promise(requestAnimationFrame);
      await new Promise(requestAnimationFrame);
    }
    return (performance.now() - began) / 20;
  });
  console.log("frame of", showing.toFixed(1), "ms with 1000 routes");

  assert.deepEqual([...asked], [new URL(url).origin], "something was asked of elsewhere");
  assert.deepEqual(wrong, []);
  await browser.close();
  console.log("step done");
}

main().then(() => process.exit(0), (e) => {
  console.log("failed:", e.stack);
  process.exit(1);
});
