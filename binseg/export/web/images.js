// Image files: what they are is seen in their first bytes, before the browser decodes anything.
"use strict";

const MOST_PIXELS = 50_000_000;
const LARGEST_RATIO = 20;
const SMALLEST_SIDE = 8;

const ascii = (bytes, at, count) => String.fromCharCode(...bytes.subarray(at, at + count));

// { kind, width, height, whole } of a JPEG, PNG, BMP or WebP; { kind } of others, perhaps empty.
function inspect(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (ascii(bytes, 1, 3) === "PNG") return inspectPng(bytes, view);
  if (view.byteLength > 3 && view.getUint16(0) === 0xffd8) return inspectJpeg(bytes, view);
  if (ascii(bytes, 0, 4) === "RIFF" && ascii(bytes, 8, 4) === "WEBP") return inspectWebp(bytes, view);
  if (ascii(bytes, 0, 2) === "BM") {
    const [width, height] = [view.getInt32(18, true), Math.abs(view.getInt32(22, true))];
    return { kind: "BMP", width, height, whole: true };
  }
  if (ascii(bytes, 0, 3) === "GIF") return { kind: "GIF" };
  if (["II*\0", "MM\0*"].includes(ascii(bytes, 0, 4))) return { kind: "TIFF" };
  if (ascii(bytes, 4, 4) === "ftyp") return { kind: ascii(bytes, 8, 4).trim().toUpperCase() };
  return {};
}

function inspectPng(bytes, view) {
  const found = { kind: "PNG", width: view.getUint32(16), height: view.getUint32(20), whole: false };
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at))
    if (ascii(bytes, at + 4, 4) === "IEND") found.whole = true;
  return found;
}

function inspectJpeg(bytes, view) {
  const found = { kind: "JPEG", whole: false };
  for (let at = 2; at + 9 <= bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1];
    if (marker === 0xff) {
      at += 1; // padding
      continue;
    }
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker))
      [found.height, found.width] = [view.getUint16(at + 5), view.getUint16(at + 7)];
    if (marker === 0xda) {
      for (let end = at; end + 1 < bytes.length && !found.whole; end++)
        found.whole = bytes[end] === 0xff && bytes[end + 1] === 0xd9;
      break;
    }
    at += 2 + view.getUint16(at + 2);
  }
  return found;
}

function inspectWebp(bytes, view) {
  const found = { kind: "WebP", whole: view.getUint32(4, true) + 8 <= bytes.length };
  const part = ascii(bytes, 12, 4);
  const three = (at) => view.getUint16(at, true) + (bytes[at + 2] << 16);
  if (part === "VP8X") [found.width, found.height] = [1 + three(24), 1 + three(27)];
  if (part === "VP8 ")
    [found.width, found.height] = [26, 28].map((at) => view.getUint16(at, true) & 0x3fff);
  if (part === "VP8L") {
    const bits = view.getUint32(21, true);
    [found.width, found.height] = [1 + (bits & 0x3fff), 1 + ((bits >> 14) & 0x3fff)];
  }
  return found;
}

// An image file as ImageData, or an Error in words that name the file and the remedy.
async function readImage(file) {
  const refuse = (why) => {
    throw new Error(`${file.name}: ${why}`);
  };
  const damaged = "damaged or truncated image; replace the file";
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (!bytes.length) refuse("empty file; use JPEG, PNG, BMP or WebP");
  let found;
  try {
    found = inspect(bytes);
  } catch {
    refuse(damaged);
  }
  const { kind, width, height, whole } = found;
  if (whole === undefined) {
    const what = kind ? ` (${kind})` : "";
    refuse(`not an image that binseg reads${what}; use JPEG, PNG, BMP or WebP`);
  }
  if (!(width >= 1 && height >= 1)) refuse(damaged);
  if (width * height > MOST_PIXELS)
    refuse(
      `${width} × ${height} pixels are more than the limit of ` +
        `${MOST_PIXELS.toLocaleString("en")}; make the image smaller or cut it into tiles`,
    );
  const size = `${width} x ${height} pixels`;
  if (Math.max(width, height) > LARGEST_RATIO * Math.min(width, height))
    refuse(`${size} are a strip too thin to segment; cut a wider piece from it`);
  if (Math.min(width, height) < SMALLEST_SIDE)
    refuse(`${size} are too small to segment; an image needs at least ${SMALLEST_SIDE} a side`);
  if (!whole) refuse(damaged);
  try {
    const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    return pixelsOf(await createImageBitmap(file, options));
  } catch {
    refuse(damaged);
  }
}

// ImageData of anything that can be drawn, with its long side at most `longest`.
function pixelsOf(source, longest = Infinity) {
  const canvas = canvasOf(source, longest, { willReadFrequently: true });
  source.close?.();
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
}

// Class ids as a PNG with a palette, as `binseg predict` writes it.
async function idsAsPng(classes, width, height, palette) {
  const rows = new Uint8Array(height * (width + 1));
  for (let y = 0; y < height; y++)
    rows.set(classes.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 8, 3, 0, 0, 0]);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  const parts = [
    new Uint8Array([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]),
    chunk("IHDR", header),
    chunk("PLTE", new Uint8Array(palette.flat())),
    chunk("IDAT", new Uint8Array(await new Response(packed).arrayBuffer())),
    chunk("IEND", new Uint8Array()),
  ];
  return new Blob(parts, { type: "image/png" });
}

function chunk(kind, content) {
  const made = new Uint8Array(12 + content.length);
  const view = new DataView(made.buffer);
  view.setUint32(0, content.length);
  made.set([...kind].map((letter) => letter.charCodeAt(0)), 4);
  made.set(content, 8);
  let crc = -1;
  for (const byte of made.subarray(4, 8 + content.length)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  view.setUint32(8 + content.length, ~crc);
  return made;
}
