// Replies read aloud: the next sentence is requested while one is played.

import { icon, iconButton } from "./element.js";
import { speech } from "./stream.js";
import { label } from "./words.js";

const BLOCKS = "p, li, h1, h2, h3, h4, h5, h6, td, th";
const SILENT = `${BLOCKS}, ul, ol, pre, .code, .katex, .cite, .footnote-mark, button`;
const LONGEST = 1000; // characters of a piece

/** Reads one reply at a time. `trouble(word, values)` reports why it cannot. */
export class Reader {
  constructor({ trouble }) {
    this.trouble = trouble;
    this.reading = null; // {button, abort, source}
  }

  /** The button of a reply: it reads the texts of `body`, or stops. */
  button(body) {
    const button = iconButton("speaker", "readAloud", () => (this.reading?.button === button ? this.stop() : this.read(button, body)), {
      class: "icon-button aloud",
      "aria-pressed": "false",
    });
    return button;
  }

  async read(button, body) {
    this.stop();
    const abort = new AbortController();
    const reading = (this.reading = { button, abort, source: null });
    this.show(button, true);
    try {
      this.context ??= new AudioContext();
      await Promise.race([this.context.resume(), wait(1000)]); // a browser waits for a first touch of the page
      if (this.context.state !== "running") throw new Error(this.context.state);
      const pieces = sentences(body);
      let next = pieces.length ? this.sound(pieces[0], abort.signal) : null;
      for (let index = 0; index < pieces.length && !abort.signal.aborted; index++) {
        const sound = await next;
        next = index + 1 < pieces.length ? this.sound(pieces[index + 1], abort.signal) : null;
        next?.catch(() => {}); // it is awaited in its turn, unless this ends first
        await this.play(reading, sound);
      }
    } catch (error) {
      if (!abort.signal.aborted) this.trouble(error.word ?? "notAloud", error.values);
    } finally {
      abort.abort();
      if (this.reading === reading) this.reading = null;
      if (this.reading?.button !== button) this.show(button, false);
    }
  }

  async sound(text, signal) {
    return this.context.decodeAudioData(await speech(text, signal));
  }

  /** Plays a sound to its end, or until it is stopped. */
  play(reading, sound) {
    if (reading.abort.signal.aborted) return null;
    return new Promise((ended) => {
      const source = (reading.source = this.context.createBufferSource());
      source.buffer = sound;
      source.connect(this.context.destination);
      source.addEventListener("ended", ended, { once: true });
      wait(1000 * sound.duration + 5000).then(ended); // where the system has taken the loudspeaker away
      source.start();
    });
  }

  stop() {
    const { reading } = this;
    if (!reading) return;
    this.reading = null;
    reading.abort.abort();
    reading.source?.stop();
    this.show(reading.button, false);
  }

  show(button, is) {
    button.setAttribute("aria-pressed", String(is));
    button.dataset.tLabel = is ? "stopAloud" : "readAloud";
    button.replaceChildren(icon(is ? "stop" : "speaker"));
    label(button);
  }
}

function wait(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}

/** Returns the sentences of a reply: no code, no formulas, no thoughts and no calls. */
export function sentences(body) {
  const found = [];
  for (const block of body.querySelectorAll(":scope > .prose :is(" + BLOCKS + ")")) {
    if (block.closest("pre, .code, .katex")) continue;
    const own = block.cloneNode(true);
    for (const part of own.querySelectorAll(SILENT)) part.remove();
    for (const end of own.querySelectorAll("br")) end.replaceWith(" ");
    for (const sentence of own.textContent.split(/(?<=[.!?…])\s+|(?<=[。！？])/u))
      for (let at = 0; at < sentence.length; at += LONGEST) found.push(sentence.slice(at, at + LONGEST).trim());
  }
  return found.filter((text) => /[\p{L}\p{N}]/u.test(text));
}
