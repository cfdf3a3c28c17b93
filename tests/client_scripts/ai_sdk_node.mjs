// The AI SDK with its default provider (the Responses API) or, with the argument "compatible", @ai-sdk/openai-compatible.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import * as f from "./features.mjs";

const settings = { baseURL: `${f.base}/v1`, apiKey: "none", name: "edge", supportsStructuredOutputs: true };
const provider = f.rest[0] === "compatible" ? createOpenAICompatible(settings) : createOpenAI(settings);
const model = provider(f.model);
const shared = { model, maxRetries: 0 };
const getWeather = tool({
  description: "The weather in a city",
  inputSchema: jsonSchema(f.PARAMETERS),
  execute: async (input) => f.getWeather(input),
});

await f.run({
  chat: async () => f.expectSelf((await generateText({ ...shared, prompt: f.WHO })).text),
  stream: async () => {
    const pieces = [];
    const result = streamText({ ...shared, prompt: f.WHO, onError: ({ error }) => console.error(error) });
    for await (const piece of result.textStream) pieces.push(piece);
    f.expectSelf(pieces.join(""));
    assert.ok(pieces.length > 5);
  },
  tools: async () => {
    const tools = { get_weather: getWeather };
    const result = await generateText({ ...shared, prompt: f.WEATHER, tools, stopWhen: stepCountIs(4) });
    f.expectWeather(result.text);
    assert.equal(result.steps.length, 2);
  },
  schema: async () => {
    const output = Output.object({ schema: jsonSchema(f.SCHEMA) });
    f.expectShop((await generateText({ ...shared, prompt: "Is the shop open?", output })).output);
  },
  second_turn: async () => {
    const messages = [{ role: "user", content: f.WHO }];
    const first = await generateText({ ...shared, messages });
    messages.push(...first.response.messages, { role: "user", content: "Thank you" });
    assert.ok((await generateText({ ...shared, messages })).text);
  },
});
