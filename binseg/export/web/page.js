// The page: images, videos and the camera in, class maps out. Networks run in workers, by binseg.js.
"use strict";

const LIVE_SIDE = 640; // pixels of the long side of a frame
const VIEW_SIDE = 1600; // of what is drawn; files to keep have the image's own size
const MOST_WORKERS = 8;
// 15 colours that colour-blind people can tell apart (M. Krzywinski, mkweb.bcgsc.ca/colorblind)
const COLORS = [
  ["009ffa", "ffdc3d", "ef0096", "00e307", "9400e6", "ff6e3a", "00dcb5", "f60239", "ffcfe2"],
  ["7cfffa", "008607", "ff71fd", "003c86", "6a0213", "008169"],
].flat();

const part = (id) => document.getElementById(id);
const setup = JSON.parse(part("setup").textContent);
const percent = (share) =>
  share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const size = (bytes) =>
  bytes >= 1e5 ? `${(bytes / 1e6).toFixed(2)} MB` : `${Math.max(1, Math.round(bytes / 1e3))} kB`;
const stem = (name) => name.replace(/\.[^.]*$/, "");

let network = null; // { name, bytes, labels, terms, workers }
let result = null; // { name, image, classes, shares } of what is shown
let source = null; // a <video> that is segmented live
let turn = 0; // of what a person asked for last; earlier answers are dropped
let lit = null; // the class under the pointer
let isolated = null; // the class that was clicked

