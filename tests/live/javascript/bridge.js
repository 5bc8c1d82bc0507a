// Calls the JavaScript client for tests that are written in Python. Each line of the standard input is a call as JSON:
// {"client": NAME, "method": "getItems" or "api.post", "arguments": [...]}. The method "new" makes a client with the options
// arguments[0]; "get" returns one of its properties, and "set" sets one. Each line of the standard output is what the call has given:
// {"value": ...} or {"error": {...}}.

const { SDK } = require("@directus/sdk-js");
const readline = require("readline");

const clients = {};

// The client has promises of its own that fail with those that it returns. A browser writes them to its console.
process.on("unhandledRejection", () => {});

// node has no cookies. As a browser does, a client sends those that it has been given, if it asks for credentials.
function keepCookies(xhr) {
  const cookies = {};
  xhr.interceptors.request.use((request) => {
    const text = Object.entries(cookies).map((pair) => pair.join("=")).join("; ");
    if (request.withCredentials && text) request.headers.Cookie = text;
    return request;
  });
  xhr.interceptors.response.use((response) => {
    for (const header of response.headers["set-cookie"] || []) {
      const [pair, ...attributes] = header.split("; ");
      const [name, value] = pair.split("=");
      if (attributes.includes("Max-Age=0")) delete cookies[name];
      else cookies[name] = value;
    }
    return response;
  });
}

async function perform(call) {
  const given = call.arguments;
  if (call.method === "new") {
    clients[call.client] = new SDK(given[0]);
    keepCookies(clients[call.client].api.xhr);
    return null;
  }
  if (call.method === "methods") return Object.getOwnPropertyNames(SDK.prototype).filter((name) => name !== "constructor");
  const path = (call.method === "get" || call.method === "set" ? given[0] : call.method).split(".");
  const name = path.pop();
  const target = path.reduce((object, part) => object[part], clients[call.client]);
  if (call.method === "get") return target[name];
  if (call.method === "set") return (target[name] = given[1]), null;
  const found = await target[name](...given);
  return Buffer.isBuffer(found) ? { base64: found.toString("base64") } : found;
}

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  let answer;
  try {
    const value = await perform(JSON.parse(line));
    answer = { value: value === undefined ? null : value };
  } catch (error) {
    const response = (error.info && error.info.error && error.info.error.response) || {};
    answer = { error: { name: error.constructor.name, message: error.message, code: error.code, status: response.status } };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}).on("close", () => process.exit(0));
