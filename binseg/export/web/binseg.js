// Packed binseg networks in a browser or in node, run by libbinseg as WebAssembly.
//
//   const network = await Binseg.open(wasm, model);  // the bytes of a module and of a model file
//   const classes = network.segment(imageData);      // RGBA → Uint8Array, a class id a pixel
//
// Take the module of Binseg.module(). In a worker: post { wasm, model } once, then { id, image } for
// each; answers: { id, classes, image, milliseconds } or { id, error }; of {}, { module }. Errors are
// the library's own words.
"use strict";

const LARGE = 2 ** 28; // bytes; a module that has grown so is not kept

// 1: relaxed_madd(a, a, -(1 + 2^-11)) of a = 1 + 2^-12, 0 if rounded twice, is not; 2: index 16 of
// relaxed_swizzle is 0, as on x86
const PROBE =
  "AGFzbQEAAAABBQFgAAF/AwIBAAcFAQFmAAAKNAEyAEMACIA//RNDAAiAP/0TQwAQgL/9E/2FAv0fAEMAAAAAXkEC/Q9BEP0P/YAC/RYAcgs=";

class Binseg {
  // The fastest module that is exact on this machine.
  static module() {
    let kind = 0;
    try {
      const probe = Uint8Array.from(atob(PROBE), (c) => c.charCodeAt(0));
      kind = new WebAssembly.Instance(new WebAssembly.Module(probe)).exports.f();
    } catch {} // no such instructions
    return `binseg${["", "-relaxed", "", "-x86"][kind]}.wasm`;
  }

  static async open(wasm, model) {
    const network = new Binseg();
    network.module = await WebAssembly.compile(wasm);
    network.model = new Uint8Array(model);
    network.start();
    return network;
  }

  // A module of its own, which remembers no earlier failure.
  start() {
    const fail = (text) => {
      throw new Error(this.text(text));
    };
    const imports = { binseg: { fail, number: (text) => Number(this.text(text)) } };
    for (const { module, name } of WebAssembly.Module.imports(this.module))
      if (module !== "binseg") (imports[module] ??= {})[name] = () => 0;
    this.library = new WebAssembly.Instance(this.module, imports).exports;
    this.guarded(() => {
      this.library._initialize();
      const file = this.allocate(this.model.length);
      this.bytes(file, this.model.length).set(this.model);
      const handle = this.allocate(4);
      const status = this.library.binseg_open(file, this.model.length, 0, handle);
      this.handle = new DataView(this.library.memory.buffer).getUint32(handle, true);
      this.check(status);
      this.library.free(file);
      this.library.free(handle);
    });
  }

  // The class of each pixel of { data (RGBA), width, height }; transparent parts lie on white.
  segment({ data, width, height }) {
    const count = width * height;
    if (data.length !== 4 * count) throw new Error("the image's bytes do not fit its size");
    if (!this.library) this.start();
    return this.guarded(() => {
      const image = this.allocate(4 * count);
      const ids = this.allocate(count);
      this.bytes(image, 4 * count).set(data);
      this.library.binseg_on_white(image, count); // now RGB
      const [rows, columns] = [BigInt(height), BigInt(width)];
      const call = [this.handle, image, rows, columns, 3n * columns, ids, columns];
      this.check(this.library.binseg_segment(...call));
      const classes = this.bytes(ids, count).slice();
      this.library.free(image);
      this.library.free(ids);
      if (this.library.memory.buffer.byteLength > LARGE) this.library = null;
      return classes;
    });
  }

  guarded(work) {
    try {
      return work();
    } catch (error) {
      this.library = null;
      throw error instanceof WebAssembly.RuntimeError ? new Error("an internal error") : error;
    }
  }

  check(status) {
    if (status) throw new Error(this.text(this.library.binseg_error(this.handle)));
  }

  allocate(count) {
    const found = this.library.malloc(count) >>> 0;
    if (!found) throw new Error("out of memory");
    return found;
  }

  // Valid until the memory grows.
  bytes(at, count) {
    return new Uint8Array(this.library.memory.buffer, at >>> 0, count);
  }

  text(at) {
    const memory = new Uint8Array(this.library.memory.buffer);
    return new TextDecoder().decode(memory.subarray(at >>> 0, memory.indexOf(0, at >>> 0)));
  }
}

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) {
  let opened;
  self.onmessage = async ({ data: { id, wasm, model, image } }) => {
    try {
      if (model) opened = Binseg.open(wasm, model);
      const network = await opened;
      if (!image) return self.postMessage({ id, module: Binseg.module() });
      const began = performance.now();
      const classes = network.segment(image);
      const answer = { id, classes, image, milliseconds: performance.now() - began };
      self.postMessage(answer, [classes.buffer, image.data.buffer]);
    } catch (error) {
      self.postMessage({ id, error: error.message });
    }
  };
} else if (typeof module !== "undefined") {
  module.exports = Binseg;
}
