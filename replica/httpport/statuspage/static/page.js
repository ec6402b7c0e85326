// Keeps an open page as the server has it: asks for the page again and again and
// changes what differs.
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
  for (const a of [...now.attributes]) {
    if (!next.hasAttribute(a.name) && now.nodeName !== "DETAILS") now.removeAttribute(a.name);
  }
  for (const a of next.attributes) {
    if (now.getAttribute(a.name) !== a.value) now.setAttribute(a.name, a.value);
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

async function look() {
  clearTimeout(timer);
  if (looking || document.hidden) return; // nobody looks at a hidden page
  looking = true;
  try {
    const answer = await fetch("", { cache: "no-store", signal: AbortSignal.timeout(patience) });
    if (!answer.ok) throw new Error(answer.statusText);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["clock", "overview", "masters"]) children(document.getElementById(id), next.getElementById(id));
    if (document.title !== next.title) document.title = next.title;
    say("live", true);
  } catch {
    say("not connected: this is how things stood", false);
  }
  looking = false;
  timer = setTimeout(look, every);
}

document.addEventListener("visibilitychange", look);
look();
