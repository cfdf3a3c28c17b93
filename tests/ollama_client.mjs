// The npm package `ollama` against the server of the first argument, whose engine follows the script of
// tests/test_ollama_clients.py. Prints what it got as JSON. NODE_PATH names the folder of the package.
import { createRequire } from "node:module";
const { Ollama } = createRequire(`${process.env.NODE_PATH}/`)("ollama");

const [host, model] = process.argv.slice(2);
const client = new Ollama({ host });
const ask = [{ role: "user", content: "Who are you?" }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather in a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];
const found = {};
found.whole = (await client.chat({ model, messages: ask })).message.content;
found.streamed = "";
for await (const part of await client.chat({ model, messages: ask, stream: true })) {
  found.streamed += part.message.content;
  found.done = part.done_reason;
}
const called = (await client.chat({ model, messages: ask, tools })).message;
found.arguments = called.tool_calls[0].function.arguments;
const result = { role: "tool", content: "Sunny.", tool_name: "get_weather" };
found.answer = (await client.chat({ model, messages: [...ask, called, result], tools })).message.content;
found.generated = (await client.generate({ model, prompt: "Hi", system: "Be brief." })).response;
found.listed = (await client.list()).models.map((each) => each.name);
found.loaded = (await client.ps()).models.map((each) => each.name);
found.capabilities = (await client.show({ model })).capabilities;
found.version = (await client.version()).version;
try {
  await client.chat({ model: "absent", messages: ask });
} catch (error) {
  found.error = [error.status_code, error.message];
}
console.log(JSON.stringify(found));
