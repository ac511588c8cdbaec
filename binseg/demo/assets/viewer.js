// The demo's result: what the server sends once is drawn here, beside the full-precision twin, and
// frames of the camera are asked for one by one. Gradio runs this, after view.js, with `element`,
// `props` and `watch`.

const RACE_SECONDS = 8;

const part = (name) => element.querySelector(`[data-part="${name}"]`);
const view = new ResultView(part);

let chosen = null; // { model, backend, twin }
let answer = null; // what the server sent of the result that is shown
let turn = 0; // of what was asked for last; earlier answers are dropped
let camera = null; // a <video>
let racing = false;

async function decoded(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

// Class ids of a grey PNG: an address, or a Blob.
async function classIds(source) {
  const options = { colorSpaceConversion: "none" };
  const image = source instanceof Blob ? await createImageBitmap(source, options) : await decoded(source);
  const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
  context.drawImage(image, 0, 0);
  const words = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
  return Uint8Array.from(words, (word) => word & 255);
}

function say(text, alarming = false) {
  part("message").setAttribute("role", alarming ? "alert" : "status");
  part("message").textContent = text;
}

function figures(bytes, milliseconds, cores) {
  if (bytes) part("bytes").textContent = fileSize(bytes);
  part("milliseconds").textContent = milliseconds === null ? "–" : duration(milliseconds);
  if (!cores) return;
  part("cores").textContent = cores;
  part("cores-name").textContent = cores === 1 ? "core" : "cores";
}

const sum = (times) => Object.values(times).reduce((a, b) => a + b, 0);

async function receive(value) {
  if (value.comparison) return compare(value.comparison);
  const mine = ++turn;
  if (value.model) chosen = value;
  if (value.message !== undefined) {
    say(value.message, value.alarming);
    if (camera) return; // the camera goes on with another model
    forget();
    return;
  }
  if (!value.result) return;
  const [image, classes] = await Promise.all([decoded(value.image), classIds(value.ids)]);
  if (mine !== turn) return;
  stopCamera();
  racing = false;
  part("lanes").hidden = true;
  if (value.names.join() !== view.names.join()) view.setNames(value.names);
  answer = value;
  say("");
  setMode("one");
  part("modes").hidden = true;
  part("compared").textContent = "";
  view.show({ name: value.name, image, classes });
  figures(value.result.model_bytes, sum(value.result.milliseconds), value.result.threads);
  part("notes").textContent = value.notes.join(". ");
  part("more").hidden = false;
  offer();
}

function forget() {
  answer = view.result = null;
  part("stage").dataset.state = "empty";
  part("more").hidden = part("modes").hidden = true;
  part("compared").textContent = "";
  setMode("one");
  figures(0, null, 0);
}

async function compare({ ids, figures: found }) {
  const mine = turn;
  const other = ids && (await classIds(ids));
  if (mine !== turn || !answer || camera) return;
  Object.assign(answer.result, found);
  offer();
  const faster = found.times_faster;
  // the image itself may have met a busy moment
  const best = Math.min(sum(answer.result.milliseconds), found.best_milliseconds ?? Infinity);
  figures(0, best, 0);
  const parts = [`${(found.fp32_bytes / answer.result.model_bytes).toFixed(0)} × smaller than in fp32`];
  if (faster) parts.push(`${faster.toFixed(1)} × as fast (${found.times_faster_note})`);
  if (other) {
    view.other = other;
    part("modes").hidden = false;
    parts.unshift(`The same class as its full-precision twin at ${percent(found.agreement)} of the pixels`);
  }
  part("compared").textContent = `${parts.join(", ")}.`;
}

function setMode(mode) {
  view.mode = mode;
  for (const button of part("modes").querySelectorAll("[data-mode]"))
    button.setAttribute("aria-pressed", button.dataset.mode === mode);
  part("pair").hidden = mode !== "beside";
  split();
}

function split() {
  view.split = part("split").value / 1000;
  part("line").style.left = `${100 * view.split}%`;
  view.paint();
}

function offer() {
  const text = JSON.stringify(answer.result, null, 1);
  URL.revokeObjectURL(part("json").href);
  part("json").href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  part("json").download = `${answer.name}_result.json`;
  part("mask").href = answer.mask;
  part("mask").download = `${answer.name}_ids.png`;
}

// The class map of a JPEG by the chosen model or its twin, and the server's milliseconds for it.
async function segmented(jpeg, precision = "binary") {
  const { model, backend } = chosen;
  const query = new URLSearchParams({ model, backend, precision, format: "gray" });
  const form = new FormData();
  form.append("image", jpeg, "frame.jpg");
  const said = await fetch(new URL(`segment?${query}`, document.baseURI), { method: "POST", body: form });
  if (!said.ok) {
    const { detail } = await said.json().catch(() => ({}));
    throw new Error(detail ?? "the server does not answer");
  }
  const times = said.headers.get("server-timing").matchAll(/dur=([\d.]+)/g);
  const milliseconds = [...times].reduce((total, [, time]) => total + Number(time), 0);
  return { classes: await classIds(await said.blob()), milliseconds };
}

// What is seen now, as a canvas: the camera's frame, or the image of the result.
const picture = () => canvasOf(camera ?? part("image"), LIVE_SIDE);

const jpegOf = (canvas) => canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });

