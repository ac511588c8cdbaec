// The page: images, videos and the camera in, class maps out. Networks run in workers, by binseg.js.
"use strict";

const MOST_WORKERS = 8;
const DRAWN = "drawn scene.png";

const part = (id) => document.getElementById(id);
const setup = JSON.parse(part("setup").textContent);
const view = new ResultView(part);
const stem = (name) => name.replace(/\.[^.]*$/, "");

let network = null; // { name, model, labels, workers }
let opening = Promise.resolve(); // of the network that was chosen last
let shown = null; // { name, image, classes } of what is seen
let source = null; // a <video> that is segmented live
let turn = 0; // of what a person asked for last; earlier answers are dropped

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
  const inside = part("file:binseg.js");
  script = inside
    ? URL.createObjectURL(new Blob([await asset("binseg.js")], { type: "text/javascript" }))
    : "binseg.js";
  const worker = startWorker();
  const { module } = await worker.ready;
  worker.end();
  wasm = await asset(module);
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
  const end = () => {
    worker.terminate();
    for (const { reject } of waiting.values()) reject(new Error("another network was chosen"));
  };
  return { ask, busy: false, end, ready: ask({ wasm, model }) };
}

// The labels and the terms that a model file carries; libbinseg has checked the file before.
function aboutModel(model) {
  const length = Number(new DataView(model).getBigUint64(0, true));
  const text = new TextDecoder().decode(new Uint8Array(model, 8, length));
  const { labels, training } = JSON.parse(JSON.parse(text).__metadata__.binseg);
  return { labels, terms: training?.terms };
}

// One after the other: the network that was chosen last stays. `read` gets the file's bytes, and an
// image that comes meanwhile waits for it, too.
function openNetwork(name, read, terms) {
  opening = opening.catch(() => {}).then(async () => startNetwork(name, await read(), terms));
  return opening;
}

async function startNetwork(name, model, terms) {
  const worker = startWorker(model);
  try {
    await worker.ready;
    const about = aboutModel(model);
    network?.workers.forEach((each) => each.end());
    network = { name, model, labels: about.labels, workers: [worker] };
    part("terms").textContent = `${name}: ${about.terms ?? terms ?? setup.terms}`;
    part("bytes").textContent = fileSize(model.byteLength);
    view.setNames(about.labels.names);
  } catch (error) {
    worker.end();
    throw new Error(`${name}: ${error.message}`);
  }
}

// The network that the list names; the one that is open stays if it cannot be opened.
async function openChosen() {
  const chosen = setup.models[part("model").selectedIndex];
  const read = async () => (chosen.model ??= await asset(chosen.file));
  try {
    await openNetwork(chosen.name, read, chosen.terms);
  } catch (error) {
    const named = setup.models[part("model").selectedIndex];
    if (network && named === chosen) part("model").value = network.name;
    throw error;
  }
  return chosen;
}

// What comes from outside is no drawn scene: a network of those leaves it to the first other one,
// until it is chosen again. Returns a note about that.
async function leaveDrawn() {
  const chosen = setup.models[part("model").selectedIndex];
  const other = setup.models.find(({ drawn }) => !drawn);
  if (!chosen.drawn || !other) return "";
  part("model").value = other.name;
  await openChosen();
  return `; segmented by ${other.name}, as ${chosen.name} knows drawn streets`;
}

function show(name, found, live, note = "") {
  shown = { name, image: found.image, classes: found.classes };
  view.show({ ...shown, live });
  part("milliseconds").textContent = duration(found.milliseconds);
  if (!live) report(`${name}: ${found.image.width} × ${found.image.height} pixels${note}`);
  for (const id of ["save-ids", "save-overlay"]) part(id).disabled = false;
}

function cores(count) {
  part("cores").textContent = count;
  part("cores-name").textContent = count === 1 ? "core" : "cores";
}

