// The JavaScript tools of GraphQL against a server. Arguments: the address, a token, and the directory that the types are written to.
// Prints what they have found as JSON.
const fs = require("node:fs");
const path = require("node:path");
const { buildClientSchema, getIntrospectionQuery, parse, printSchema, validate, validateSchema } = require("graphql");
const { codegen } = require("@graphql-codegen/core");
const typescript = require("@graphql-codegen/typescript");
const operations = require("@graphql-codegen/typescript-operations");
const { Client, fetchExchange, gql } = require("@urql/core");

const [address, token, directory] = process.argv.slice(2);

const BOOKS = `query Books($first: Int, $filter: BooksFilter) {
  books(limit: $first, filter: $filter, sort: [title_desc]) { data { ...book } meta { total_count } }
}
fragment book on BooksItem { id title year author { name } }`;
const CREATE = `mutation Create($data: BooksInput!) { create_books_item(data: $data) { id title author { id name } } }`;

async function main() {
  const headers = { Authorization: `Bearer ${token}` };
  const answer = await fetch(address, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json" },
    body: JSON.stringify({ query: getIntrospectionQuery() }),
  });
  const schema = buildClientSchema((await answer.json()).data);
  const errors = validateSchema(schema).map(String);
  const documents = [BOOKS, CREATE].map(parse);
  for (const document of documents) errors.push(...validate(schema, document).map(String));
  const code = await codegen({
    filename: "types.ts",
    schema: parse(printSchema(schema)),
    schemaAst: schema,
    documents: documents.map((document, number) => ({ location: `${number}.graphql`, document })),
    config: {},
    plugins: [{ typescript: {} }, { operations: {} }],
    pluginMap: { typescript, operations },
  });
  fs.writeFileSync(path.join(directory, "types.ts"), code);

  const client = new Client({ url: address, exchanges: [fetchExchange], preferGetMethod: false, fetchOptions: { headers } });
  const created = await client.mutation(gql(CREATE), { data: { title: "Letters", author: { name: "Eve" } } });
  const found = await client.query(gql(BOOKS), { first: 2, filter: { title_contains: "e" } });
  const refused = await client.query(gql("{books(id: 99) {data {id}}}"), {});
  console.log(
    JSON.stringify({
      errors,
      created: created.data,
      found: found.data,
      refused: refused.error.graphQLErrors.map((error) => [error.path, error.extensions.code]),
    }),
  );
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
