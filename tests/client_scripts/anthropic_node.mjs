// The official @anthropic-ai/sdk.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import * as f from "./features.mjs";

const client = new Anthropic({ baseURL: f.base, apiKey: "none", maxRetries: 0 });
const user = (content) => ({ role: "user", content });
const shared = { model: f.model, max_tokens: 300 };
const ask = (messages, more) => client.messages.create({ ...shared, messages, ...more });
const text = (message) => message.content.flatMap((block) => (block.type === "text" ? [block.text] : [])).join("");
const getWeather = { name: "get_weather", description: "The weather in a city", input_schema: f.PARAMETERS };

await f.run({
  chat: async () => f.expectSelf(text(await ask([user(f.WHO)]))),
  stream: async () => {
    let pieces = 0;
    const stream = client.messages.stream({ ...shared, messages: [user(f.WHO)] }).on("text", () => pieces++);
    f.expectSelf(text(await stream.finalMessage()));
    assert.ok(pieces > 5);
  },
  tools: async () => {
    const called = await ask([user(f.WEATHER)], { tools: [getWeather] });
    assert.equal(called.stop_reason, "tool_use");
    const call = called.content.find((block) => block.type === "tool_use");
    const result = { type: "tool_result", tool_use_id: call.id, content: f.getWeather(call.input) };
    const messages = [user(f.WEATHER), { role: "assistant", content: called.content }, user([result])];
    f.expectWeather(text(await ask(messages, { tools: [getWeather] })));
  },
  schema: async () => {
    const output_config = { format: { type: "json_schema", schema: f.SCHEMA } };
    f.expectShop(JSON.parse(text(await ask([user("Is the shop open?")], { output_config }))));
  },
  second_turn: async () => {
    const first = await ask([user(f.WHO)]);
    assert.ok(text(await ask([user(f.WHO), { role: "assistant", content: first.content }, user("Thank you")])));
  },
});
