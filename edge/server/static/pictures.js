// The pictures of a message: chosen, dropped, pasted or taken with a camera, and made no larger than a model reads.

import { h, iconButton } from "./element.js";
import { words } from "./words.js";

const TYPES = ["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"]; // those that the server decodes
const SIDE = 2240; // pixels: twice the side at which GLM-4V reads a picture
const BYTES = 4_000_000; // of a file that is sent as it is
const MOST = 20_000_000;
const SHAPE = /^data:image\/(jpeg|png|webp|gif|bmp);base64,[A-Za-z0-9+/]+={0,2}$/;

/** Whether a text is a picture as a `data:` URL. */
export function isPicture(text) {
  return typeof text === "string" && text.length < (MOST * 4) / 3 + 100 && SHAPE.test(text);
}

/** Small views of a message's pictures. */
export function views(pictures) {
  return h("div", { class: "pictures" }, ...pictures.map((url) => h("img", { src: url, alt: words("picture"), "t-alt": "picture" })));
}

/** The pictures of the message that is being written, above its field. `trouble(word, values)` reports a file that is
 * no picture; `changed` is called whenever there is one more or less. */
export class Pictures {
  constructor({ trouble, changed }) {
    this.trouble = trouble;
    this.changed = changed;
    this.urls = [];
    this.allowed = false;
    this.row = h("div", { class: "pictures chosen", hidden: true });
    this.input = h("input", { type: "file", accept: "image/*", multiple: true, hidden: true, class: "attach-file" });
    this.input.addEventListener("change", () => (this.add(this.input.files), (this.input.value = "")));
    this.button = iconButton("picture", "addPicture", () => this.input.click(), { class: "icon-button attach", hidden: true });
  }

  /** Shows the button, or removes all of it where the model reads text alone. */
  allow(are) {
    this.allowed = are;
    this.button.hidden = !are;
    if (are) return this.button.before(this.input);
    this.input.remove();
    this.take();
  }

  async add(files) {
    for (const file of files) {
      try {
        this.urls.push(await read(file));
      } catch {
        this.trouble("pictureWrong", { name: file.name });
      }
    }
    this.draw();
  }

  /** Returns the pictures, and begins anew. */
  take() {
    const { urls } = this;
    this.urls = [];
    this.draw();
    return urls;
  }

  draw() {
    this.row.hidden = !this.urls.length;
    this.row.replaceChildren(
      ...this.urls.map((url, index) =>
        h(
          "span",
          { class: "chosen-picture" },
          h("img", { src: url, alt: words("picture") }),
          iconButton("close", "removePicture", () => (this.urls.splice(index, 1), this.draw(), this.button.focus())),
        ),
      ),
    );
    this.changed();
  }
}

/** Returns a file as a `data:` URL: as it is, or drawn anew where it is large, or of a type that the server does not
 * decode. Throws if the browser cannot decode it. */
async function read(file) {
  const bitmap = await createImageBitmap(file);
  const large = Math.max(bitmap.width, bitmap.height) > SIDE || file.size > BYTES;
  if (!large && TYPES.includes(file.type)) return toUrl(file);
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = h("canvas", { width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale)) });
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // under what is transparent, as the model sees it
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.toDataURL("image/jpeg", 0.92);
}

function toUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(blob);
  });
}
