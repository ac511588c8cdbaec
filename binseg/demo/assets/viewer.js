// The result of one image: draws the overlay from the class map that the server sent once, so that
// opacity and classes answer at once and no second inference is needed.
// Gradio runs this with `element`, `props` and `watch`.

const find = (name) => element.querySelector(`[data-part="${name}"]`);
const canvas = find("canvas");
const opacity = find("opacity");
const layer = document.createElement("canvas");

let result = null;
let plain = null;
let ids = null;
let hidden = new Set();
let turn = 0;

const percent = (share) =>
  share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const megabytes = (bytes) =>
  bytes >= 1e6 ? (bytes / 1e6).toFixed(1) + " MB" : Math.max(1, Math.round(bytes / 1e3)) + " kB";
const times = (ratio) => (ratio >= 10 ? ratio.toFixed(0) : ratio.toFixed(1)) + " ×";
const milliseconds = (time) => (time >= 10 ? time.toFixed(0) : time.toFixed(1)) + " ms";

function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function decoded(address) {
  const image = new Image();
  image.src = address;
  return image.decode().then(() => image);
}

async function classIds(address) {
  const image = await decoded(address);
  const own = new OffscreenCanvas(image.width, image.height).getContext("2d");
  own.drawImage(image, 0, 0);
  const pixels = own.getImageData(0, 0, image.width, image.height).data;
  return Uint8Array.from({ length: pixels.length / 4 }, (_, at) => pixels[4 * at]);
}

function draw() {
  const began = performance.now();
  const colors = new Uint8ClampedArray(4 * 256);
  for (const each of result.classes) {
    if (hidden.has(each.id)) continue;
    const color = parseInt(each.color.slice(1), 16);
    colors.set([color >> 16, (color >> 8) & 255, color & 255, 2.55 * opacity.value], 4 * each.id);
  }
  const table = new Uint32Array(colors.buffer);
  const pixels = layer.getContext("2d").createImageData(layer.width, layer.height);
  const words = new Uint32Array(pixels.data.buffer);
  for (let at = 0; at < words.length; at++) words[at] = table[ids[at]];
  layer.getContext("2d").putImageData(pixels, 0, 0);
  const context = canvas.getContext("2d");
  context.drawImage(plain, 0, 0, canvas.width, canvas.height);
  context.drawImage(layer, 0, 0);
  find("percent").textContent = `${opacity.value} %`;
  return performance.now() - began;
}

function listClasses() {
  const present = result.classes.filter((each) => each.share > 0);
  const absent = result.classes.filter((each) => each.share === 0);
  const largest = Math.max(...present.map((each) => each.share));
  find("classes").replaceChildren(
    ...present.map((each) => {
      const box = make("input", { type: "checkbox", "aria-label": `show ${each.name}` });
      box.checked = !hidden.has(each.id);
      box.addEventListener("change", () => {
        if (box.checked) hidden.delete(each.id);
        else hidden.add(each.id);
        draw();
      });
      const bar = make("span", { class: "bar", "aria-hidden": "true" });
      bar.style.width = `${(100 * each.share) / largest}%`;
      bar.style.background = each.color;
      const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = each.color;
      return make(
        "tr",
        { "data-id": each.id },
        make("th", { scope: "row" }, make("label", {}, box, swatch, each.name)),
        make("td", { class: "room" }, bar),
        make("td", { class: "share" }, percent(each.share)),
      );
    }),
  );
  find("absent").textContent = absent.length
    ? `Not in this image: ${absent.map((each) => each.name).join(", ")}.`
    : "";
}

