"use strict";
const form = document.querySelector("form");
const note = document.querySelector("output");
const token = new URLSearchParams(location.search).get("token");
// The token must not stay in the history of the browser.
history.replaceState(null, "", location.pathname);
if (!token) {
  form.hidden = true;
  note.textContent = "This address has no token. Open the link in the mail again.";
}
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const password = form.elements.password.value;
  if (password !== form.elements.again.value) {
    note.textContent = "The passwords differ.";
    return;
  }
  const inPath = form.dataset.tokenIn === "path";
  const address = location.pathname.replace(/[/]$/, "") + (inPath ? "/" + encodeURIComponent(token) : "");
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch(address, {
      method: "POST",
      credentials: "omit",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(inPath ? { password } : { token, password }),
    });
    const body = await answer.json();
    form.hidden = answer.ok;
    note.textContent = answer.ok ? form.dataset.done : body.error.message;
  } catch {
    note.textContent = "The server cannot be reached. Try again.";
  }
  button.disabled = false;
});