// Files of the page: in this document, or beside it.
async function asset(name) {
  const inside = part(`file:${name}`);
  if (inside) return Uint8Array.from(atob(inside.textContent), (c) => c.charCodeAt(0)).buffer;
  if (location.protocol === "file:")
    throw new Error("browsers read no files beside a page that is opened from a folder; serve it");
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: the server answered ${answer.status}`);
  return answer.arrayBuffer();
}

let script = null; // the worker's address
let wasm = null;

async function prepare() {
  wasm = await asset("binseg.wasm");
  const inside = part("file:binseg.js");
  script = inside
    ? URL.createObjectURL(new Blob([await asset("binseg.js")], { type: "text/javascript" }))
    : "binseg.js";
}

function startWorker(model) {
  const worker = new Worker(script);
  const waiting = new Map();
  let asked = 0;
  worker.onmessage = ({ data }) => {
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.error) reject(new Error(data.error));
    else resolve(data);
  };
  worker.onerror = () => {
    for (const { reject } of waiting.values()) reject(new Error("the worker did not start"));
  };
  const ask = (message, transfer = []) =>
    new Promise((resolve, reject) => {
      waiting.set(++asked, { resolve, reject });
      worker.postMessage({ id: asked, ...message }, transfer);
    });
  return { ask, busy: false, end: () => worker.terminate(), ready: ask({ wasm, model }) };
}

// The labels and the terms that a model file carries; libbinseg has checked the file before.
function aboutModel(model) {
  const length = Number(new DataView(model).getBigUint64(0, true));
  const text = new TextDecoder().decode(new Uint8Array(model, 8, length));
  const { labels, training } = JSON.parse(JSON.parse(text).__metadata__.binseg);
  return { labels, terms: training?.terms };
}

async function openNetwork(name, model, terms) {
  const worker = startWorker(model);
  try {
    await worker.ready;
    const about = aboutModel(model);
    network?.workers.forEach((each) => each.end());
    network = { name, model, labels: about.labels, workers: [worker] };
    part("terms").textContent = `${name}: ${about.terms ?? terms ?? setup.terms}`;
    part("bytes").textContent = size(model.byteLength);
    [lit, isolated] = [null, null];
    listClasses();
  } catch (error) {
    worker.end();
    throw new Error(`${name}: ${error.message}`);
  }
}

function color(id) {
  const value = parseInt(COLORS[id % COLORS.length], 16);
  const shade = [1, 0.6, 0.8][Math.floor(id / COLORS.length) % 3];
  return [value >> 16, (value >> 8) & 255, value & 255].map((each) => Math.round(each * shade));
}

function paint() {
  if (!result) return;
  const canvas = part("classes");
  const { classes, image } = result;
  const table = new Uint8ClampedArray(4 * 256);
  for (let id = 0; id < network.labels.names.length; id++) {
    const marked = isolated ?? lit;
    const shown = marked === null || marked === id ? 255 : isolated === null ? 70 : 0;
    table.set([...color(id), shown], 4 * id);
  }
  const words = new Uint32Array(table.buffer);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  const out = new Uint32Array(pixels.data.buffer);
  for (let y = 0, at = 0; y < canvas.height; y++) {
    const row = Math.floor(((y + 0.5) * image.height) / canvas.height) * image.width;
    for (let x = 0; x < canvas.width; x++, at++)
      out[at] = words[classes[row + Math.floor(((x + 0.5) * image.width) / canvas.width)]];
  }
  context.putImageData(pixels, 0, 0);
}

function show(name, { image, classes, milliseconds }, live) {
  const counts = new Float64Array(256);
  for (const id of classes) counts[id]++;
  const shares = [...counts].map((count) => count / classes.length);
  result = { name, image, classes, shares };
  const scale = Math.min(1, VIEW_SIDE / Math.max(image.width, image.height));
  for (const id of ["image", "classes"]) {
    const canvas = part(id);
    const [width, height] = [image.width, image.height].map((side) => Math.ceil(side * scale));
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
  }
  part("stage").style.setProperty("--aspect", image.width / image.height);
  const plain = part("image");
  if (scale === 1) plain.getContext("2d").putImageData(image, 0, 0);
  else {
    const whole = new OffscreenCanvas(image.width, image.height);
    whole.getContext("2d").putImageData(image, 0, 0);
    plain.getContext("2d").drawImage(whole, 0, 0, plain.width, plain.height);
  }
  if (isolated !== null && !shares[isolated] && !live) isolated = null;
  paint();
  updateClasses(live);
  time(milliseconds);
  part("stage").dataset.state = "result";
  for (const id of ["save-ids", "save-overlay"]) part(id).disabled = false;
}

function time(milliseconds) {
  const digits = milliseconds >= 10 ? 0 : 1;
  part("milliseconds").textContent = `${milliseconds.toFixed(digits)} ms`;
}

function cores(count) {
  part("cores").textContent = count;
  part("cores-name").textContent = count === 1 ? "core" : "cores";
}

function listClasses() {
  part("legend").replaceChildren(
    ...network.labels.names.map((name, id) => {
      const row = document.createElement("tr");
      const button = document.createElement("button");
      button.type = "button";
      for (const kind of ["swatch", "name", "share"]) {
        const made = document.createElement("span");
        made.className = kind;
        button.append(made);
      }
      button.children[0].style.background = `rgb(${color(id)})`;
      button.children[1].textContent = name;
      button.addEventListener("click", () => isolate(id));
      button.addEventListener("pointerenter", () => light(id));
      button.addEventListener("pointerleave", () => light(null));
      row.dataset.id = id;
      row.hidden = true;
      const cell = document.createElement("td");
      cell.append(button);
      row.append(cell);
      return row;
    }),
  );
}

function updateClasses(live) {
  const { shares, image } = result;
  const rows = [...part("legend").children];
  const order = (row) => (live ? Number(row.dataset.id) : -shares[row.dataset.id]);
  const sorted = rows.toSorted((a, b) => order(a) - order(b));
  if (sorted.some((row, at) => row !== rows[at])) part("legend").append(...sorted);
  for (const row of sorted) {
    const share = shares[row.dataset.id];
    row.hidden = share === 0;
    row.querySelector(".share").textContent = percent(share);
  }
  const names = network.labels.names;
  const absent = names.filter((_, id) => shares[id] === 0);
  part("absent").textContent = absent.length ? `Not in this image: ${absent.join(", ")}.` : "";
  const largest = [...names.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, 3);
  const said = largest.filter((id) => shares[id]).map((id) => `${names[id]} ${percent(shares[id])}`);
  part("classes").setAttribute("aria-label", `${result.name}: ${said.join(", ")}`);
  if (!live) report(`${result.name}: ${image.width} × ${image.height} pixels`);
  mark();
}

function mark() {
  for (const row of part("legend").children) {
    const id = Number(row.dataset.id);
    row.firstChild.firstChild.classList.toggle("lit", id === lit);
    row.firstChild.firstChild.setAttribute("aria-pressed", id === isolated);
  }
}

function light(id) {
  if (id === lit) return;
  lit = id;
  mark();
  paint();
}

function isolate(id) {
  isolated = isolated === id ? null : id;
  mark();
  paint();
}

function report(text, alarming = false) {
  part("message").setAttribute("role", alarming ? "alert" : "status");
  part("message").textContent = text;
}

function classAt(event) {
  if (!result) return null;
  const box = part("classes").getBoundingClientRect();
  const { width, height } = result.image;
  const x = Math.floor(((event.clientX - box.left) / box.width) * width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * height);
  return x >= 0 && y >= 0 && x < width && y < height ? result.classes[y * width + x] : null;
}

function point(event) {
  const id = classAt(event);
  light(id);
  const tip = part("tip");
  tip.hidden = id === null;
  if (id === null) return;
  tip.textContent = `${network.labels.names[id]} · ${percent(result.shares[id])}`;
  const box = part("stage").getBoundingClientRect();
  const left = Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 4);
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, event.clientY - box.top - 36)}px`;
}

