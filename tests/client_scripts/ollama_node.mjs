// The official `ollama` package.
import assert from "node:assert/strict";
import { Ollama } from "ollama";
import * as f from "./features.mjs";

const client = new Ollama({ host: f.base });
const user = (content) => ({ role: "user", content });
const ask = (messages, more) => client.chat({ model: f.model, messages, ...more });
const getWeather = { name: "get_weather", description: "The weather in a city", parameters: f.PARAMETERS };

await f.run({
  chat: async () => f.expectSelf((await ask([user(f.WHO)])).message.content),
  stream: async () => {
    const pieces = [];
    for await (const chunk of await ask([user(f.WHO)], { stream: true })) pieces.push(chunk.message.content);
    f.expectSelf(pieces.join(""));
    assert.ok(pieces.length > 5);
  },
  tools: async () => {
    const tools = [{ type: "function", function: getWeather }];
    const called = (await ask([user(f.WEATHER)], { tools })).message;
    const content = f.getWeather(called.tool_calls[0].function.arguments);
    const result = { role: "tool", tool_name: "get_weather", content };
    f.expectWeather((await ask([user(f.WEATHER), called, result], { tools })).message.content);
  },
  schema: async () => {
    const { message } = await ask([user("Is the shop open?")], { format: f.SCHEMA });
    f.expectShop(JSON.parse(message.content));
  },
  second_turn: async () => {
    const first = (await ask([user(f.WHO)])).message;
    assert.ok((await ask([user(f.WHO), first, user("Thank you")])).message.content);
  },
});
