// The official `openai` package, with the chat API or, with the argument "responses", with the Responses API.
import assert from "node:assert/strict";
import OpenAI from "openai";
import * as f from "./features.mjs";

const client = new OpenAI({ baseURL: `${f.base}/v1`, apiKey: "none", maxRetries: 0 });
const user = (content) => ({ role: "user", content });
const ask = async (messages, more) =>
  (await client.chat.completions.create({ model: f.model, messages, ...more })).choices[0].message;
const respond = (input, more) => client.responses.create({ model: f.model, input, ...more });

const chat = {
  chat: async () => f.expectSelf((await ask([user(f.WHO)])).content),
  stream: async () => {
    const stream = client.chat.completions.stream({ model: f.model, messages: [user(f.WHO)] });
    let pieces = 0;
    stream.on("content", () => pieces++);
    f.expectSelf(await stream.finalContent());
    assert.ok(pieces > 5);
  },
  tools: async () => {
    const getWeather = { name: "get_weather", parameters: f.PARAMETERS, parse: JSON.parse, function: f.getWeather };
    const tools = [{ type: "function", function: getWeather }];
    const runner = client.chat.completions.runTools({ model: f.model, messages: [user(f.WEATHER)], tools });
    f.expectWeather(await runner.finalContent());
  },
  schema: async () => {
    const json_schema = { name: "shop", strict: true, schema: f.SCHEMA };
    const response_format = { type: "json_schema", json_schema };
    f.expectShop(JSON.parse((await ask([user("Is the shop open?")], { response_format })).content));
  },
  second_turn: async () => {
    const first = await ask([user(f.WHO)]);
    assert.ok((await ask([user(f.WHO), first, user("Thank you")])).content);
  },
};

const responses = {
  chat: async () => f.expectSelf((await respond(f.WHO)).output_text),
  stream: async () => {
    const stream = client.responses.stream({ model: f.model, input: f.WHO });
    let pieces = 0;
    stream.on("response.output_text.delta", () => pieces++);
    f.expectSelf((await stream.finalResponse()).output_text);
    assert.ok(pieces > 5);
  },
  tools: async () => {
    const tools = [{ type: "function", name: "get_weather", parameters: f.PARAMETERS, strict: false }];
    const called = await respond(f.WEATHER, { tools });
    const call = called.output.find((item) => item.type === "function_call");
    const output = f.getWeather(JSON.parse(call.arguments));
    const result = { type: "function_call_output", call_id: call.call_id, output };
    f.expectWeather((await respond([result], { tools, previous_response_id: called.id })).output_text);
  },
  schema: async () => {
    const format = { type: "json_schema", name: "shop", strict: true, schema: f.SCHEMA };
    f.expectShop(JSON.parse((await respond("Is the shop open?", { text: { format } })).output_text));
  },
  second_turn: async () => {
    const first = await respond(f.WHO);
    const second = await respond("Thank you", { previous_response_id: first.id });
    assert.ok(second.output_text);
    assert.ok(second.usage.input_tokens > first.usage.input_tokens);
  },
};

await f.run(f.rest[0] === "responses" ? responses : chat);
