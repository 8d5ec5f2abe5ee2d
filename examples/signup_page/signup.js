// Sign up: the same form is always sent with the same idempotency key, so a repetition stores nothing twice.
import { call, onSubmit, repeating, show } from "./api.js";

const TERMS = "2026-01";
const form = document.querySelector("#sign-up");
const ERRORS = {
  display_name: "Please type your name.",
  email: "Please type an address such as ada@example.com.",
  terms: "Please accept the terms, or leave this page.",
};

let sent = { content: null, key: null };

function keyOf(content) {
  if (sent.content !== content) sent = { content, key: crypto.randomUUID() };
  return sent.key;
}

function mark(id, wrong) {
  const field = document.querySelector(`#${id}`);
  const error = document.querySelector(`#${id}-error`);
  error.textContent = wrong ? ERRORS[id] : "";
  error.hidden = !wrong;
  field.toggleAttribute("aria-invalid", wrong);
  if (wrong) {
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", error.id);
  } else {
    field.removeAttribute("aria-describedby");
  }
  return wrong ? field : null;
}

/** Mark the fields with these ids, and no others; move the focus to the first. */
function markOnly(ids) {
  const wrong = Object.keys(ERRORS).map((id) => mark(id, ids.includes(id))).filter(Boolean);
  wrong[0]?.focus();
}

onSubmit(form, async (data) => {
  const empty = Object.keys(ERRORS).filter((id) => !document.querySelector(`#${id}`).checkValidity());
  show(null);
  markOnly(empty);
  if (empty.length) return;
  const body = {
    email: data.get("email"),
    display_name: data.get("display_name"),
    terms_version: TERMS,
    newsletter: data.has("newsletter"),
    confirm_by: data.get("confirm_by"),
  };
  const answer = await call("POST", "registrations", body, { key: keyOf(JSON.stringify(body)), onRepeat: repeating });
  if (answer.ok) {
    location.assign(`mail.html#${body.confirm_by}`);
  } else if (answer.status === 422) {
    show(null);
    markOnly(["email"]);
  } else {
    show(answer.text, "error");
  }
});
