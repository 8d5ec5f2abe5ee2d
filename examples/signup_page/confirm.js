// Confirm: a scanner of mails may open this page; only the button uses the token, which no server has seen before.
import { call, onSubmit, repeating, show } from "./api.js";

const form = document.querySelector("#confirm");
const token = new URLSearchParams(location.hash.slice(1)).get("token");
history.replaceState(null, "", location.pathname); // keep the token out of the history

// Another link, opened while this page is open, changes the fragment only.
addEventListener("hashchange", () => location.reload());

function end(text, kind) {
  form.hidden = true;
  document.querySelector("#next").hidden = false;
  show(text, kind);
}

if (!token) end("This link is not complete. Please copy the whole link from the mail.", "error");

onSubmit(form, async () => {
  const answer = await call("POST", "verifications", { token }, { onRepeat: repeating });
  if (answer.ok && answer.body.id) {
    location.assign("you.html#confirmed");
  } else if (answer.ok) {
    end("Your address was confirmed before. For your safety, a link shows your data only once.", "success");
  } else if (answer.status === 410 || answer.status === 422) {
    end(answer.status === 410 ? answer.text.replace("This is", "This link is") : "This link is not complete.", "error");
  } else {
    show(answer.text, "error");
  }
});