// Something that a person asked for; what goes wrong with it is said in words.
async function attempt(work) {
  const mine = ++turn;
  try {
    await work(() => mine === turn);
  } catch (error) {
    if (mine === turn) report(error.message, true);
  }
}

function stopLive() {
  source?.srcObject?.getTracks().forEach((track) => track.stop());
  if (source?.src) URL.revokeObjectURL(source.src);
  source = null;
  const video = part("video");
  video.hidden = true;
  video.controls = false;
  video.srcObject = null;
  video.removeAttribute("src");
  for (const id of ["rate", "stop"]) part(id).hidden = true;
  network?.workers.splice(1).forEach((each) => each.end());
}

async function segment(name, image, current) {
  const [worker] = network.workers;
  const found = await worker.ask({ image }, [image.data.buffer]);
  if (!current()) return;
  cores(1);
  show(name, found, false);
  // again: the browser had not optimized its code yet
  const copy = new ImageData(found.image.data.slice(), found.image.width, found.image.height);
  const again = await worker.ask({ image: copy }, [copy.data.buffer]);
  if (current()) time(Math.min(found.milliseconds, again.milliseconds));
}

const openFile = (file) =>
  attempt(async (current) => {
    if (/\.safetensors$/i.test(file.name)) return openModel(file, current);
    stopLive();
    report(`${file.name} …`);
    if (file.type.startsWith("video/") || /\.(mp4|m4v|mov|webm|ogv|mkv|avi)$/i.test(file.name))
      return openVideo(file, current);
    const image = await readImage(file);
    if (current()) await segment(file.name, image, current);
  });

// A model file from this device: one more choice.
async function openModel(file, current) {
  const model = await file.arrayBuffer();
  await openNetwork(file.name, model);
  const choice = new Option(file.name, file.name, true, true);
  part("model").append(choice);
  part("choice").hidden = false;
  setup.models.push({ name: file.name, model });
  await anew(current);
}

async function openVideo(file, current) {
  const video = part("video");
  const loaded = new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () =>
      reject(new Error(`${file.name}: not a video that this browser plays; use MP4 or WebM`));
  });
  video.src = URL.createObjectURL(file);
  await loaded;
  if (!current()) return;
  video.controls = true;
  video.hidden = false;
  await video.play();
  await live(video, file.name, current);
}

const openCamera = () =>
  attempt(async (current) => {
    stopLive();
    if (!navigator.mediaDevices)
      throw new Error("the browser gives this page no camera; serve it over https");
    let stream;
    try {
      const wish = { facingMode: "environment", width: { ideal: LIVE_SIDE } };
      stream = await navigator.mediaDevices.getUserMedia({ video: wish });
    } catch (error) {
      const none = error.name === "NotFoundError";
      throw new Error(
        none ? "no camera was found" : "the camera may not be used; allow it for this page",
      );
    }
    if (!current()) return stream.getTracks().forEach((track) => track.stop());
    const video = part("video");
    video.srcObject = stream;
    await video.play();
    await live(video, "camera", current);
  });

