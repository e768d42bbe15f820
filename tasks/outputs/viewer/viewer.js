"use strict";
// Everything that comes from the document is put into the page as text, never as markup.
const $ = (id) => document.getElementById(id);
const meta = JSON.parse($("document").textContent);
const total = meta.pages.length;
const state = { page: 1, zoom: 1, shade: 80, hits: [], hit: -1, query: "" };
const sheets = [];
const parsed = new Map();
const ruler = document.createElement("canvas").getContext("2d");
const FONT = "system-ui, 'Noto Sans', 'Noto Sans CJK KR', sans-serif";

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function say(text) { $("status").textContent = text; }

// The data of a page. The file may still be loading: then the page is not there yet.
function dataOf(number) {
  if (parsed.has(number)) return parsed.get(number);
  const block = $(`page-${number}`);
  if (!block || (!block.nextElementSibling && document.readyState === "loading")) return null;
  const data = JSON.parse(block.textContent);
  if (parsed.size > 400 && !state.query) parsed.clear();
  parsed.set(number, data);
  return data;
}

// Pages

function layOut() {
  const pages = $("pages");
  meta.pages.forEach(([width, height, words, confidence], index) => {
    const number = index + 1;
    const sheet = make("div", { className: "sheet" }, make("div", { className: "loading", textContent: "…" }));
    sheet.style.aspectRatio = `${width} / ${height}`;
    const quality = confidence === null ? "" : `, mean confidence ${(confidence / 10).toFixed(1)}%`;
    const copy = make("button", { textContent: "Copy text" });
    copy.addEventListener("click", () => copyPage(number));
    copy.setAttribute("aria-label", `Copy the text of page ${number}`);
    const heading = make("h2", { id: `heading-${number}`, textContent: `Page ${number}` });
    const head = make("div", { className: "page-head" }, heading,
      make("span", { textContent: `${words} ${words === 1 ? "word" : "words"}${quality}` }), copy);
    const text = make("div", { className: "text", tabIndex: 0 });
    text.setAttribute("role", "region");
    text.setAttribute("aria-label", `Text of page ${number}`);
    const section = make("section", { className: "page", id: `sheet-${number}` }, head, sheet, text);
    section.setAttribute("aria-labelledby", heading.id);
    section.dataset.number = number;
    sheets.push({ section, sheet, text, shown: false, words: [] });
    pages.append(section);
  });
}

function picture(number) {
  if (meta.pictures === "served") {
    return make("img", { src: `${location.pathname.replace(/\/$/, "")}/pictures/${number}`, decoding: "async" });
  }
  const block = $(`picture-${number}`);
  return block ? make("img", { src: `data:image/webp;base64,${block.textContent}`, decoding: "async" }) : null;
}

function show(number) {
  const place = sheets[number - 1];
  if (place.shown) return;
  const data = dataOf(number);
  if (!data) { setTimeout(() => { if (isNear(place.section)) show(number); }, 50); return; }
  place.shown = true;
  const image = picture(number);
  const [width, height] = meta.pages[number - 1];
  place.words = data.words.map((word) => wordElement(word, width, height));
  const layer = make("div", { className: "words" });
  layer.setAttribute("aria-hidden", "true");
  layer.append(...place.words.filter(Boolean));
  if (image) {
    image.alt = `Picture of page ${number}`;
    const asText = () => { image.remove(); place.sheet.classList.add("drawn"); };
    image.addEventListener("error", asText);
    place.sheet.replaceChildren(image, layer);
    place.sheet.classList.remove("drawn");
  } else {
    place.sheet.replaceChildren(layer);
    place.sheet.classList.add("drawn");
  }
  showText(number);
  mark(number);
}

function hide(number) {
  const place = sheets[number - 1];
  if (!place.shown) return;
  place.shown = false;
  place.words = [];
  place.sheet.replaceChildren(make("div", { className: "loading", textContent: "…" }));
}

function wordElement([text, confidence, x, y, wide, high, angle], width, height) {
  if (!(wide > 0 && high > 0)) return null;
  const inner = make("span", { textContent: text });
  const element = make("span", { className: "word" }, inner);
  const size = high * 0.86;
  ruler.font = `100px ${FONT}`;
  const natural = (ruler.measureText(text).width / 100) * size;
  Object.assign(element.style, {
    left: `${(100 * x) / width}%`, top: `${(100 * y) / height}%`, width: `${(100 * wide) / width}cqw`,
    height: `${(100 * high) / height}cqh`, fontSize: `${(100 * size) / height}cqh`,
  });
  if (angle) element.style.transform = `rotate(${angle}deg)`;
  if (natural > 0) inner.style.transform = `scaleX(${wide / natural})`;
  const known = confidence === null ? "no confidence" : `${(confidence / 10).toFixed(1)}%`;
  element.title = `${text}\n${known}`;
  return element;
}

