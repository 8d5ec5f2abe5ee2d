// Check your mail: type the code, or ask for another mail. The browser has a cookie of the sign-up.
import { call, onSubmit, repeating, show } from "./api.js";

const confirmBy = location.hash === "#code" ? "code" : "link";
const codeForm = document.querySelector("#code-form");

if (confirmBy === "code") {
  codeForm.hidden = false;
  document.querySelector("#lead").textContent = "Type its code here to confirm your address. It works for ten minutes.";
}

addEventListener("hashchange", () => location.reload());

onSubmit(codeForm, async (data) => {
  const field = codeForm.querySelector("#code");
  if (!field.checkValidity()) {
    show("Please type the code of the mail.", "error");
    return;
  }
  const answer = await call("POST", "verifications/code", { code: data.get("code") }, { onRepeat: repeating });
  if (answer.ok) {
    location.assign(answer.body.id ? "you.html#confirmed" : "you.html");
  } else {
    show(answer.text, "error");
  }
});

onSubmit(document.querySelector("#again-form"), async () => {
  const answer = await call("POST", "mails", { confirm_by: confirmBy }, { onRepeat: repeating });
  if (answer.ok) {
    show("Another mail is on its way. The link or code of the previous one works no longer.");
  } else if (answer.status === 409) {
    show("This sign-up does not wait for a confirmation any more.", "error");
  } else if (answer.status === 401) {
    show("This browser has no sign-up that waits for a mail. Please sign up.", "error");
  } else {
    show(answer.text, "error");
  }
});