function stopCamera() {
  camera?.srcObject?.getTracks().forEach((track) => track.stop());
  camera = null;
  part("rate").hidden = true;
  part("camera").textContent = "Camera";
  part("camera").setAttribute("aria-pressed", "false");
}

async function startCamera() {
  const stream = await cameraStream();
  const video = document.createElement("video");
  Object.assign(video, { muted: true, playsInline: true, srcObject: stream });
  camera = video;
  await video.play();
  forget();
  say("");
  const { model, photographs } = chosen;
  part("notes").textContent = photographs ? `${model} knows drawn streets: choose ${photographs}` : "";
  part("camera").textContent = "Stop";
  part("camera").setAttribute("aria-pressed", "true");
  part("rate").hidden = false;
  part("modes").hidden = !chosen.twin;
  const moments = [];
  while (camera === video) {
    if (racing) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      continue;
    }
    const frame = picture();
    const found = await segmented(await jpegOf(frame));
    if (camera !== video) return;
    if (!view.names.length) throw new Error("segment an image first");
    view.show({ name: "camera", image: frame, classes: found.classes, live: true });
    figures(0, found.milliseconds, 0);
    const rate = frameRate(moments);
    if (rate) part("fps").textContent = frequency(rate);
    part("more").hidden = false;
  }
}

// Both networks on what is seen, in turns, so that each has the processor for the same time.
async function race() {
  racing = true;
  part("race").setAttribute("aria-pressed", "true");
  const lanes = ["binary", "full"].map((precision) => {
    const lane = document.createElement("div");
    const canvas = document.createElement("canvas");
    const text = document.createElement("p");
    lane.append(canvas, text);
    lane.dataset.precision = precision;
    const title = precision === "full" ? "full precision" : "1 bit";
    return { precision, lane, canvas, text, title, spent: 0, frames: 0 };
  });
  part("lanes").replaceChildren(...lanes.map(({ lane }) => lane));
  part("lanes").hidden = false;
  for (const { text, title } of lanes) text.textContent = `${title}: getting ready`;
  const still = camera ? null : picture();
  // the first frame of each also pays for what is only made once
  for (const { precision } of lanes) await segmented(await jpegOf(still ?? picture()), precision);
  const end = performance.now() + 1e3 * RACE_SECONDS;
  // until each has had a turn, at least
  while (racing && (performance.now() < end || !lanes[1].frames)) {
    const lane = lanes[0].spent <= lanes[1].spent ? lanes[0] : lanes[1];
    const frame = still ?? picture();
    const { classes, milliseconds } = await segmented(await jpegOf(frame), lane.precision);
    lane.spent += milliseconds;
    lane.frames++;
    drawLane(lane, frame, classes);
    lane.text.replaceChildren(
      `${lane.title}: `,
      Object.assign(document.createElement("b"), { textContent: frequency((1e3 * lane.frames) / lane.spent) }),
      ` frames a second, ${lane.frames} in ${(lane.spent / 1e3).toFixed(2)} s`,
    );
  }
  racing = false;
  part("race").setAttribute("aria-pressed", "false");
}

function drawLane({ canvas }, frame, classes) {
  [canvas.width, canvas.height] = [frame.width, frame.height];
  const layer = new OffscreenCanvas(frame.width, frame.height);
  const pixels = new ImageData(frame.width, frame.height);
  const table = new Uint32Array(new Uint8Array([...Array(256).keys()].flatMap((id) => [...classColor(id), 255])).buffer);
  new Uint32Array(pixels.data.buffer).set(Uint32Array.from(classes, (id) => table[id]));
  layer.getContext("2d").putImageData(pixels, 0, 0);
  const context = canvas.getContext("2d");
  context.drawImage(frame, 0, 0);
  context.globalAlpha = part("opacity").value / 100;
  context.drawImage(layer, 0, 0);
}

// What a person started; what goes wrong with it is said in words.
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    stopCamera();
    racing = false;
    part("race").setAttribute("aria-pressed", "false");
    say(error.message, true);
  }
}

function fade() {
  part("classes").style.opacity = part("opacity").value / 100;
  part("percent").textContent = `${part("opacity").value} %`;
}

part("opacity").addEventListener("input", fade);
part("split").addEventListener("input", split);
part("camera").addEventListener("click", () => (camera ? stopCamera() : attempt(startCamera)));
part("race").addEventListener("click", () => (racing ? (racing = false) : attempt(race)));
for (const button of part("modes").querySelectorAll("[data-mode]"))
  button.addEventListener("click", () => setMode(button.dataset.mode));
part("overlay").addEventListener("click", async () =>
  saveFile(await view.overlay(part("opacity").value / 100), `${answer?.name ?? "camera"}_overlay.png`),
);
watch("value", () => receive(props.value));
fade();
receive(props.value);