function showText(number) {
  const { text } = sheets[number - 1];
  const content = dataOf(number).text;
  text.classList.toggle("empty", !content.trim());
  if (!content.trim()) { text.textContent = "No text on this page"; return; }
  const parts = [];
  let at = 0;
  if (state.query) {
    for (const [start, end] of placesIn(content, state.query)) {
      parts.push(content.slice(at, start), make("mark", { textContent: content.slice(start, end) }));
      at = end;
    }
  }
  text.replaceChildren(...parts, content.slice(at));
}

// Doubts and hits on a page that is shown
function mark(number) {
  const place = sheets[number - 1];
  if (!place.shown) return;
  const { words } = dataOf(number);
  const hits = new Map();
  state.hits.forEach((hit, index) => {
    if (hit.page !== number) return;
    for (let n = hit.first; n <= hit.last; n += 1) hits.set(n, hits.get(n) || index === state.hit);
  });
  place.words.forEach((element, n) => {
    if (!element) return;
    const confidence = words[n][1];
    const doubt = confidence !== null && confidence < state.shade * 10;
    element.classList.toggle("doubt", doubt);
    if (doubt) element.style.setProperty("--doubt-strength", (0.18 + 0.42 * (1 - confidence / 1000)).toFixed(2));
    element.classList.toggle("hit", hits.has(n));
    element.classList.toggle("current", hits.get(n) === true);
  });
}

function markAll() { sheets.forEach((place, index) => mark(index + 1)); }

function isNear(section) {
  const view = $("pages").getBoundingClientRect();
  const box = section.getBoundingClientRect();
  return box.bottom > view.top - view.height * 1.5 && box.top < view.bottom + view.height * 1.5;
}

const near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const number = Number(entry.target.dataset.number);
    if (entry.isIntersecting) show(number); else hide(number);
  }
}, { root: $("pages"), rootMargin: "150% 0px" });

// Which page is meant is known here, whichever of those in view a scroll would make it.
let brought = false;
function bring(element, block) {
  brought = true;
  element.scrollIntoView({ block, inline: "nearest" });
}

function turnTo(number) {
  const page = Math.min(Math.max(1, number || state.page), total);
  bring(sheets[page - 1].section, "start");
  setPage(page);
}

function setPage(number) {
  if (state.page !== number) say(`Page ${number} of ${total}`);
  state.page = number;
  $("page").value = number;
  $("previous").disabled = number === 1;
  $("next").disabled = number === total;
}

let scrolling = 0;
function followScroll() {
  scrolling = 0;
  if (brought) { brought = false; return; }
  const view = $("pages");
  const top = view.getBoundingClientRect().top + view.clientHeight * 0.3;
  let low = 0;
  let high = total - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (sheets[middle].section.getBoundingClientRect().top <= top) low = middle; else high = middle - 1;
  }
  setPage(low + 1);
}

function zoomTo(zoom) {
  const page = state.page;
  state.zoom = Math.min(Math.max(zoom, 0.3), 4);
  document.documentElement.style.setProperty("--zoom", state.zoom.toFixed(3));
  $("fit").textContent = `${Math.round(state.zoom * 100)}%`;
  turnTo(page);
}

// Words of low confidence

function shadeBelow(percent) {
  state.shade = Math.min(Math.max(percent, 0), 100);
  $("shade").value = state.shade;
  $("shade-value").textContent = `${state.shade}%`;
  const below = meta.histogram.slice(0, state.shade * 10).reduce((sum, count) => sum + count, 0);
  $("doubts").textContent = `${below} ${below === 1 ? "word" : "words"}`;
  markAll();
}

function nextDoubt(step) {
  const started = state.doubt && state.doubt.page === state.page ? state.doubt : { page: state.page, word: step > 0 ? -1 : Infinity };
  for (let turned = 0; turned <= total; turned += 1) {
    const page = ((started.page - 1 + step * turned + total * 2) % total) + 1;
    const data = dataOf(page);
    if (!data) continue;
    const from = turned ? (step > 0 ? 0 : data.words.length - 1) : Math.min(started.word + step, data.words.length - 1);
    for (let n = from; n >= 0 && n < data.words.length; n += step) {
      const confidence = data.words[n][1];
      if (confidence !== null && confidence < state.shade * 10) {
        state.doubt = { page, word: n };
        reveal(page, n);
        say(`${data.words[n][0]}, ${(confidence / 10).toFixed(0)}%, page ${page}`);
        return;
      }
    }
  }
  say("No shaded word");
}

function reveal(page, word) {
  show(page);
  const element = sheets[page - 1].words[word];
  if (!element) { turnTo(page); return; }
  bring(element, "center");
  setPage(page);
  element.animate([{ outline: "3px solid rgb(255 120 0)" }, { outline: "3px solid transparent" }], { duration: 1200 });
}

