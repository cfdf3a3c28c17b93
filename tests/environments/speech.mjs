// OpenAI's client: a transcript whole, with segments and streamed, a translation, and speech.
import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import OpenAI, { toFile } from "openai";

const { audio } = new OpenAI({ baseURL: `${process.env.EDGE_URL}/v1`, apiKey: "none", maxRetries: 0 });
const HEARD = "ships lie here"; // by the tiny model, in whatever is loud
const asked = (more = {}) => ({ file: createReadStream("question.wav"), model: "whisper", ...more });

assert.equal((await audio.transcriptions.create(asked())).text, HEARD);
assert.equal((await audio.translations.create(asked())).text, HEARD);
const verbose = await audio.transcriptions.create(
  asked({ response_format: "verbose_json", language: "en", timestamp_granularities: ["segment"] }),
);
assert.deepEqual([verbose.language, verbose.segments.length, verbose.segments[0].start], ["english", 1, 0]);

const events = [];
for await (const event of await audio.transcriptions.create(asked({ stream: true }))) events.push(event);
assert.deepEqual([events.at(-1).type, events.at(-1).text], ["transcript.text.done", HEARD]);
assert.equal(events.slice(0, -1).map(({ delta }) => delta).join(""), HEARD);

const speech = await audio.speech.create({ model: "speecht5", voice: "default", input: "At ten.", response_format: "wav" });
const file = await toFile(Buffer.from(await speech.arrayBuffer()), "answer.wav");
assert.equal((await audio.transcriptions.create({ file, model: "whisper" })).text, HEARD);

await assert.rejects(audio.transcriptions.create(asked({ timestamp_granularities: ["word"], response_format: "verbose_json" })), {
  status: 400,
  param: "timestamp_granularities",
});
console.log("openai (Node.js): transcripts whole, with segments and streamed, a translation, speech, an error");
