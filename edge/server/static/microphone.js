// Hold to talk: a button that records while it is held, and what was said as text.

import { h, icon, iconButton } from "./element.js";
import { Refusal, transcribe } from "./stream.js";
import { label, words } from "./words.js";

const RATE = 16_000; // Hz, what the model hears
const LEAST = 300; // milliseconds: a shorter touch was a tap
const MOST = 120_000;
const KEYS = [" ", "Enter"];

/** Whether this browser can record here: it may on this machine, and over HTTPS. */
export function canRecord() {
  return Boolean(navigator.mediaDevices?.getUserMedia && globalThis.MediaRecorder);
}

/** The button. `said(text)` receives the text of a recording; `trouble(word, values)` why there is none; `began` is called
 * when a recording begins. */
export class Microphone {
  constructor({ said, trouble, began = () => {} }) {
    this.actions = { said, trouble, began };
    this.held = null; // the recording: {recorder, stream, pieces, since}
    this.abort = null; // of the request for its text
    this.button = iconButton("microphone", "holdToTalk", () => {}, { class: "icon-button microphone", "aria-pressed": "false" });
    this.status = h("span", { class: "unseen", role: "status" });
    this.element = h("span", { class: "talk" }, this.button, this.status);
    const { button } = this;
    button.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.pointed = true;
      button.setPointerCapture(event.pointerId);
      this.begin();
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"])
      button.addEventListener(end, () => {
        this.end();
        setTimeout(() => (this.pointed = false), 500); // a click may follow, or not
      });
    button.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.cancel();
      if (!KEYS.includes(event.key)) return;
      event.preventDefault(); // no click
      if (!event.repeat) this.begin();
    });
    button.addEventListener("keyup", (event) => {
      if (!KEYS.includes(event.key)) return;
      event.preventDefault();
      this.end();
    });
    button.addEventListener("blur", () => this.end());
    button.addEventListener("contextmenu", (event) => event.preventDefault()); // of a long touch
    button.addEventListener("click", () => {
      if (this.pointed) return;
      if (this.held) this.end(); // a screen reader clicks, and clicks again
      else this.begin();
    });
  }

  /** Whether it records, or waits for the text. */
  get busy() {
    return Boolean(this.held || this.abort);
  }

  async begin() {
    if (this.busy) return;
    const held = (this.held = { pieces: [], since: performance.now(), stream: null, recorder: null });
    this.actions.began();
    this.show("recording");
    try {
      held.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true } });
    } catch (error) {
      if (this.held === held) this.reset();
      const word = error.name === "NotFoundError" ? "microphoneMissing" : "microphoneDenied";
      return this.actions.trouble(word);
    }
    if (this.held !== held) return release(held); // let go while the browser asked
    held.since = performance.now();
    held.recorder = new MediaRecorder(held.stream);
    held.recorder.addEventListener("dataavailable", ({ data }) => held.pieces.push(data));
    held.recorder.addEventListener("stop", () => (release(held), held.kept && this.write(held)));
    held.recorder.start();
    held.timer = setTimeout(() => this.end(), MOST);
  }

  /** Ends the recording, and requests its text. */
  end() {
    const { held } = this;
    if (!held) return;
    held.kept = Boolean(held.recorder) && performance.now() - held.since >= LEAST;
    this.reset();
    if (!held.kept) this.actions.trouble("holdLonger");
    finish(held);
  }

  /** Forgets the recording, and what was asked for. */
  cancel() {
    const { held } = this;
    this.reset();
    this.abort?.abort();
    if (held) finish(held);
  }

  async write({ pieces, recorder }) {
    const abort = (this.abort = new AbortController());
    this.show("transcribing");
    try {
      const recording = await toWav(new Blob(pieces, { type: recorder.mimeType }));
      const { text } = await transcribe(recording, abort.signal);
      if (abort.signal.aborted) return;
      if (text) this.actions.said(text);
      else this.actions.trouble("nothingHeard");
    } catch (error) {
      if (abort.signal.aborted) return;
      if (error instanceof Refusal) this.actions.trouble(error.word, error.values);
      else this.actions.trouble("nothingHeard");
    } finally {
      if (this.abort === abort) this.abort = null;
      if (!this.busy) this.show("");
    }
  }

  reset() {
    this.held = null;
    this.show("");
  }

  /** Shows a state: "recording", "transcribing", or "" for none. */
  show(state) {
    this.button.setAttribute("aria-pressed", String(state === "recording"));
    this.button.dataset.state = state;
    this.button.replaceChildren(icon(state === "transcribing" ? "wait" : "microphone"));
    this.status.textContent = state ? words(state) : "";
    label(this.button);
  }
}

function finish(held) {
  clearTimeout(held.timer);
  if (held.recorder && held.recorder.state !== "inactive") held.recorder.stop();
  else release(held);
}

function release({ stream }) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

/** Returns a recording of the browser as a WAV file of one channel at 16 kHz. */
async function toWav(blob) {
  const context = new OfflineAudioContext(1, 1, RATE); // decodes to its own rate
  const decoded = await context.decodeAudioData(await blob.arrayBuffer());
  const channels = Array.from({ length: decoded.numberOfChannels }, (_, index) => decoded.getChannelData(index));
  const bytes = new DataView(new ArrayBuffer(44 + 2 * decoded.length));
  const text = (at, letters) => [...letters].forEach((letter, index) => bytes.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  bytes.setUint32(4, bytes.byteLength - 8, true);
  text(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true);
  bytes.setUint16(20, 1, true); // PCM
  bytes.setUint16(22, 1, true);
  bytes.setUint32(24, RATE, true);
  bytes.setUint32(28, 2 * RATE, true);
  bytes.setUint16(32, 2, true);
  bytes.setUint16(34, 16, true);
  text(36, "data");
  bytes.setUint32(40, 2 * decoded.length, true);
  for (let index = 0; index < decoded.length; index++) {
    const sample = channels.reduce((sum, channel) => sum + channel[index], 0) / channels.length;
    bytes.setInt16(44 + 2 * index, Math.max(-1, Math.min(1, sample)) * 32_767, true);
  }
  return new Blob([bytes], { type: "audio/wav" });
}
