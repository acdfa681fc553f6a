// @azure/storage-blob for JavaScript, unmodified, through the proxy. Prints "answered" at the end.
const assert = require("node:assert");
const { BlobServiceClient } = require("@azure/storage-blob");
const { ClientSecretCredential } = require("@azure/identity");

async function refused(call, status) {
  const error = await call().then(() => null, (reason) => reason);
  assert.ok(error, "not refused");
  assert.equal(error.statusCode, status, error.message);
}

async function main() {
  const credential = new ClientSecretCredential("72f988bf-86f1-41af-91ab-2d7cd011db47", "app", "a-secret");
  const service = new BlobServiceClient("https://maaslocal.blob.core.windows.net", credential);
  const container = service.getContainerClient("javascript");
  await container.create({ metadata: { team: "x" } });
  assert.equal((await container.getProperties()).metadata.team, "x");
  const blob = container.getBlockBlobClient("a/b.jsonl");
  await blob.upload("live", 4);
  await container.getBlockBlobClient("c").upload("c", 1);

  const kinds = [];
  for await (const item of container.listBlobsByHierarchy("/")) kinds.push(`${item.kind}:${item.name}`);
  assert.deepEqual(kinds, ["prefix:a/", "blob:c"]);
  const containers = [];
  for await (const item of service.listContainers()) containers.push(item.name);
  assert.ok(containers.includes("javascript"));

  const { lastModified } = await blob.getProperties();
  await refused(() => blob.download(0, undefined, { conditions: { ifModifiedSince: lastModified } }), 304);
  const past = new Date("2020-01-01T00:00:00Z");
  await refused(() => blob.delete({ conditions: { ifUnmodifiedSince: past } }), 412);
  await refused(() => blob.delete({ conditions: { leaseId: "6f0c1dbb-0c0a-4a1d-b1b7-3c2f0c1f2a11" } }), 501);
  await refused(() => blob.delete({ conditions: { tagConditions: "a = 'b'" } }), 501);
  await refused(() => blob.delete({ deleteSnapshots: "only" }), 501);
  await refused(() => blob.withSnapshot("2026-11-29T00:00:00.0000000Z").delete(), 501);
  await refused(() => blob.withVersion("2026-11-29T00:00:00.0000000Z").getProperties(), 501);
  await refused(() => blob.getTags(), 501);
  await refused(() => blob.setAccessTier("Cool"), 501);
  await refused(() => blob.createSnapshot(), 501);
  await refused(() => container.setAccessPolicy("blob"), 501);
  await refused(() => blob.upload("x", 1, { tier: "Cool" }), 501);
  await refused(() => blob.upload("x", 1, { tags: { a: "b" } }), 501);
  await refused(() => container.getAppendBlobClient("append").create(), 501);
  assert.equal((await blob.downloadToBuffer()).toString(), "live");

  await container.delete();
  assert.equal(await container.exists(), false);
  console.log("answered");
}

main().then(undefined, (error) => { console.error(error); process.exit(1); });
