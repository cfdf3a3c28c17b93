// AI SDK's default provider: a second turn by references to stored items, previousResponseId, and a loop of calls.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText, stepCountIs, tool } from "ai";
import { z } from "zod";

const openai = createOpenAI({ baseURL: `${process.env.EDGE_URL}/v1`, apiKey: "none" });
const model = openai("checkpoint");
const get_weather = tool({ inputSchema: z.object({ city: z.string() }), execute: async () => "sunny, 21" });
const looped = { model, prompt: "The weather?", tools: { get_weather }, stopWhen: stepCountIs(4) };

const first = await generateText({ model, messages: [{ role: "user", content: "I am Ada." }] });
const messages = [{ role: "user", content: "I am Ada." }, ...first.response.messages, { role: "user", content: "What is my name?" }];
assert.equal((await generateText({ model, messages })).text, "Your name is Ada.");

const previousResponseId = first.providerMetadata.openai.responseId;
const next = { model, prompt: "What is my name?", providerOptions: { openai: { previousResponseId } } };
assert.equal((await generateText(next)).text, "Your name is Ada.");

const called = await generateText(looped);
assert.deepEqual([called.text, called.steps.length], ["It is sunny.", 2]);
const later = [{ role: "user", content: "The weather?" }, ...called.response.messages, { role: "user", content: "Sure?" }];
assert.equal((await generateText({ model, messages: later, tools: { get_weather } })).text, "It is sunny.");
assert.equal(await streamText(looped).text, "It is sunny.");

const unstored = { model, prompt: "Hello", providerOptions: { openai: { store: false } } };
assert.equal((await generateText(unstored)).text, "Hello.");
console.log("AI SDK: a second turn, previousResponseId, a loop of calls, store: false");
