// Loads the scripts of a directory as the admin app does, calls the components as Vue would, and prints what they show and do.
"use strict";
const fs = require("fs");
const path = require("path");
const vm = require("vm");

function load(name) {
  const window = {};
  vm.runInNewContext(fs.readFileSync(path.join(process.argv[2], name), "utf8"), {window, Promise});
  return window.__DirectusExtension__.default;
}

function h(tag, data, children) {
  const inner = children === undefined && (Array.isArray(data) || typeof data === "string") ? data : children;
  return {tag, data: inner === data ? {} : data, children: [].concat(inner === undefined ? [] : inner)};
}

const text = (node) => (typeof node === "string" ? node : node.children.map(text).join(""));

function instance(component, props, more) {
  const defaults = {};
  for (const [name, prop] of Object.entries(component.props || {})) {
    defaults[name] = typeof prop.default === "function" ? prop.default() : prop.default;
  }
  const found = {...defaults, ...props, ...(component.data ? component.data() : {}), ...more, emitted: []};
  found.$emit = (event, value) => found.emitted.push(value);
  for (const [name, method] of Object.entries(component.methods || {})) found[name] = method.bind(found);
  found.render = () => component.render.call(found, h);
  return found;
}

async function main() {
  const [input, display, layout, module] = ["input.js", "display.js", "layout.js", "module.js"].map(load);
  const rated = instance(input, {value: 3});
  const buttons = rated.render().children;
  buttons[4].data.on.click();
  buttons[2].data.on.click();
  const items = [{id: 1, title: "Good", rating: 3}, {id: 2, title: "Best", rating: 5}, {id: 3, title: "", rating: null}];
  const counts = {articles: 2, notes: 10};
  const collections = [...Object.keys(counts).reverse(), "directus_users"].map((collection) => ({collection, managed: true}));
  const client = {
    getCollections: async () => ({data: collections}),
    getItems: async (name) => ({data: [], meta: {total_count: counts[name]}}),
  };
  const page = instance(module, {}, {$api: client});
  await module.created.call(page);
  const refused = instance(module, {}, {$api: {getCollections: async () => { throw new Error("Forbidden"); }}});
  await module.created.call(refused);
  console.log(JSON.stringify({
    input: text(rated.render()),
    options: text(instance(input, {value: 3, options: {stars: "7"}}).render()),
    clicked: rated.emitted,
    readonly: instance(input, {readonly: true}).render().children.map((each) => each.data.attrs.disabled),
    display: [null, 0, 3, 9].map((value) => text(instance(display, {value}).render())),
    layout: instance(layout, {items}).render().children.map(text),
    module: page.render().children.map(text),
    failed: text(refused.render()),
  }));
}

main().catch((error) => { console.error(error); process.exit(1); });
