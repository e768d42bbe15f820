"use strict";
const rows = [...document.getElementById("rows").rows];
const waiting = [];
let asking = 0;

function percent(value) { return value === null ? "–" : `${(100 * value).toFixed(1)}%`; }

function grade(value) { return value === null ? "" : value >= 0.95 ? "good" : value >= 0.85 ? "fair" : "poor"; }

async function ask(row) {
  try {
    const answer = await fetch(`results/${row.dataset.number}/quality`);
    const found = await answer.json();
    if (found.reason) {
      row.cells[1].textContent = "not read";
      row.cells[1].title = found.reason;
      return;
    }
    const shown = [found.pages, found.words, percent(found.mean), percent(found.lowest), found.doubtful];
    shown.forEach((value, at) => { row.cells[at + 1].textContent = value.toLocaleString?.("en") ?? value; });
    row.cells[3].classList.add(grade(found.mean) || "none-known");
  } catch {
    row.cells[1].textContent = "not read";
  }
}

async function work() {
  if (asking >= 2) return;
  asking += 1;
  while (waiting.length) await ask(waiting.shift());
  asking -= 1;
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    waiting.push(entry.target);
    work();
  }
});
rows.forEach((row) => seen.observe(row));

document.getElementById("filter").addEventListener("input", (event) => {
  const wanted = event.target.value.normalize("NFKC").toLowerCase();
  let shown = 0;
  for (const row of rows) {
    row.hidden = !row.cells[0].textContent.normalize("NFKC").toLowerCase().includes(wanted);
    shown += !row.hidden;
  }
  document.getElementById("none").hidden = shown > 0;
});
