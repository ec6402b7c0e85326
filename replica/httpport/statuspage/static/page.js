// Follows the page's changes: each message has the HTML of the parts that changed.
"use strict";

const silence = 10000; // ms without a message, then the stream is dead
const live = document.getElementById("live");
let source = null;
let heard = 0; // when the last message came
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
    if (!next.hasAttribute(a.name)) now.removeAttribute(a.name);
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

function take(message) {
  heard = Date.now();
  say("live", true);
  const m = JSON.parse(message.data);
  if (document.title !== m.title) document.title = m.title;
  for (const [id, html] of Object.entries(m.parts)) {
    const part = document.getElementById(id);
    if (!part) continue;
    const next = document.createElement("template");
    next.innerHTML = html;
    children(part, next.content);
  }
}

function open() {
  close();
  heard = Date.now();
  source = new EventSource("events");
  source.onmessage = take;
  source.onerror = () => say("not connected: this is how things stood", false);
  timer = setInterval(() => {
    if (source.readyState !== EventSource.CLOSED && Date.now() - heard < silence) return;
    say("not connected: this is how things stood", false);
    open();
  }, 5000);
}

function close() {
  clearInterval(timer);
  if (source) source.close();
  source = null;
}

// A page that nobody looks at holds no stream: a browser has few of them.
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
if (!document.hidden) open();
