// The operator's view: sends sign-ups, causes faults, and shows what the service reports every half second.
import { call, show, element, time } from "./api.js";

const STATE_MILLISECONDS = 500;
const PERSON_MILLISECONDS = 250;
const MAX_IN_FLIGHT = 4; // a browser has six connections to a server, and the page needs some itself

const FAULTS = { rotate: "secret rotation", fail_over: "kill of the primary", freeze: "freeze of the service" };
const set = (id, value) => { document.querySelector(`#${id}`).textContent = value; };

// Sign-ups

const counts = { succeeded: 0, failed: 0, repeated: 0, slowest: 0, inFlight: 0 };
const people = document.querySelector("#people");
let timer = null;

function showCounts() {
  set("succeeded", counts.succeeded);
  set("failed", counts.failed);
  set("repeated", counts.repeated);
  set("slowest", `${counts.slowest.toFixed(1)} s`);
}

async function signUp() {
  if (counts.inFlight >= MAX_IN_FLIGHT) return;
  counts.inFlight += 1;
  const started = performance.now();
  const key = crypto.randomUUID();
  const form = { email: `${key}@load.example`, display_name: "Load", terms_version: "2026-01", newsletter: false };
  const answer = await call("POST", "registrations", form, {
    key,
    onRepeat: () => { counts.repeated += 1; showCounts(); },
  });
  counts.inFlight -= 1;
  counts[answer.ok ? "succeeded" : "failed"] += 1;
  counts.slowest = Math.max(counts.slowest, (performance.now() - started) / 1000);
  showCounts();
}

people.addEventListener("click", () => {
  const starts = timer === null;
  if (starts) {
    timer = setInterval(signUp, PERSON_MILLISECONDS);
  } else {
    clearInterval(timer);
    timer = null;
  }
  people.setAttribute("aria-pressed", String(starts));
  people.textContent = starts ? "Stop" : "Sign four people up each second";
});

// Faults

const buttons = [...document.querySelectorAll("[data-fault]")];

async function cause(button) {
  const name = button.dataset.fault;
  buttons.forEach((each) => each.setAttribute("aria-disabled", "true"));
  show(`The ${FAULTS[name]} has started.`, "busy", { focus: false });
  const answer = await call("POST", `local/faults/${name}`, {});
  buttons.forEach((each) => each.removeAttribute("aria-disabled"));
  if (answer.ok) {
    show(`The ${FAULTS[name]} ended after ${answer.body.seconds.toFixed(1)} seconds.`, "success", { focus: false });
  } else {
    show(answer.text, "error");
  }
}

buttons.forEach((button) => button.addEventListener("click", () => {
  if (button.getAttribute("aria-disabled") !== "true") cause(button);
}));

// What the service reports

const row = (...cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, String(cell))));
const words = (name) => name.replaceAll("_", " ");
let last = 0;

async function refreshState() {
  const answer = await call("GET", `local/state?after=${last}`);
  if (answer.ok) {
    const { entries, succeeded, failed } = answer.body;
    for (const entry of entries) {
      const line = row(time(entry.at), words(FAULTS[entry.name] ?? entry.name), words(entry.cause), entry.seconds.toFixed(3));
      if (FAULTS[entry.name]) line.className = "fault";
      document.querySelector("#entries").prepend(line);
      last = entry.number;
    }
    set("answered", succeeded + failed);
    set("broken", failed);
  }
  setTimeout(refreshState, STATE_MILLISECONDS);
}

async function refreshOutbox() {
  const answer = await call("GET", "local/outbox");
  if (answer.ok) {
    const { waiting, messages, counts: delivered } = answer.body;
    set("waiting", waiting);
    for (const name of ["delivered", "retried", "buried"]) set(name, delivered[name] ?? 0);
    document.querySelector("#messages").replaceChildren(...messages.map((message) => row(
      message.dead ? "given up" : time(message.available_at),
      message.type.replace("registration.", ""),
      message.attempts,
      message.last_error ?? "",
    )));
  }
  setTimeout(refreshOutbox, STATE_MILLISECONDS);
}

// The event log of a person

document.querySelector("#person").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = Object.fromEntries(new FormData(event.target));
  const answer = await call("POST", "local/events", form);
  if (!answer.ok) {
    show(answer.text, "error");
    return;
  }
  show(null);
  const { length } = answer.body;
  set("no-events", length ? `${length} event${length === 1 ? "" : "s"}` : "There are no events.");
  document.querySelector("#events").replaceChildren(...answer.body.map((entry) => {
    const line = row(time(entry.at), entry.seq, words(entry.type), entry.actor, JSON.stringify(entry.data));
    line.lastChild.className = "details";
    return line;
  }));
});

refreshState();
refreshOutbox();
