// Keeps an open page as the server has it: asks for the page again and again and
// changes what differs. Fills in the moment that is chosen in the bar, and copies
// commands.
"use strict";

const every = 2000; // ms between two answers
const patience = 10000; // ms for an answer
const live = document.getElementById("live");
let looking = false;
let timer = 0;

// say tells whether what is shown is live; nothing is announced twice.
function say(text, isLive) {
  live.hidden = false;
  live.className = isLive ? "yes" : "no";
  if (live.textContent !== text) live.textContent = text;
}

// morph makes an element like another one and touches only what differs: what has
// the focus, is open or is selected stays so.
function morph(now, next) {
  if (now.nodeType !== next.nodeType || now.nodeName !== next.nodeName) {
    now.replaceWith(next);
    return;
  }
  if (now.nodeType !== Node.ELEMENT_NODE) {
    if (now.nodeValue !== next.nodeValue) now.nodeValue = next.nodeValue;
    return;
  }
  const kept = (a) => a.name === "open" && now.nodeName === "DETAILS"; // who reads says what is open
  for (const a of [...now.attributes]) {
    if (!next.hasAttribute(a.name) && !kept(a)) now.removeAttribute(a.name);
  }
  for (const a of next.attributes) {
    if (now.getAttribute(a.name) !== a.value && !kept(a)) now.setAttribute(a.name, a.value);
  }
  children(now, next);
}

function children(now, next) {
  const before = [...now.childNodes], after = [...next.childNodes];
  before.slice(after.length).forEach((n) => n.remove());
  after.forEach((n, i) => {
    if (i < before.length) morph(before[i], n);
    else now.appendChild(n);
  });
}

// chosen is the moment that was chosen in the bar, in seconds of Unix time.
let chosen = null;

// written is a moment as the server's clock shows it.
function written(moment, zone) {
  return new Date((moment + zone) * 1000).toISOString().slice(0, 19);
}

// restorable is the generation that has a moment, and the moment; where none has
// it, the last moment before it that one has.
function restorable(moment) {
  const pieces = [...document.querySelectorAll("#bar .piece")].map((p) => ({ number: p.dataset.number, from: +p.dataset.from, last: +p.dataset.last }));
  if (pieces.length === 0) return null;
  const p = pieces.filter((p) => p.from <= moment).pop() || pieces[0];
  return { number: p.number, moment: Math.max(p.from, Math.min(moment, p.last)) };
}

// choose fills the chosen moment into the command that restores.
function choose() {
  const bar = document.getElementById("moment"), note = document.querySelector("#restore .chosen"), word = document.querySelector("#restore .moment");
  const found = chosen !== null && bar && restorable(chosen);
  if (!found || !note || !word) return;
  const zone = +bar.dataset.zone, at = written(found.moment, zone);
  const ahead = new Date(Math.abs(zone) * 1000).toISOString().slice(11, 16);
  const text = "as it was at " + at.replace("T", " ") + ", from generation " + found.number + (found.moment < chosen ? ": the last moment before the one that was chosen" : "");
  if (note.textContent !== text) note.textContent = text;
  word.textContent = at + (zone === 0 ? "Z" : (zone < 0 ? "-" : "+") + ahead);
  bar.setAttribute("aria-valuetext", text);
}

// prepare shows what works with JavaScript alone.
function prepare() {
  for (const e of document.querySelectorAll(".copy, #moment, .click")) e.hidden = false;
  choose();
}

async function copy(button) {
  const text = button.parentElement.querySelector("code").textContent.replace(/\s+/g, " ").trim();
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page that came by plain HTTP from another host has no clipboard
    const area = document.createElement("textarea");
    area.value = text;
    button.after(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) return;
  }
  button.textContent = "Copied";
  button.focus();
}

document.addEventListener("input", (e) => {
  if (e.target.id !== "moment") return;
  chosen = +e.target.value;
  choose();
});
document.addEventListener("pointermove", (e) => {
  if (e.target.id !== "moment") return;
  const bar = e.target, box = bar.getBoundingClientRect(), share = Math.min(Math.max((e.clientX - box.left) / box.width, 0), 1);
  bar.title = written(Math.round(+bar.min + share * (bar.max - bar.min)), +bar.dataset.zone).replace("T", " ");
});
document.addEventListener("click", (e) => {
  if (e.target.classList.contains("copy")) copy(e.target);
});
document.addEventListener("keydown", (e) => {
  if (e.key === "Escape" && document.activeElement.classList.contains("term")) document.activeElement.blur();
});

async function look() {
  clearTimeout(timer);
  if (looking || document.hidden) return; // nobody looks at a hidden page
  looking = true;
  try {
    const answer = await fetch("", { cache: "no-store", signal: AbortSignal.timeout(patience) });
    if (!answer.ok) throw new Error(answer.statusText);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["clock", "main"]) children(document.getElementById(id), next.getElementById(id));
    prepare();
    if (document.title !== next.title) document.title = next.title;
    say("live", true);
  } catch {
    say("not connected: this is how things stood", false);
  }
  looking = false;
  timer = setTimeout(look, every);
}

document.addEventListener("visibilitychange", look);
prepare();
look();