// Frames to the workers, one each; a frame that finds none idle is left out.
async function live(video, name, current) {
  source = video;
  source.dataset.name = name;
  part("stop").hidden = false;
  part("rate").hidden = false;
  report(name);
  const count = Math.min(navigator.hardwareConcurrency || 1, MOST_WORKERS);
  while (network.workers.length < count) network.workers.push(startWorker(network.model));
  await Promise.all(network.workers.map((worker) => worker.ready));
  if (!current()) return;
  cores(count);
  const { workers } = network;
  let [sent, shown, missed] = [0, 0, false];
  const ends = [];
  const take = async () => {
    const worker = workers.find((each) => !each.busy);
    missed = !worker;
    if (missed || video.readyState < 2) return;
    worker.busy = true;
    const number = ++sent;
    try {
      const image = pixelsOf(video, LIVE_SIDE);
      const found = await worker.ask({ image }, [image.data.buffer]);
      if (!current()) return;
      ends.push(performance.now());
      while (ends.length > 30) ends.shift();
      if (ends.length > 1) {
        const rate = ((ends.length - 1) * 1e3) / (ends.at(-1) - ends[0]);
        part("fps").textContent = rate.toFixed(rate < 10 ? 1 : 0);
      }
      if (number > shown) {
        shown = number;
        show(name, found, true);
      }
    } catch (error) {
      if (current()) report(`${name}: ${error.message}`, true);
    } finally {
      worker.busy = false;
      if (missed && current()) take();
    }
  };
  const next = () => {
    if (!current()) return;
    take();
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(next);
    else requestAnimationFrame(next);
  };
  next();
}

// What is shown, by the network that was chosen now.
async function anew(current) {
  if (source) return live(source, source.dataset.name, current);
  if (result) return segment(result.name, result.image, current);
}

const chooseModel = () =>
  attempt(async (current) => {
    const chosen = setup.models[part("model").selectedIndex];
    chosen.model ??= await asset(chosen.file);
    if (!current()) return;
    await openNetwork(chosen.name, chosen.model, chosen.terms);
    if (current()) await anew(current);
  });

const openExample = (name) =>
  attempt(async (current) => {
    stopLive();
    const image = await readImage(new File([await asset(name)], name));
    if (current()) await segment(name, image, current);
  });

async function listExamples() {
  if (setup.examples.length < 2) return;
  for (const name of setup.examples) {
    const button = document.createElement("button");
    const image = new Image();
    image.src = URL.createObjectURL(new Blob([await asset(name)]));
    image.alt = `Example ${name}`;
    button.type = "button";
    button.append(image);
    button.addEventListener("click", () => openExample(name));
    part("examples").append(button);
  }
}

function save(blob, name) {
  const link = document.createElement("a");
  link.download = name;
  link.href = URL.createObjectURL(blob);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function saveIds() {
  const { classes, image, name } = result;
  const png = await idsAsPng(classes, image.width, image.height, network.labels.palette);
  save(png, `${stem(name)}_ids.png`);
}

function saveOverlay() {
  const plain = part("image");
  const both = new OffscreenCanvas(plain.width, plain.height);
  const context = both.getContext("2d");
  context.drawImage(plain, 0, 0);
  context.globalAlpha = part("opacity").value / 100;
  context.drawImage(part("classes"), 0, 0);
  const name = `${stem(result.name)}_overlay.png`;
  return both.convertToBlob().then((blob) => save(blob, name));
}

function fade() {
  part("classes").style.opacity = part("opacity").value / 100;
  part("percent").textContent = `${part("opacity").value} %`;
}

function listen() {
  part("open").addEventListener("click", () => part("file").click());
  part("file").addEventListener("change", () => {
    if (part("file").files[0]) openFile(part("file").files[0]);
    part("file").value = "";
  });
  part("camera").addEventListener("click", openCamera);
  part("stop").addEventListener("click", () => attempt(async () => stopLive()));
  part("model").addEventListener("change", chooseModel);
  part("opacity").addEventListener("input", fade);
  part("save-ids").addEventListener("click", saveIds);
  part("save-overlay").addEventListener("click", saveOverlay);
  const canvas = part("classes");
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("click", (event) => {
    const id = classAt(event);
    if (id !== null) isolate(id);
  });
  canvas.addEventListener("pointerleave", () => {
    part("tip").hidden = true;
    light(null);
  });
  for (const kind of ["dragover", "dragleave", "drop"])
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      document.body.classList.toggle("over", kind === "dragover");
    });
  document.addEventListener("drop", ({ dataTransfer }) => {
    if (dataTransfer.files[0]) openFile(dataTransfer.files[0]);
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData.files[0]) openFile(clipboardData.files[0]);
  });
}

async function main() {
  part("model").append(...setup.models.map(({ name }) => new Option(name, name)));
  part("choice").hidden = setup.models.length < 2;
  listen();
  fade();
  cores(1);
  try {
    await prepare();
    await listExamples();
  } catch (error) {
    return report(error.message, true);
  }
  await chooseModel();
  if (network && !result && setup.examples.length) await openExample(setup.examples[0]);
}

main();