function report(text, alarming = false) {
  part("message").setAttribute("role", alarming ? "alert" : "status");
  part("message").textContent = text;
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

async function segment(name, image, current, note) {
  await opening.catch(() => {}); // the worker of the network before is about to end
  if (!current()) return;
  const [worker] = network.workers;
  const found = await worker.ask({ image }, [image.data.buffer]);
  if (!current()) return;
  cores(1);
  show(name, found, false, note);
  // again: the browser had not optimized its code yet
  const copy = new ImageData(found.image.data.slice(), found.image.width, found.image.height);
  const again = await worker.ask({ image: copy }, [copy.data.buffer]);
  if (current())
    part("milliseconds").textContent = duration(Math.min(found.milliseconds, again.milliseconds));
}

const openFile = (file) =>
  attempt(async (current) => {
    if (/\.safetensors$/i.test(file.name)) return openModel(file, current);
    stopLive();
    report(`${file.name} …`);
    if (file.type.startsWith("video/") || /\.(mp4|m4v|mov|webm|ogv|mkv|avi)$/i.test(file.name))
      return openVideo(file, current);
    const image = await readImage(file);
    if (!current()) return;
    const note = await leaveDrawn();
    if (current()) await segment(file.name, image, current, note);
  });

// A model file from this device: one more choice.
async function openModel(file, current) {
  const model = await file.arrayBuffer();
  await openNetwork(file.name, async () => model);
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
  const note = await leaveDrawn();
  if (current()) await live(video, file.name, current, note);
}

const openCamera = () =>
  attempt(async (current) => {
    stopLive();
    const stream = await cameraStream();
    if (!current()) return stream.getTracks().forEach((track) => track.stop());
    const video = part("video");
    video.srcObject = stream;
    await video.play();
    const note = await leaveDrawn();
    if (current()) await live(video, "camera", current, note);
  });

// Frames to the workers, one each; a frame that finds none idle is left out.
async function live(video, name, current, note = "") {
  source = video;
  source.dataset.name = name;
  part("stop").hidden = false;
  part("rate").hidden = false;
  report(name + note);
  const count = Math.min(navigator.hardwareConcurrency || 1, MOST_WORKERS);
  await opening.catch(() => {});
  if (!current()) return;
  while (network.workers.length < count) network.workers.push(startWorker(network.model));
  await Promise.all(network.workers.map((worker) => worker.ready));
  if (!current()) return;
  cores(count);
  const { workers } = network;
  let [sent, latest, missed] = [0, 0, false];
  const moments = [];
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
      const rate = frameRate(moments);
      if (rate) part("fps").textContent = frequency(rate);
      if (number > latest) {
        latest = number;
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
  if (shown) return segment(shown.name, shown.image, current);
}

const chooseModel = () =>
  attempt(async (current) => {
    const chosen = await openChosen();
    if (!current()) return;
    // a network that learned from photographs sees nothing in a drawn scene
    if (shown?.name === DRAWN && !chosen.drawn) clear();
    if (source || shown) await anew(current);
    else if (chosen.drawn) await segment(DRAWN, await drawnScene(), current);
    else if (setup.examples.length) await segmentExample(setup.examples[0], current);
    else report(`${chosen.name} learned from photographs: drop one here, or open the camera`);
  });

const drawnScene = async () => readImage(new File([await asset(DRAWN)], DRAWN));

async function segmentExample(name, current) {
  const image = await readImage(new File([await asset(name)], name));
  if (current()) await segment(name, image, current);
}

function clear() {
  shown = view.result = null;
  part("stage").dataset.state = "empty";
  part("milliseconds").textContent = "–";
  part("absent").textContent = "";
  for (const id of ["save-ids", "save-overlay"]) part(id).disabled = true;
}

const openExample = (name) =>
  attempt(async (current) => {
    stopLive();
    await segmentExample(name, current);
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

async function saveIds() {
  const { classes, image, name } = shown;
  const png = await idsAsPng(classes, image.width, image.height, network.labels.palette);
  saveFile(png, `${stem(name)}_ids.png`);
}

async function saveOverlay() {
  const blob = await view.overlay(part("opacity").value / 100);
  saveFile(blob, `${stem(shown.name)}_overlay.png`);
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
}

main();