function listFigures(drawing) {
  const took = result.milliseconds;
  const rows = [
    ["network", milliseconds(took["network"]), `on ${result.backend}`],
    ["pre-processing", milliseconds(took["pre-processing"]), "scaling, normalizing"],
    ["upsampling", milliseconds(took["upsampling"]), "to the image's size"],
    ["drawing", milliseconds(drawing), "in your browser"],
    ["model file", megabytes(result.model_bytes), result.model],
    ["smaller", times(result.times_smaller), `fp32: ${megabytes(result.fp32_bytes)}`],
    [
      result.times_faster >= 1 || !result.times_faster ? "faster" : "of fp32's speed",
      result.times_faster ? times(result.times_faster) : "–",
      result.times_faster_note,
    ],
  ];
  find("figures").replaceChildren(
    ...rows.map(([name, value, note]) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, value), make("dd", { class: "note" }, note)),
    ),
  );
}

function say(text, alarming) {
  const message = find("message");
  message.setAttribute("role", alarming ? "alert" : "status");
  message.replaceChildren(...text.split("\n").map((line) => make("p", {}, line)));
  element.dataset.state = alarming ? "error" : "empty";
  if (alarming) reveal();
}

async function show(value) {
  const mine = ++turn;
  if (!value || !value.result) {
    result = null;
    say(value?.message ?? "", value?.alarming ?? false);
    return;
  }
  const [image, map] = await Promise.all([decoded(value.image), classIds(value.ids)]);
  if (mine !== turn) return; // a later result came meanwhile
  const same = result && result.classes.length === value.result.classes.length;
  if (!same || result.model !== value.result.model) hidden = new Set();
  [result, plain, ids] = [value.result, image, map];
  canvas.width = layer.width = result.image.width;
  canvas.height = layer.height = result.image.height;
  element.dataset.state = "result";
  reveal();
  listFigures(draw());
  listClasses();
  find("notes").replaceChildren(...value.notes.map((note) => make("p", {}, note)));
  const top = result.classes.slice(0, 3).map((each) => `${each.name} ${percent(each.share)}`);
  canvas.setAttribute("aria-label", `${value.name} under its class colours: ${top.join(", ")}`);
  offer(value);
}

function reveal() {
  // on a phone the result is below the choices
  if (element.getBoundingClientRect().top > 0.7 * window.innerHeight)
    element.scrollIntoView({ behavior: "smooth", block: "start" });
}

function offer(value) {
  const figures = new Blob([JSON.stringify(value.result, null, 1)], { type: "application/json" });
  const ways = { mask: value.mask, json: URL.createObjectURL(figures) };
  URL.revokeObjectURL(find("json").href);
  for (const [part, address] of Object.entries(ways)) find(part).href = address;
  find("mask").download = `${value.name}_ids.png`;
  find("json").download = `${value.name}_result.json`;
  find("overlay").dataset.name = `${value.name}_overlay.png`;
}

function point(event) {
  if (!result) return;
  const box = canvas.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
  const id = ids[y * canvas.width + x];
  const found = result.classes.find((each) => each.id === id);
  mark(found ?? null);
  const tip = find("tip");
  tip.hidden = !found;
  if (!found) return;
  tip.textContent = `${found.name} · ${percent(found.share)}`;
  const left = Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 4);
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, event.clientY - box.top - 34)}px`;
}

function mark(found) {
  for (const row of find("classes").children)
    row.classList.toggle("pointed", found !== null && Number(row.dataset.id) === found.id);
}

function unpoint() {
  find("tip").hidden = true;
  mark(null);
}

function setAll(on) {
  hidden = new Set(on ? [] : result.classes.map((each) => each.id));
  listClasses();
  draw();
}

opacity.addEventListener("input", draw);
find("all").addEventListener("click", () => setAll(true));
find("none").addEventListener("click", () => setAll(false));
find("overlay").addEventListener("click", () =>
  canvas.toBlob((blob) => {
    const link = make("a", { download: find("overlay").dataset.name });
    link.href = URL.createObjectURL(blob);
    link.click();
    URL.revokeObjectURL(link.href);
  }, "image/png"),
);
canvas.addEventListener("pointermove", point);
canvas.addEventListener("pointerdown", point);
canvas.addEventListener("pointerleave", unpoint);
watch("value", () => show(props.value));
show(props.value);
