// What all pages share: requests to the API, a text for each error, and messages.

const MAX_REPETITIONS = 3;

const NO_CONNECTION = "The service cannot be reached. Nothing that you have typed is lost: please try again in a moment.";
const NOT_AVAILABLE = "The service is not available at the moment. Nothing that you have typed is lost: please try again in a moment.";

const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/**
 * Send a request, and repeat it while the service asks for that; return `{ok, status, body, text}`.
 *
 * A repetition has the same idempotency key, so it changes nothing if the first request was executed.
 */
export async function call(method, path, body, { key = null, onRepeat = () => {} } = {}) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key !== null) headers["Idempotency-Key"] = key;
  const options = { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store" };
  for (let repetitions = 0; ; repetitions += 1) {
    let response;
    try {
      response = await fetch(path, options);
      const answer = await answerOf(response);
      if (response.status !== 503 || repetitions === MAX_REPETITIONS) return answer;
    } catch {
      return { ok: false, status: 0, body: {}, text: NO_CONNECTION };
    }
    onRepeat();
    await sleep(Number(response.headers.get("Retry-After")) || 2);
  }
}

async function answerOf(response) {
  const isJson = /^application\/(problem\+)?json/.test(response.headers.get("Content-Type") ?? "");
  const body = isJson && response.status !== 204 ? await response.json() : {};
  const text = response.ok ? "" : textOf(response.status, body, response.headers.get("Retry-After"));
  return { ok: response.ok, status: response.status, body, text };
}

/** Return the text for a person. */
function textOf(status, problem, retryAfter) {
  switch (status) {
    case 400:
    case 422:
      return "Please check what you have typed.";
    case 401:
      return "This browser does not know you, or not any more.";
    case 403:
      return textOfWrongCode(problem.attempts_left);
    case 409:
      return problem.detail ? sentence(problem.detail) : "This is not possible any more.";
    case 410:
      return "This is no longer valid: it has expired, a newer mail has replaced it, or your address was confirmed by another sign-up.";
    case 429:
      return textOfTooManyMails(retryAfter);
    default:
      return status >= 500 ? NOT_AVAILABLE : sentence(problem.detail ?? "this is not possible");
  }
}

function textOfWrongCode(left) {
  if (left === undefined) return "The request was not accepted. Please reload this page.";
  if (left === 0) return "The code was wrong too often. Please ask for another mail.";
  return `The code is wrong. You can try ${left === 1 ? "once more" : `${left} more times`}.`;
}

function textOfTooManyMails(retryAfter) {
  if (!retryAfter) return "No more mails are sent for this sign-up. Please sign up again.";
  return `The last mail was sent a moment ago. You can ask for another one from ${time(retryAfter)} on.`;
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

export const time = (moment) => new Date(moment).toLocaleTimeString("en-GB");
export const date = (moment) => new Date(moment).toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short" });

/** Show a message at the top of the page, and move the focus to it; `null` hides it. The kinds: success, error, busy. */
export function show(text, kind = "success", { focus = true } = {}) {
  const message = document.querySelector("#message");
  if (message.textContent !== (text ?? "")) message.textContent = text ?? "";
  message.className = `message ${kind}`;
  message.hidden = text === null;
  if (text !== null && focus) {
    message.focus();
    message.scrollIntoView({ block: "nearest" });
  }
}

/** Create an element; strings among *children* become text, never markup. */
export function element(name, attributes, ...children) {
  const created = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  created.append(...children);
  return created;
}

/** Call *action* when *form* is sent; while it runs, the form cannot be sent again. */
export function onSubmit(form, action) {
  const button = form.querySelector("[type=submit]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    try {
      await action(new FormData(form));
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });
}

export const repeating = () => show("The database is busy. The request is sent again …", "busy", { focus: false });

for (const link of document.querySelectorAll("nav a")) {
  if (link.href === location.href.replace(/[#?].*|index\.html.*/, "")) link.setAttribute("aria-current", "page");
}
