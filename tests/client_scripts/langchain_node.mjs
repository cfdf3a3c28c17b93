// LangChain's ChatOpenAI.
import assert from "node:assert/strict";
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import * as f from "./features.mjs";

const useResponsesApi = f.rest[0] === "responses";
const configuration = { baseURL: `${f.base}/v1` };
const model = new ChatOpenAI({ model: f.model, apiKey: "none", maxRetries: 0, configuration, useResponsesApi });
const described = { name: "get_weather", description: "The weather in a city", schema: f.PARAMETERS };
const getWeather = tool(f.getWeather, described);

await f.run({
  chat: async () => f.expectSelf((await model.invoke(f.WHO)).text),
  stream: async () => {
    const pieces = [];
    for await (const chunk of await model.stream(f.WHO)) pieces.push(chunk.text);
    f.expectSelf(pieces.join(""));
    assert.ok(pieces.length > 5);
  },
  tools: async () => {
    const bound = model.bindTools([getWeather]);
    const messages = [new HumanMessage(f.WEATHER)];
    const called = await bound.invoke(messages);
    const [call] = called.tool_calls;
    const content = await getWeather.invoke(call.args);
    messages.push(called, new ToolMessage({ content, tool_call_id: call.id }));
    f.expectWeather((await bound.invoke(messages)).text);
  },
  schema: async () => {
    for (const method of ["jsonSchema", "functionCalling"]) {
      const shop = model.withStructuredOutput(f.SCHEMA, { method, name: "shop" });
      f.expectShop(await shop.invoke("Is the shop open?"));
    }
  },
  second_turn: async () => {
    const first = await model.invoke([new HumanMessage(f.WHO)]);
    const second = await model.invoke([new HumanMessage(f.WHO), first, new HumanMessage("Thank you")]);
    assert.ok(second.text);
  },
});
