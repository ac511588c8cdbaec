"""Networks as a web page that needs no server: they run in the visitor's tab, as WebAssembly."""

import base64
import hashlib
import html
import json
import re
import shutil
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from binseg.atomic import atomic_path
from binseg.data.image_formats import HEAD_BYTES, format_of
from binseg.data.imageio import image_size
from binseg.data.scenes import draw_scene
from binseg.errors import BinsegError
from binseg.program.file import read_program
from binseg.shipped import resolve, shipped_models

WEB = Path(__file__).parent / "web"
"""What a page is made of."""
MODULES = ("binseg.wasm", "binseg-relaxed.wasm", "binseg-x86.wasm")
"""libbinseg as tools/build_wasm.py builds it: for all browsers, for those with fused multiply-add,
and for those of them on x86."""

_SCRIPTS = ("images.js", "view.js", "page.js")
_STYLES = ("view.css", "page.css")
_PARTS = ("binseg.js", *MODULES)
_READ = ("JPEG", "PNG", "BMP", "WebP")
_SCENE = (6, 21), (360, 480)
_DRAWN = "drawn scene.png"  # page.js knows it by this name
_UNKNOWN_TERMS = (
    "the author of these weights has stated no terms; those of the training data apply."
)
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "img-src blob: data:",
        "media-src blob:",
    )
)


def write_page(models: Sequence[str | Path], out: Path, examples: Sequence[Path] = ()) -> int:
    """Write a page that segments images, videos and the camera with packed networks.

    Args:
        models: packed model files, or names of shipped ones; the page offers them in this order.
        out: one HTML file with everything in it if it ends in .html, which works from a disk; else
            a folder for any static host.
        examples: images that the page offers, the first of which it begins with. Without any, a
            drawn scene for the networks that learned from such scenes, and none for others.

    Returns:
        The bytes of all that was written.

    Raises:
        BinsegError: no packed network, an image that browsers do not show, two models of one name,
            or the page cannot be written.
    """
    files: dict[str, bytes] = {name: (WEB / name).read_bytes() for name in _PARTS}
    offered = []
    for model in models:
        path = resolve(model)
        _, header = read_program(path)
        name = path.name.removesuffix(".safetensors")
        stored = f"models/{path.name}"
        if stored in files:
            raise BinsegError(f"{model}: the page has a network of that name; rename the file")
        files[stored] = path.read_bytes()
        labels = header["labels"]
        drawn = not examples and isinstance(labels, dict) and labels.get("name") == "scenes"
        offered.append(
            {"name": name, "file": stored, "terms": _terms(path, header), "drawn": drawn}
        )
    shown = {path.name: _example(path) for path in examples}
    if len(shown) < len(examples):
        raise BinsegError("two examples have the same name; rename one")
    files |= shown
    setup = {"models": offered, "examples": list(shown), "terms": _UNKNOWN_TERMS}
    if any(each["drawn"] for each in offered):
        files[_DRAWN] = _scene()
    if out.suffix.lower() in (".html", ".htm"):
        if out.is_dir():
            raise BinsegError(f"{out}: a folder; give the name of a file, or another folder")
        return _write(out, _single(setup, files))
    return _write_folder(out, setup, files)


def _terms(path: Path, header: dict[str, object]) -> str | None:
    """The terms in the file's header, else those on the card of a shipped model."""
    training = header.get("training")
    if isinstance(training, dict) and "terms" in training:
        return str(training["terms"])
    cards = [model.card for model in shipped_models().values() if model.path == path]
    if not cards:
        return None
    found = re.search(r"^## Data and terms\n+(.*?)(?=\n##|\Z)", cards[0].read_text(), re.M | re.S)
    if not found:
        return None
    plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", found[1]).replace("`", "")
    return " ".join(plain.split())


def _example(path: Path) -> bytes:
    image_size(path)  # which refuses what is no image
    content = path.read_bytes()
    kind = format_of(content[:HEAD_BYTES])
    if kind not in _READ:
        raise BinsegError(f"{path}: browsers show no {kind}; use {', '.join(_READ)}")
    return content


def _scene() -> bytes:
    from PIL import Image

    (seed, index), size = _SCENE
    buffer = BytesIO()
    Image.fromarray(draw_scene(seed, index, size).image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _filled(setup: dict[str, object], *, policy: str, style: str, data: str, script: str) -> bytes:
    text = json.dumps(setup, ensure_ascii=False).replace("<", "\\u003c")
    parts = {
        "csp": html.escape(f"{_POLICY}; {policy}", quote=False),
        "title": "binseg",
        "style": style,
        "data": f'<script type="application/json" id="setup">{text}</script>{data}',
        "script": script,
    }
    page = (WEB / "index.html").read_text()
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], page).encode()


def _single(setup: dict[str, object], files: dict[str, bytes]) -> bytes:
    """One file: whatever a page would fetch is in it, in base64."""
    style, script = (_joined(names) for names in (_STYLES, _SCRIPTS))
    policy = (
        f"script-src {_hash(script)} 'wasm-unsafe-eval'; style-src {_hash(style)}; worker-src blob:"
    )
    data = "".join(
        f'\n<script type="application/octet-stream" id="file:{html.escape(name)}">'
        f"{base64.b64encode(content).decode()}</script>"
        for name, content in files.items()
    )
    return _filled(
        setup,
        policy=policy,
        style=f"<style>{style}</style>",
        data=data,
        script=f"<script>{script}</script>",
    )


def _joined(names: Sequence[str]) -> str:
    return "\n".join((WEB / name).read_text() for name in names)


def _hash(text: str) -> str:
    """A source of the content security policy that allows this very text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _write_folder(out: Path, setup: dict[str, object], files: dict[str, bytes]) -> int:
    if out.exists() and not out.is_dir():
        raise BinsegError(f"{out}: a file; give a folder, or a name that ends in .html")
    if out.is_dir() and any(out.iterdir()) and not _is_page(out / "index.html"):
        raise BinsegError(f"{out}: holds other files; give a new folder")
    policy = (
        "script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; "
        "worker-src 'self'"
    )
    files = files | {name: (WEB / name).read_bytes() for name in (*_SCRIPTS, *_STYLES)}
    index = _filled(
        setup,
        policy=policy,
        style="\n".join(f'<link rel="stylesheet" href="{name}">' for name in _STYLES),
        data="",
        script="\n".join(f'<script src="{name}"></script>' for name in _SCRIPTS),
    )
    if (old := out / "models").is_dir():
        shutil.rmtree(old)
    return sum(_write(out / name, content) for name, content in files.items()) + _write(
        out / "index.html", index
    )


def _is_page(index: Path) -> bool:
    """Whether a page was written there before."""
    return index.is_file() and 'id="setup"' in index.read_text(errors="replace")


def _write(path: Path, content: bytes) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BinsegError(f"{path.parent}: cannot be made ({error.strerror})") from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return len(content)