// Search: case, accents and compatibility forms do not matter, nor do spaces between Chinese, Japanese or Korean letters

const CJK = /[\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u318f\u31f0-\u31ff\u3400-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f]|[\ud840-\ud8bf]/;
const folds = new Map();
function fold(letter) {
  let plain = folds.get(letter);
  if (plain === undefined) {
    plain = letter.normalize("NFKC").toLowerCase().replace(/ß/g, "ss");
    if (!CJK.test(plain)) plain = plain.normalize("NFD").replace(/[\u0300-\u036f]/g, "");
    folds.set(letter, plain);
  }
  return plain;
}

function folded(text) {
  let plain = "";
  const places = [];
  for (let at = 0; at < text.length;) {
    const letter = String.fromCodePoint(text.codePointAt(at));
    if (/\s/.test(letter)) {
      const start = at;
      while (at < text.length && /\s/.test(text[at])) at += 1;
      if (plain && at < text.length && !(CJK.test(plain.slice(-1)) && CJK.test(text[at]))) { plain += " "; places.push(start); }
      continue;
    }
    const found = fold(letter);
    plain += found;
    for (let n = 0; n < found.length; n += 1) places.push(at);
    at += letter.length;
  }
  places.push(text.length);
  return { plain, places };
}

function placesIn(text, query) {
  const wanted = folded(query).plain.trim();
  const found = [];
  if (!wanted) return found;
  const { plain, places } = folded(text);
  for (let at = plain.indexOf(wanted); at >= 0; at = plain.indexOf(wanted, at + wanted.length)) {
    const last = places[at + wanted.length - 1];
    found.push([places[at], last + String.fromCodePoint(text.codePointAt(last)).length]);
  }
  return found;
}

function hitsOn(number) {
  const { words, text } = dataOf(number);
  if (!words.length) {
    return placesIn(text, state.query).map(([start, end]) => ({ page: number, first: 0, last: -1, text, start, end }));
  }
  const starts = [];
  let whole = "";
  for (const [word] of words) { starts.push(whole.length); whole += `${word} `; }
  return placesIn(whole, state.query).map(([start, end]) => {
    let first = starts.findLastIndex((at) => at <= start);
    let last = starts.findLastIndex((at) => at < end);
    if (first < 0) first = 0;
    if (last < first) last = first;
    return { page: number, first, last, text: whole, start, end };
  });
}

const MOST_LISTED = 500;
async function search(query) {
  state.query = query.trim();
  state.hits = [];
  state.hit = -1;
  const mine = state.query;
  if (mine) {
    if (document.readyState === "loading") await new Promise((done) => addEventListener("DOMContentLoaded", done));
    const hits = [];
    let pause = performance.now() + 30;
    for (let number = 1; number <= total; number += 1) {
      hits.push(...hitsOn(number));
      if (performance.now() > pause) {
        await new Promise((done) => setTimeout(done));
        pause = performance.now() + 30;
        if (state.query !== mine) return;
      }
    }
    state.hits = hits;
  }
  listHits();
  sheets.forEach((place, index) => { if (place.shown) showText(index + 1); });
  if (state.hits.length) {
    const next = state.hits.findIndex((hit) => hit.page >= state.page);
    goToHit(next < 0 ? 0 : next);
  } else {
    markAll();
    countHits();
  }
}

function listHits() {
  $("hits").hidden = !state.hits.length;
  $("hits-title").textContent = `${state.hits.length} ${state.hits.length === 1 ? "hit" : "hits"}`;
  $("hit-list").replaceChildren(...state.hits.slice(0, MOST_LISTED).map((hit, index) => {
    const before = hit.text.slice(Math.max(0, hit.start - 30), hit.start);
    const button = make("button", {}, make("small", { textContent: `Page ${hit.page} ` }), before,
      make("mark", { textContent: hit.text.slice(hit.start, hit.end) }), hit.text.slice(hit.end, hit.end + 40));
    button.addEventListener("click", () => goToHit(index));
    return make("li", {}, button);
  }));
  if (state.hits.length > MOST_LISTED) {
    $("hit-list").append(make("li", { textContent: `and ${state.hits.length - MOST_LISTED} more` }));
  }
}

function countHits() {
  if (!state.query) $("found").textContent = "";
  else if (!state.hits.length) $("found").textContent = "no hits";
  else $("found").textContent = `${state.hit + 1} of ${state.hits.length}`;
}

