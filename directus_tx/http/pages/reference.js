// The API reference of a project: Swagger UI, and signing in. The token is kept in memory only.
"use strict";

let token = null;

const ui = SwaggerUIBundle({
  url: "../specs/oas",
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: -1,
  validatorUrl: null,
  requestInterceptor(request) {
    const here = new URL(request.url, location.href).origin === location.origin;
    if (token !== null && here && !request.headers.Authorization) {
      request.headers.Authorization = `bearer ${token}`;
    }
    return request;
  },
});

const form = document.getElementById("sign-in");
const signedIn = document.getElementById("signed-in");
const refused = document.getElementById("refused");

// Shows the document again, because it has what the caller may use.
function use(newToken, email) {
  token = newToken;
  form.hidden = token !== null;
  signedIn.hidden = token === null;
  document.getElementById("user").textContent = email;
  ui.specActions.download("../specs/oas");
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  refused.textContent = "";
  const { email, password } = form.elements;
  try {
    const answer = await fetch("../auth/authenticate", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ email: email.value, password: password.value }),
    });
    const body = await answer.json();
    if (body.error) {
      refused.textContent = body.error.message;
      return;
    }
    password.value = "";
    use(body.data.token, email.value);
  } catch {
    refused.textContent = "The server does not answer.";
  }
});

document.getElementById("sign-out").addEventListener("click", () => use(null, ""));
