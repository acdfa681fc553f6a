// @azure-rest/ai-inference for JavaScript, unmodified, through the proxy, on a serverless endpoint.
// Arguments: the endpoint's URL and key. Prints "answered" at the end.
const assert = require("node:assert");
const { default: ModelClient } = require("@azure-rest/ai-inference");
const { AzureKeyCredential } = require("@azure/core-auth");
const { createSseStream } = require("@azure/core-sse");
const { ClientSecretCredential } = require("@azure/identity");

const [url, key] = process.argv.slice(2);
const messages = [{ role: "user", content: "what is 3 plus 3?" }];

async function check(client, model) {
  const post = (body, options) => client.path("/chat/completions").post({ body: { messages, model, ...body }, ...options });
  const answer = await post({ max_tokens: 30, temperature: 0 });
  assert.equal(answer.status, "200", JSON.stringify(answer.body));
  assert.ok(answer.body.choices[0].message.content);
  const stream = await post({ stream: true }).asNodeStream();
  let text = "";
  for await (const event of createSseStream(stream.body)) {
    if (event.data === "[DONE]") break;
    for (const choice of JSON.parse(event.data).choices) text += choice.delta?.content ?? "";
  }
  assert.equal(text, answer.body.choices[0].message.content);
  const unknown = await post({ foo: 1 });
  assert.equal(unknown.status, "422");
  assert.deepEqual(unknown.body.detail.loc, ["body", "foo"]);
  for (const policy of ["drop", "pass-through"]) {
    assert.equal((await post({ foo: 1 }, { headers: { "extra-parameters": policy } })).status, "200");
  }
  const json = await post({ response_format: { type: "json_object" } });
  assert.equal(json.status, "422", JSON.stringify(json.body)); // Phi answers in text only
  assert.equal(json.body.detail.input, "json_object");
  const embeddings = await client.path("/embeddings").post({ body: { input: ["x"], model } });
  assert.equal(embeddings.status, "501");
  assert.ok(embeddings.body.error.message.includes("embeddings"));
}

async function main() {
  await check(ModelClient(url, new AzureKeyCredential(key)));
  const entra = new ClientSecretCredential("72f988bf-86f1-41af-91ab-2d7cd011db47", "app", "a-secret");
  await check(ModelClient(url, entra));
  const wrong = await ModelClient(url, new AzureKeyCredential("wrong")).path("/chat/completions").post({ body: { messages } });
  assert.equal(wrong.status, "401");
  process.stdout.write("answered\n");
}

main().catch((error) => { console.error(error); process.exit(1); });
