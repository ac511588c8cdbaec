// The result view of the static page and of the demo: an image under the colours of its classes.
// The class under the pointer lights up and is named; a click isolates it; the rows of the legend
// do the same. With a second class map: both beside each other, or where they differ.

// 12 bright colours that are far from each other also to people who see no red or no green: a test
// simulates both. Further classes have darker shades of them.
const COLORS = [
  ["cc99ff", "7766ff", "ffff88", "ff7777", "33ffdd", "ff7700"],
  ["ffff00", "aa1144", "bb2200", "5500ff", "cc5599", "991199"],
].flat();
const DIFFERENT = [255, 255, 0, 255]; // RGBA of pixels to which two networks give two classes
const ALIKE = [0, 0, 0, 200];
const FADED = 70; // of 255: opacity of the classes that are not under the pointer
const VIEW_SIDE = 1600; // pixels of what is drawn; files to keep have the image's own size
const LIVE_SIDE = 640; // pixels of the long side of a frame of the camera

const percent = (share) =>
  share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const fileSize = (bytes) =>
  bytes >= 1e5 ? `${(bytes / 1e6).toFixed(2)} MB` : `${Math.max(1, Math.round(bytes / 1e3))} kB`;
const duration = (milliseconds) => `${milliseconds.toFixed(milliseconds >= 10 ? 0 : 1)} ms`;
const frequency = (rate) => rate.toFixed(rate < 10 ? 1 : 0);

function classColor(id) {
  const value = parseInt(COLORS[id % COLORS.length], 16);
  const shade = [1, 0.6, 0.8][Math.floor(id / COLORS.length) % 3];
  return [value >> 16, (value >> 8) & 255, value & 255].map((each) => Math.round(each * shade));
}

// The frames a second of the last of a row of moments, in milliseconds.
function frameRate(moments, now = performance.now()) {
  moments.push(now);
  while (moments.length > 30) moments.shift();
  return moments.length > 1 ? ((moments.length - 1) * 1e3) / (now - moments[0]) : null;
}

// A canvas of anything that can be drawn, with its long side at most `longest`.
function canvasOf(source, longest = Infinity, settings = {}) {
  const width = source.videoWidth || source.width;
  const height = source.videoHeight || source.height;
  const scale = Math.min(1, longest / Math.max(width, height));
  const sides = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = new OffscreenCanvas(...sides);
  canvas.getContext("2d", settings).drawImage(source, 0, 0, ...sides);
  return canvas;
}

// The camera's stream; without one an error says why.
async function cameraStream() {
  if (!navigator.mediaDevices)
    throw new Error("the browser gives this page no camera; serve it over https");
  try {
    const wish = { facingMode: "environment", width: { ideal: LIVE_SIDE } };
    return await navigator.mediaDevices.getUserMedia({ video: wish });
  } catch (error) {
    const none = error.name === "NotFoundError";
    throw new Error(
      none ? "no camera was found" : "the camera may not be used; allow it for this page",
    );
  }
}

class ResultView {
  // part: a function from the names of the parts (stage, image, classes, tip, legend, absent) to
  // elements.
  constructor(part) {
    this.part = part;
    this.result = null; // { name, width, height, classes, shares }
    this.names = [];
    this.other = null; // a second class map
    this.mode = "one"; // one | beside | differences
    this.split = 0.5; // of the width, that shows the first class map
    this.lit = this.isolated = null; // the class under the pointer, and the one that was clicked
    const canvas = part("classes");
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerdown", (event) => this.point(event));
    canvas.addEventListener("click", (event) => {
      const id = this.classAt(event);
      if (id !== null) this.isolate(id);
    });
    canvas.addEventListener("pointerleave", () => {
      part("tip").hidden = true;
      this.light(null);
    });
  }

  setNames(names) {
    this.names = names;
    this.lit = this.isolated = null;
    this.part("legend").replaceChildren(
      ...names.map((name, id) => {
        const button = document.createElement("button");
        button.type = "button";
        for (const kind of ["swatch", "name", "share"]) {
          const made = document.createElement("span");
          made.className = kind;
          button.append(made);
        }
        button.children[0].style.background = `rgb(${classColor(id)})`;
        button.children[1].textContent = name;
        button.addEventListener("click", () => this.isolate(id));
        button.addEventListener("pointerenter", () => this.light(id));
        button.addEventListener("pointerleave", () => this.light(null));
        const row = document.createElement("tr");
        row.dataset.id = id;
        row.hidden = true;
        row.insertCell().append(button);
        return row;
      }),
    );
  }

