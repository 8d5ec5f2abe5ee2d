// Your data: see, download, change, leave. Every change names the version that was shown.
import { call, date, onSubmit, repeating, show } from "./api.js";

const STATUS = {
  verified: "confirmed",
  active: "active",
  cancelled: "cancelled",
  expired: "expired",
  pending: "waits for confirmation",
};
const CLOSED = ["cancelled", "expired"];

const known = document.querySelector("#known");
const unknown = document.querySelector("#unknown");
const form = document.querySelector("#change-form");
const field = (id) => document.querySelector(`#${id}`);
let person = null;

/** Show *data*; everything becomes text, never markup. */
function fill(data) {
  person = data;
  field("shown-name").textContent = data.display_name;
  field("shown-email").textContent = data.email;
  field("shown-status").textContent = STATUS[data.status] ?? data.status;
  field("shown-newsletter").textContent = data.newsletter ? "yes" : "no";
  field("shown-signed-up").textContent = date(data.signed_up_at);
  field("display_name").value = data.display_name;
  field("newsletter").checked = data.newsletter;
  field("change-section").hidden = CLOSED.includes(data.status);
  field("cancel").hidden = !["pending", "verified"].includes(data.status);
  known.hidden = false;
  unknown.hidden = true;
}

function forget(text, kind) {
  person = null;
  known.hidden = true;
  unknown.hidden = false;
  show(text, kind);
}

function fail(answer) {
  if (answer.status === 401) {
    forget(answer.text, "error");
  } else {
    show(answer.text, "error");
  }
}

async function load() {
  const answer = await call("GET", "me", undefined, { onRepeat: repeating });
  if (answer.ok) {
    fill(answer.body);
  } else if (answer.status === 401) {
    forget(answer.text, "busy");
  } else {
    fail(answer);
  }
  return answer.ok;
}

onSubmit(form, async (data) => {
  if (!field("display_name").checkValidity()) {
    show("Please type your name.", "error");
    return;
  }
  const name = data.get("display_name");
  const newsletter = data.has("newsletter");
  let answer = { ok: true, body: person };
  if (name !== person.display_name) {
    answer = await call("PATCH", "me", { display_name: name, version: person.version }, { onRepeat: repeating });
  }
  if (answer.ok && newsletter !== answer.body.newsletter) {
    fill(answer.body);
    answer = await call("PUT", "me/newsletter", { granted: newsletter }, { onRepeat: repeating });
  }
  if (answer.ok) {
    fill(answer.body);
    show("Your data is saved.");
  } else if (answer.status === 409) {
    if (await load()) {
      show("Your data was changed in another window in the meantime. You see the current data; please make your change again.", "error");
    }
  } else {
    fail(answer);
  }
});

field("download").addEventListener("click", async () => {
  const answer = await call("GET", "me/export", undefined, { onRepeat: repeating });
  if (!answer.ok) {
    fail(answer);
    return;
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(answer.body, null, 2)], { type: "application/json" }));
  link.download = "my-data.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  show("Your data is downloaded as my-data.json.");
});

field("cancel").addEventListener("click", async () => {
  const answer = await call("POST", "me/cancellation", undefined, { onRepeat: repeating });
  if (answer.ok) {
    fill(answer.body);
    show("Your registration is cancelled. Your data stays until you erase it.");
  } else {
    fail(answer);
  }
});

field("erase").addEventListener("click", () => {
  field("sure").returnValue = "keep";
  field("sure").showModal();
});

field("sure").addEventListener("close", async () => {
  if (field("sure").returnValue !== "erase") return;
  const answer = await call("DELETE", "me", undefined, { onRepeat: repeating });
  if (answer.ok) {
    forget("Your data is erased.", "success");
  } else {
    fail(answer);
  }
});

const confirmed = location.hash === "#confirmed";
history.replaceState(null, "", location.pathname);
if (await load() && confirmed) show("Your address is confirmed. Welcome!");
