"use strict";
const form = document.querySelector("form");
const answer = document.getElementById("answer");
const schema = document.getElementById("schema");
const address = location.pathname.replace(/[/]$/, "");

function headers(more) {
  const token = form.elements.token.value.trim();
  return token ? { ...more, Authorization: "Bearer " + token } : more;
}

async function send() {
  let variables = null;
  try {
    variables = form.elements.variables.value.trim() ? JSON.parse(form.elements.variables.value) : null;
  } catch (error) {
    answer.textContent = "The variables are not JSON: " + error.message;
    return;
  }
  try {
    const found = await fetch(address, {
      method: "POST",
      headers: headers({ "Content-Type": "application/json" }),
      body: JSON.stringify({ query: form.elements.query.value, variables }),
    });
    answer.textContent = JSON.stringify(await found.json(), null, 2);
  } catch {
    answer.textContent = "The server cannot be reached. Try again.";
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    send();
  }
});
document.querySelector("details").addEventListener("toggle", async (event) => {
  if (event.target.open) {
    try {
      const found = await fetch(address.replace(/[^/]*$/, "specs/graphql"), { headers: headers({}) });
      schema.textContent = await found.text();
    } catch {
      schema.textContent = "The server cannot be reached. Try again.";
    }
  }
});