  // image: ImageData, or anything that a canvas draws; classes: a Uint8Array of its pixels' ids.
  show({ name, image, classes, live = false }) {
    const { width, height } = image;
    const counts = new Float64Array(256);
    for (const id of classes) counts[id]++;
    this.result = { name, width, height, classes, shares: [...counts].map((n) => n / classes.length) };
    this.other = null;
    const scale = Math.min(1, VIEW_SIDE / Math.max(width, height));
    for (const id of ["image", "classes"]) {
      const canvas = this.part(id);
      const sides = [width, height].map((side) => Math.ceil(side * scale));
      // a canvas that is given a size is cleared
      if (canvas.width !== sides[0]) canvas.width = sides[0];
      if (canvas.height !== sides[1]) canvas.height = sides[1];
    }
    this.part("stage").style.setProperty("--aspect", width / height);
    const plain = this.part("image");
    let drawn = image;
    if (image instanceof ImageData) {
      drawn = new OffscreenCanvas(width, height);
      drawn.getContext("2d").putImageData(image, 0, 0);
    }
    plain.getContext("2d").drawImage(drawn, 0, 0, plain.width, plain.height);
    if (this.isolated !== null && !this.result.shares[this.isolated] && !live) this.isolated = null;
    this.part("stage").dataset.state = "result";
    this.update(live);
    this.paint();
  }

  paint() {
    if (!this.result) return;
    const { classes, width, height } = this.result;
    const canvas = this.part("classes");
    const table = new Uint8ClampedArray(4 * 256);
    const marked = this.isolated ?? this.lit;
    for (let id = 0; id < this.names.length; id++) {
      const shown = marked === null || marked === id ? 255 : this.isolated === null ? FADED : 0;
      table.set([...classColor(id), shown], 4 * id);
    }
    const words = new Uint32Array(table.buffer);
    const [different, alike] = new Uint32Array(new Uint8Array([...DIFFERENT, ...ALIKE]).buffer);
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(canvas.width, canvas.height);
    const out = new Uint32Array(pixels.data.buffer);
    const other = this.mode === "one" ? null : this.other;
    const edge = this.split * canvas.width;
    for (let y = 0, at = 0; y < canvas.height; y++) {
      const row = Math.floor(((y + 0.5) * height) / canvas.height) * width;
      for (let x = 0; x < canvas.width; x++, at++) {
        const from = row + Math.floor(((x + 0.5) * width) / canvas.width);
        if (!other) out[at] = words[classes[from]];
        else if (this.mode === "beside") out[at] = words[(x < edge ? classes : other)[from]];
        else out[at] = classes[from] === other[from] ? alike : different;
      }
    }
    context.putImageData(pixels, 0, 0);
  }

  update(live) {
    const { shares, name } = this.result;
    const legend = this.part("legend");
    const rows = [...legend.children];
    // rows that jump about cannot be read
    const order = (row) => (live ? Number(row.dataset.id) : -shares[row.dataset.id]);
    const sorted = rows.toSorted((a, b) => order(a) - order(b));
    if (sorted.some((row, at) => row !== rows[at])) legend.append(...sorted);
    for (const row of sorted) {
      const share = shares[row.dataset.id];
      row.hidden = share === 0;
      row.querySelector(".share").textContent = percent(share);
    }
    const absent = this.names.filter((_, id) => shares[id] === 0);
    this.part("absent").textContent = absent.length ? `Not in this image: ${absent.join(", ")}.` : "";
    const largest = [...this.names.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, 3);
    const said = largest.filter((id) => shares[id]).map((id) => `${this.names[id]} ${percent(shares[id])}`);
    this.part("classes").setAttribute("aria-label", `${name}: ${said.join(", ")}`);
    this.mark();
  }

  mark() {
    for (const row of this.part("legend").children) {
      const id = Number(row.dataset.id);
      const button = row.querySelector("button");
      button.classList.toggle("lit", id === this.lit);
      button.setAttribute("aria-pressed", id === this.isolated);
    }
  }

  light(id) {
    if (id === this.lit) return;
    this.lit = id;
    this.mark();
    this.paint();
  }

  isolate(id) {
    this.isolated = this.isolated === id ? null : id;
    this.mark();
    this.paint();
  }

  classAt({ clientX, clientY }) {
    if (!this.result) return null;
    const box = this.part("classes").getBoundingClientRect();
    const { width, height, classes } = this.result;
    const x = Math.floor(((clientX - box.left) / box.width) * width);
    const y = Math.floor(((clientY - box.top) / box.height) * height);
    if (!(x >= 0 && y >= 0 && x < width && y < height)) return null;
    const beyond = this.other && this.mode === "beside" && x >= this.split * width;
    return (beyond ? this.other : classes)[y * width + x];
  }

  point(event) {
    const id = this.classAt(event);
    this.light(id);
    const tip = this.part("tip");
    tip.hidden = id === null;
    if (id === null) return;
    tip.textContent = `${this.names[id]} · ${percent(this.result.shares[id])}`;
    const box = this.part("stage").getBoundingClientRect();
    const left = Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 4);
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, event.clientY - box.top - 36)}px`;
  }

  // What is seen, as a PNG.
  overlay(opacity) {
    const plain = this.part("image");
    const both = new OffscreenCanvas(plain.width, plain.height);
    const context = both.getContext("2d");
    context.drawImage(plain, 0, 0);
    context.globalAlpha = opacity;
    context.drawImage(this.part("classes"), 0, 0);
    return both.convertToBlob();
  }
}

function saveFile(blob, name) {
  const link = document.createElement("a");
  link.download = name;
  link.href = URL.createObjectURL(blob);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
