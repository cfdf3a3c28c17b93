// Anthropic's client for Node against our server: node anthropic.cjs URL KEY MODEL. Prints the name of each feature.
const assert = require("node:assert/strict");
const Anthropic = require("@anthropic-ai/sdk");

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Who are you?" }];
const asked = { model, max_tokens: 60, messages };
const weather = {
  name: "get_weather",
  description: "The weather in a city",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const schema = { type: "object", properties: { open: { type: "boolean" } }, required: ["open"] };

function inputTokens({ usage }) {
  return usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens;
}

async function main() {
  const whole = await client.messages.create(asked);
  assert.equal(whole.stop_reason, "end_turn");
  console.log("chat");

  const final = await client.messages.stream(asked).finalMessage();
  assert.deepEqual(final.content, whole.content);
  assert.equal(inputTokens(final), inputTokens(whole));
  console.log("stream");

  const oslo = [{ role: "user", content: "What is the weather in Oslo?" }];
  const tools = { model, max_tokens: 80, tools: [weather] };
  const called = await client.messages.stream({ ...tools, messages: oslo }).finalMessage();
  assert.equal(called.stop_reason, "tool_use");
  const call = called.content.find((block) => block.type === "tool_use");
  assert.deepEqual(call.input, { city: "Oslo" });
  const result = { type: "tool_result", tool_use_id: call.id, content: "Sunny in Oslo" };
  const history = [...oslo, { role: "assistant", content: called.content }, { role: "user", content: [result] }];
  const answer = await client.messages.create({ ...tools, messages: history });
  assert.equal(answer.content[0].type, "text");
  console.log("tools");

  const format = { type: "json_schema", schema };
  const shop = await client.messages.create({ ...asked, output_config: { format } });
  assert.equal(typeof JSON.parse(shop.content[0].text).open, "boolean");
  console.log("schema");

  const count = await client.messages.countTokens({ model, messages });
  assert.equal(count.input_tokens, inputTokens(whole));
  console.log("count");

  const turn = [...messages, { role: "assistant", content: whole.content }, { role: "user", content: "And?" }];
  assert.ok((await client.messages.create({ ...asked, messages: turn })).content.length);
  console.log("turn");

  await assert.rejects(client.messages.create({ ...asked, model: "claude" }), Anthropic.NotFoundError);
  await assert.rejects(client.messages.create({ ...asked, temperature: 9 }), Anthropic.BadRequestError);
  console.log("errors");

  for await (const entry of client.models.list()) assert.equal(entry.id, model);
  console.log("models");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
