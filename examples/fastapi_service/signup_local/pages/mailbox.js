// The local mailbox: asks for the mails every second, and shows those that are new.
import { call, show, element, time } from "./api.js";

const list = document.querySelector("#mails");
let newest = 0;

function content(mail) {
  if (mail.known) {
    return element("p", {}, "Somebody has signed up with your mailbox, which is verified already. You need do nothing.");
  }
  if (mail.link) {
    return element("p", {}, "Please ", element("a", { href: mail.link }, "confirm your address"), ". The link works for one day.");
  }
  return element("p", {}, "Your code is ", element("strong", { class: "code" }, mail.code), ". It works for ten minutes.");
}

function entry(mail) {
  const heading = element("h2", {}, mail.known ? "You have signed up before" : "Please confirm your address");
  const line = element("p", { class: "quiet" }, "To ", element("span", { class: "address" }, mail.address), `, ${time(mail.at)}`);
  return element("li", { class: "card" }, heading, line, content(mail));
}

async function refresh() {
  const answer = await call("GET", "local/mails");
  if (answer.ok) {
    const mails = answer.body.filter((mail) => mail.number > newest);
    list.prepend(...mails.map(entry));
    newest = Math.max(newest, ...mails.map((mail) => mail.number));
    document.querySelector("#empty").hidden = newest > 0;
    show(null);
  } else {
    show(answer.text, "error", { focus: false });
  }
  setTimeout(refresh, 1000);
}

refresh();
