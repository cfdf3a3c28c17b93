// What every client has to do with the embedded checkpoint: a script calls `run` with a function for each feature.
import assert from "node:assert/strict";

export const [base, model, ...rest] = process.argv.slice(2);
export const WHO = "Who are you?";
export const WEATHER = "What is the weather in Oslo?";
export const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
export const SCHEMA = {
  type: "object",
  properties: { open: { type: "boolean" }, room: { type: "string", enum: ["bar", "hall"] } },
  required: ["open", "room"],
  additionalProperties: false,
};
const asked = []; // the cities that the tool was called with

export function getWeather({ city }) {
  asked.push(city);
  return `Sunny in ${city}`;
}

export function expectSelf(text) {
  // the embedded checkpoint's own answer to "Who are you?"
  assert.match(text, /tiny test model/);
}

export function expectWeather(text) {
  // an answer after one call of the tool
  assert.deepEqual(asked, ["Oslo"]);
  assert.ok(text && text.trim(), text);
}

export function expectShop(value) {
  assert.equal(typeof value.open, "boolean");
  assert.ok(["bar", "hall"].includes(value.room), value.room);
}

// Prints a line of JSON for each feature: its name, and its error.
export async function run(features) {
  for (const [feature, call] of Object.entries(features)) {
    asked.length = 0;
    let error = null;
    try {
      await call();
    } catch (exc) {
      error = `${exc.name}: ${exc.message}`.slice(0, 2000);
      console.error(exc);
    }
    console.log(JSON.stringify({ feature, error }));
  }
  process.exit(0);
}