function goToHit(index) {
  if (!state.hits.length) return;
  const before = $("hit-list").querySelector("[aria-current]");
  if (before) before.removeAttribute("aria-current");
  state.hit = (index + state.hits.length) % state.hits.length;
  const hit = state.hits[state.hit];
  const entry = $("hit-list").children[state.hit];
  if (entry && entry.firstElementChild) {
    entry.firstElementChild.setAttribute("aria-current", "true");
    entry.scrollIntoView({ block: "nearest" });
  }
  if (isNear(sheets[hit.page - 1].section)) show(hit.page); else turnTo(hit.page);
  show(hit.page);
  const element = sheets[hit.page - 1].words[hit.first];
  if (element && hit.last >= hit.first) bring(element, "center");
  setPage(hit.page);
  markAll();
  countHits();
}

// Copying

async function copyText(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { value: text, className: "visually-hidden" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(`${what} copied`);
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1200);
}

function copyPage(number) {
  const data = dataOf(number);
  if (data) copyText(data.text, `Text of page ${number}`);
}

// Of words that were selected on the picture: with a space between words and a line break between lines.
document.addEventListener("copy", (event) => {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return;
  const range = selection.getRangeAt(0);
  let text = "";
  let line = null;
  for (const [index, place] of sheets.entries()) {
    if (!place.shown || !range.intersectsNode(place.sheet)) continue;
    const { words } = dataOf(index + 1);
    place.words.forEach((element, n) => {
      if (!element || !range.intersectsNode(element)) return;
      const own = `${index}/${words[n][7]}`;
      text += (text ? (own === line ? " " : "\n") : "") + words[n][0];
      line = own;
    });
  }
  if (text && !range.commonAncestorContainer.parentElement?.closest(".text")) {
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
  }
});

// Theme, text, keys

const THEMES = ["system", "light", "dark"];
function setTheme(theme) {
  state.theme = theme;
  if (theme === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = theme;
  $("theme").textContent = { system: "Auto", light: "Light", dark: "Dark" }[theme];
  $("theme").setAttribute("aria-label", `Theme: ${theme === "system" ? "as the system" : theme}`);
}

function toggleText() {
  const hidden = $("pages").classList.toggle("no-text");
  $("text").setAttribute("aria-pressed", String(!hidden));
  turnTo(state.page);
}

function typing() { return /^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName || ""); }

const KEYS = {
  ArrowLeft: () => turnTo(state.page - 1), ArrowRight: () => turnTo(state.page + 1),
  "/": () => $("search").focus(), n: () => goToHit(state.hit + 1), p: () => goToHit(state.hit - 1), N: () => goToHit(state.hit - 1),
  l: () => nextDoubt(1), L: () => nextDoubt(-1), "[": () => shadeBelow(state.shade - 5), "]": () => shadeBelow(state.shade + 5),
  "+": () => zoomTo(state.zoom * 1.2), "=": () => zoomTo(state.zoom * 1.2), "-": () => zoomTo(state.zoom / 1.2), 0: () => zoomTo(1),
  t: toggleText, c: () => copyPage(state.page), d: () => $("theme").click(), "?": () => $("keys").showModal(),
};
document.addEventListener("keydown", (event) => {
  if (event.target === $("search")) {
    if (event.key === "Enter") { event.preventDefault(); goToHit(state.hit + (event.shiftKey ? -1 : 1)); }
    if (event.key === "Escape") { $("search").value = ""; search(""); $("pages").focus(); }
    return;
  }
  if (typing() || event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const action = KEYS[event.key];
  if (action) { event.preventDefault(); action(); }
});

let waiting = 0;
$("search").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => search($("search").value), 120);
});
$("page").addEventListener("change", () => turnTo(Number($("page").value)));
$("shade").addEventListener("input", () => shadeBelow(Number($("shade").value)));
for (const [id, action] of Object.entries({
  previous: KEYS.ArrowLeft, next: KEYS.ArrowRight, smaller: KEYS["-"], larger: KEYS["+"], fit: KEYS[0], "next-doubt": KEYS.l,
  "previous-hit": KEYS.p, "next-hit": KEYS.n, text: toggleText, copy: KEYS.c, help: KEYS["?"],
  theme: () => setTheme(THEMES[(THEMES.indexOf(state.theme) + 1) % THEMES.length]),
})) $(id).addEventListener("click", action);
$("pages").addEventListener("scroll", () => { if (!scrolling) scrolling = requestAnimationFrame(followScroll); }, { passive: true });

// Beginning

document.title = meta.title;
$("title").textContent = meta.title;
$("title").title = meta.result;
$("of").textContent = `/ ${total}`;
$("page").max = total;
if (meta.notice) { $("notice").textContent = meta.notice; $("notice").hidden = false; }
layOut();
setTheme("system");
shadeBelow(80);
setPage(1);
sheets.forEach(({ section }) => near.observe(section));
const wanted = new URLSearchParams(location.hash.slice(1));
if (wanted.has("page")) turnTo(Number(wanted.get("page")));
if (wanted.has("search")) { $("search").value = wanted.get("search"); search(wanted.get("search")); }
document.documentElement.dataset.ready = "true";
