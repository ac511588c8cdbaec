"""Where each figure on the pages comes from.

    python tools/figures.py           # names what differs from the results; exit status 1 if anything does
    python tools/figures.py --write   # carries the results' figures into the pages

A claim is a piece of a page with slots; its figures are computed from result files: JSON, logs, the
size of a file. The commands that made those files stand on the pages.
"""

# ruff: noqa: E501 - pieces stand here as they do on the pages
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/results"
_NUMBER = re.compile(r"(?<![\w.])[+−-]?\d[\d,]*(?:\.\d+)?(?![\w.]*\w)")


class Claim(NamedTuple):
    """A piece of a page that holds figures.

    Attributes:
        page: its file, from the root.
        text: as it stands there, with a slot of `str.format` for each figure; any white space is
            like any other.
        figures: what the results give.
    """

    page: str
    text: str
    figures: tuple[float, ...]

    def __str__(self) -> str:
        return self.text.format(*self.figures)

    @property
    def pattern(self) -> re.Pattern[str]:
        """Finds the piece with any figures in its slots."""
        pieces = [
            r"\s+".join(map(re.escape, re.split(r"\s+", piece)))
            for piece in re.split(r"\{[^}]*\}", self.text)
        ]
        return re.compile(r"[+−-]?\d[\d,]*(?:\.\d+)?".join(pieces))

    def problem(self) -> str | None:
        """What is wrong with the page; None if nothing is."""
        found = [" ".join(match[0].split()) for match in self.pattern.finditer(read(self.page))]
        if not found:
            return f"{self.page}: nowhere says: {self}"
        wrong = [piece for piece in found if piece != " ".join(str(self).split())]
        return f"{self.page}: says: {wrong[0]}\n    the results: {self}" if wrong else None


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def result(name: str) -> Any:
    """A JSON file below docs/results."""
    return json.loads((RESULTS / name).read_text())


def best(log: str) -> float:
    """The best val mIoU, or top-1, of a training's log; a file from the root."""
    found = re.findall(r"best(?: val (?:mIoU|top-1))? (0\.\d+)", read(log))
    return max(map(float, found))


# --- the shipped networks

NETWORKS = {"camvid-base": "base", "camvid-small": "small"}
"""Shipped name → row of docs/results/camvid/results.json."""
STREETS = ("street-base", "street-small")
"""Networks that learned from several cities; no image of CamVid's was kept from them."""
LEVELS = {"best": "AMX", "avx512": "AVX-512 with VNNI", "avx2": "AVX2"}
OURS, TWIN, OPENVINO = "1-bit, other layers int8", "fp32 torch channels_last", "int8 OpenVINO"
CANDIDATES = {
    OURS: "**1 bit**",
    OPENVINO: "twin, int8, OpenVINO",
    "int8 ONNX Runtime": "twin, int8, ONNX Runtime",
    "bf16 torch channels_last": "twin, bf16, torch",
    TWIN: "twin, fp32, torch",
}
WIDE = "K=1", "K=4", "K=4 no gates"
START, END = "<!-- tools/figures.py writes from here -->\n\n", "\n<!-- to here -->\n"


def bench(name: str, level: str = "best") -> Any:
    return result(f"bench/{name}_{level}/bench.json")


def milliseconds(name: str, candidate: str, level: str = "best", threads: int = 1) -> float:
    (found,) = (each for each in bench(name, level)["networks"] if each["threads"] == threads)
    return 1e3 * float(found["candidates"][candidate]["seconds"])


def megabytes(name: str) -> float:
    return (ROOT / f"binseg/models/{name}.safetensors").stat().st_size / 1e6


def on_test(name: str) -> Any:
    return result("camvid/test_split.json")["networks"][name]


def on_val(row: str, which: str = "shipped_miou") -> float:
    """mIoU on CamVid's own val."""
    rows = {each["name"]: each for each in result("camvid/results.json")["rows"]}
    return float(rows[row][which]["value"])


def times_of(name: str) -> tuple[float, ...]:
    """Milliseconds of a network and of its twin in int8 and in fp32, on one thread."""
    return tuple(milliseconds(name, candidate) for candidate in (OURS, OPENVINO, TWIN))


def file_and_times(name: str) -> Iterator[Claim]:
    """What every card says of its file and of its speed."""
    card = f"binseg/models/{name}.md"
    yield Claim(card, "| file | packed, int8 layers, {:.2f} MB |", (megabytes(name),))
    yield Claim(
        card,
        "| {:.1f} ms; its twin {:.1f} ms in int8 (OpenVINO), {:.1f} in fp32 (torch) |",
        times_of(name),
    )


def shipped_networks() -> Iterator[Claim]:
    """The README's figures, and those of the cards."""
    small = "camvid-small"
    memory = bench(small)["memory"][OURS]["peak"] / 1e6
    yield Claim(
        "README.md",
        "| {:.2f} MB | {:.1f} ms | {:.0f} MB |",
        (megabytes(small), milliseconds(small, OURS), memory),
    )
    for name, row in NETWORKS.items():
        card = f"binseg/models/{name}.md"
        scores = on_test(name)["miou"], on_test(name)["twin"]
        yield Claim(
            "README.md",
            f"| [`{name}`]({card}) | {{:.2f}} MB | {{:.1f}} | {{:.1f}} | {{:.1f}} | {{:.3f}} (twin {{:.3f}}) | {{:.3f}} |",
            (megabytes(name), *times_of(name), *scores, cities(name)["scores"]["mean_iou"]),
        )
        yield from file_and_times(name)
        yield Claim(card, "mIoU {:.3f}; its full-precision twin {:.3f} |", scores)
        yield Claim(card, "480×360) | mIoU {:.3f},", (on_val(row),))
        yield Claim(
            card, "twin, not included | mIoU {:.3f} on that val |", (on_val(f"{row}_twin"),)
        )
        (found,) = (each for each in result("camvid/results.json")["rows"] if each["name"] == row)
        for label, score in found["class_iou"].items():
            yield Claim(card, f"{label} {{:.3f}}", (score,))
    yield Claim(
        "README.md",
        "[{:.3f} and {:.3f}](docs/results/camvid/README.md)",
        tuple(on_val(row) for row in NETWORKS.values()),
    )


def cities(name: str) -> Any:
    """On streets of other cities: Cityscapes' val, with CamVid's classes."""
    return result(f"street/cities/{name}.json")


def streets() -> Iterator[Claim]:
    """The networks that learned from several cities, and all others on their streets."""
    page = "docs/results/street/README.md"
    for name in STREETS:
        card = f"binseg/models/{name}.md"
        scores = cities(name)["scores"]
        both, beside = (scores["mean_iou"],), ""
        if (RESULTS / f"street/cities/{name}-twin.json").exists():
            twin = cities(f"{name}-twin")
            both, beside = (*both, twin["scores"]["mean_iou"]), " (twin {:.3f})"
            yield Claim(
                card, "| its full-precision twin | mIoU {:.3f} on the same images |", both[1:]
            )
            corrupted = [each["mean_iou"] for each in twin["corruptions"].values()]
            row = f"| full-precision twin of `{name}` |{' {:.3f} |' * len(corrupted)}"
            yield Claim(page, row, (*corrupted,))
        yield Claim(
            "README.md",
            f"| [`{name}`]({card}) | {{:.2f}} MB | {{:.1f}} | {{:.1f}} | {{:.1f}} | not measured | {{:.3f}}{beside} |",
            (megabytes(name), *times_of(name), *both),
        )
        yield from file_and_times(name)
        yield Claim(
            card,
            "(500 images) | mIoU {:.3f}, pixel accuracy {:.3f} |",
            (scores["mean_iou"], scores["pixel_accuracy"]),
        )
        for label, found in scores["classes"].items():
            yield Claim(card, f"{label} {{:.3f}}", (found["iou"],))
    for name in (*STREETS, *NETWORKS):
        scores = [each["mean_iou"] for each in cities(name)["corruptions"].values()]
        yield Claim(page, f"| `{name}` |{' {:.3f} |' * len(scores)}", (*scores,))
    base = {key: each["mean_iou"] for key, each in cities("street-base")["corruptions"].items()}
    named = "noise σ 20", "brightness × 0.5", "contrast × 0.5", "blur σ 2"
    yield Claim(
        page,
        "`street-base` loses {:.1f} points under noise of 20 grey levels, {:.1f} at half the brightness, "
        "{:.1f} in fog (half the contrast) and, most of all, {:.1f} by blur.",
        tuple(100 * (base["clean"] - base[key]) for key in named),
    )


def class_biases() -> Iterator[Claim]:
    """What `binseg calibrate` won, and how far the networks are behind their twins with it."""
    page = "docs/results/street/README.md"
    for label, each in result("street/class_biases.json").items():
        points = [100 * each["difference"][key] for key in ("value", "low", "high")]
        row = f"| {label} | {{:.3f}} | {{:.3f}} | {{:+.1f}} ({{:+.1f}} to {{:+.1f}}) |"
        yield Claim(page, row, (each["without"], each["with"], *points))
    base, small = (cities(name)["against"] for name in STREETS)

    def points_behind(difference: Any) -> list[float]:
        return [-100 * difference[key] for key in ("value", "high", "low")]

    yield Claim(
        page,
        "`street-base` by {:.1f} points (95 %: {:.1f} to {:.1f}), most of them in pavement ({:.1f}) and cars ({:.1f}), "
        "and `street-small` by {:.1f} ({:.1f} to {:.1f})",
        (
            *points_behind(base["difference"]),
            *(-100 * base["class_differences"][name]["value"] for name in ("pavement", "car")),
            *points_behind(small["difference"]),
        ),
    )


def thirty_images() -> Iterator[Claim]:
    """A start that is trained on with thirty images of a drive that it has not seen."""
    page, found = "docs/results/finetune/README.md", result("finetune/thirty.json")
    shown = "sky", "building", "road", "tree", "car", "sign", "fence", "pedestrian", "pole"
    rows = {"the start as it is": found["before"]}
    rows |= {f"seed {seed}": each for seed, each in enumerate(found["after"])}
    rows["from a backbone instead"] = found["backbone"]
    for label, each in rows.items():
        classes = [each["classes"][name] for name in (*shown, "bicyclist")]
        yield Claim(
            page,
            f"{label} | {{:.3f}} | {{:.3f}} |{' {:.2f} |' * len(classes)}",
            (each["mean_iou"], each["pixel_accuracy"], *classes),
        )
    seconds = found["cpu_seconds"]
    yield Claim(page, "{:.0f} to {:.0f} s of processor time", (min(seconds), max(seconds)))


def drawn_streets() -> Iterator[Claim]:
    """The network `scenes` and its twin."""
    card, name = "binseg/models/scenes.md", "scenes"
    (test, val), (twin_test, twin_val) = (
        [result(f"scenes/{which}_{split}.json")["scores"] for split in ("test", "val")]
        for which in ("packed", "twin")
    )
    miou = "mean_iou"
    yield Claim("README.md", f"[`{name}`]({card}) ({{:.2f}} MB)", (megabytes(name),))
    yield Claim(
        "README.md", "mIoU {:.3f} on test scenes, its twin [{:.3f}]", (test[miou], twin_test[miou])
    )
    page = "docs/results/README.md"
    yield Claim(page, "int8 layers | {:.3f} | {:.3f} |", (test[miou], val[miou]))
    yield Claim(page, "precision twin | {:.3f} | {:.3f} |", (twin_test[miou], twin_val[miou]))
    yield Claim(card, "| file | packed, int8 layers, {:.2f} MB |", (megabytes(name),))
    yield Claim(
        card,
        "(bfloat16, {:.2f} MB), which saw fewer steps | mIoU {:.3f} on val, {:.3f} on test |",
        (megabytes(f"{name}.twin"), twin_val[miou], twin_test[miou]),
    )
    for scores, label in ((val, "320×240)"), (test, "chose nothing)")):
        figures = scores[miou], scores["pixel_accuracy"]
        yield Claim(card, f"{label} | mIoU {{:.3f}}, pixel accuracy {{:.3f}} |", figures)
    for label, found in test["classes"].items():
        yield Claim(card, f"{label} {{:.3f}}", (found["iou"],))


def measured(level: str) -> list[str]:
    """The networks that were measured on an instruction set."""
    names = *STREETS, *NETWORKS
    return [name for name in names if (RESULTS / f"bench/{name}_{level}/bench.json").exists()]


def losses() -> list[str]:
    """Where the full-precision twin in int8 is faster."""
    found = []
    for level, title in LEVELS.items():
        for name in measured(level):
            for threads, spoken in ((1, "one thread"), (2, "two threads")):
                ours, int8 = (milliseconds(name, each, level, threads) for each in (OURS, OPENVINO))
                if int8 < ours:
                    found.append(
                        f"of `{name}` with {title} on {spoken} ({int8:.1f} against {ours:.1f} ms)"
                    )
    wide = bench("full_width", "avx512")["networks"][0]["candidates"]
    int8 = 1e3 * wide[OPENVINO]["seconds"]
    for bits in WIDE:
        ours = 1e3 * wide[f"1-bit {bits}, other layers int8"]["seconds"]
        if int8 < ours:
            found.append(
                f"of the paper's full width with {bits} ({int8:.1f} against {ours:.1f} ms)"
            )
    return found


def full_width() -> str:
    """The table of the paper's network, which nobody ships: ResNet-18 of full width."""
    (found,) = bench("full_width", "avx512")["networks"]
    height, width = found["image"]
    labels = {f"1-bit {bits}, other layers int8": f"**1 bit, {bits}**" for bits in WIDE}
    labels |= {key: label for key, label in CANDIDATES.items() if key != OURS}
    rows = "".join(
        f"| {label} | {1e3 * found['candidates'][key]['seconds']:.1f} |\n"
        for key, label in labels.items()
    )
    return (
        f"### Full width\n\nGroup-Net\\*\\* as in the paper, width 64, output stride 16, FCN, random weights, an image of {width}×{height}; "
        f"{LEVELS['avx512']}, one thread.\n\n"
        f"| | ms |\n|---|---:|\n{rows}\n```sh\n"
        "binseg bench --isa avx512 --bases 1,4 --parts network --out docs/results/bench/full_width_avx512\n```\n\n"
    )


def browsers() -> str:
    """The table of the networks as WebAssembly."""
    found = {name: result(f"bench/browser/{name.lower()}.json") for name in ("Chromium", "Firefox")}
    labels = {"binseg": "**1 bit**", "twin, int8": "twin, int8, onnxruntime-web"}
    labels |= {"twin, fp32": "twin, fp32, onnxruntime-web", "first": "1 bit, the first image"}
    columns = [(name, browser) for name in found["Chromium"]["networks"] for browser in found]
    heads = [f"`{name}`, {browser}" for name, browser in columns]
    rows = ""
    for side, label in labels.items():
        cells = []
        for name, browser in columns:
            times = found[browser]["networks"][name].get(side)
            cells.append(f"{times['median']:.0f}" if times else "not measured")
        rows += f"| {label} | {' | '.join(cells)} |\n"
    versions = " and ".join(
        f"{name} {each['versions'][name.lower()].partition('.')[0]}" for name, each in found.items()
    )
    commands = "".join(
        f"python tools/bench_page.py data/CamVid/val --browser {name.lower()} --models {' '.join(each['networks'])} "
        f"--rounds {each['rounds']} --out docs/results/bench/browser/{name.lower()}.json\n"
        for name, each in found.items()
    )
    return (
        f"### In a browser\n\n{versions}, one thread, all in turns in one page; medians. 1 bit is from the image to its class map, the "
        f"first image from the model's bytes; the twins in onnxruntime-web {found['Chromium']['versions']['onnxruntime-web']} are from the "
        "network's input to scores on the grid of its head, without shrinking the image, enlarging the scores and choosing classes. The machine was slow in that hour, for all alike: compare down a column.\n\n"
        f"| | {' | '.join(heads)} |\n|---{'|---:' * len(heads)}|\n{rows}\n```sh\n"
        f"npm install --prefix build/ort onnxruntime-web\n{commands}```\n\n"
    )


def speed() -> str:
    """The tables of docs/results/speed.md: milliseconds on each instruction set that was measured."""
    text = (
        "**Where 1 bit loses.** The full-precision twins that are trained score higher. In int8 by OpenVINO the twin is faster, "
        f"too: {'; '.join(losses()) or 'nowhere'}. Elsewhere below, 1 bit is.\n\n## Milliseconds\n\n"
    )
    for level, title in LEVELS.items():
        if not (names := measured(level)):
            continue
        heads = [f"`{name}`, {number}" for name in names for number in ("one thread", "two")]
        text += f"### {title}\n\n| | {' | '.join(heads)} |\n|---{'|---:' * len(heads)}|\n"
        for candidate, label in CANDIDATES.items():
            cells = [
                f"{milliseconds(name, candidate, level, threads):.1f}"
                for name in names
                for threads in (1, 2)
            ]
            text += f"| {label} | {' | '.join(cells)} |\n"
        text += "\n```sh\n"
        for name in names:
            parts = "" if "size" in bench(name, level) else " --parts network"
            held = "" if level == "best" else f" --isa {level}"
            text += f"binseg bench {name} --size '[360,480]' --threads 1,2{parts}{held} --out docs/results/bench/{name}_{level}\n"
        text += "```\n\n"
        if busy := [name for name in names if not bench(name, level)["load_during"]["idle"]]:
            text += (
                f"Other programs were at work while {' and '.join(f'`{name}`' for name in busy)} ran: its times are too long, "
                "those of all candidates alike.\n\n"
            )
    text += full_width()
    text += browsers()
    text += "## File, memory, start\n\n| | file | peak memory of the process | to the first class map |\n|---|---:|---:|---:|\n"
    for name in measured("best"):
        found = bench(name)
        for key, label in (("fp32 twin", "twin, fp32, torch"), (OURS, "**1 bit**")):
            size, peak = found["size"][key]["bytes"], found["memory"][key]["peak"]
            start = found["startup"][key]["seconds"]
            text += f"| `{name}`, {label} | {size / 1e6:.2f} MB | {peak / 1e6:.0f} MB | {start:.1f} s |\n"
        for key in ("int8 OpenVINO", "int8 ONNX Runtime"):
            text += f"| `{name}`, twin, {key} | {found['size'][key]['bytes'] / 1e6:.2f} MB | | |\n"
        start = found["startup"][f"{OURS}, binseg-run"]["seconds"]
        text += f"| `{name}`, 1 bit, by `binseg-run` | | | {start:.2f} s |\n"
    return text


def along_the_front() -> Iterator[Claim]:
    """What is said of that table."""
    found = result("street/front.json")["networks"]

    def at(label: str, level: str = "AVX-512") -> tuple[float, float]:
        return found[label]["mean_iou"], found[label]["ms"][level]

    (small, slow), (half, quick) = at("street-small, int8 twin, 360"), at("street-base, 1 bit, 180")
    yield Claim(
        "docs/results/street/README.md",
        "With AVX-512, `street-base` at 180 pixels has {:.3f} in {:.1f} ms, for which the twin of `street-small` in int8 takes {:.1f} ms ({:.3f}), "
        "and at 270 pixels {:.3f} in {:.1f} ms, between its own twin at 180 ({:.3f} in {:.1f} ms) and at 270 ({:.3f} in {:.1f} ms).",
        (half, quick, slow, small, *at("street-base, 1 bit, 270"), *at("street-base, int8 twin, 180"), *at("street-base, int8 twin, 270")),
    )  # fmt: skip
    ours, milliseconds = at("street-base, 1 bit, 270", "AVX2")
    better = [at(label, "AVX2") for label in found if "int8" in label]
    yield Claim(
        "docs/results/street/README.md",
        "With AVX2 nothing in int8 below {:.1f} ms scores as high as `street-base` does in {:.1f}.",
        (min(time for score, time in better if score >= ours), milliseconds),
    )


def front() -> str:
    """The table of the street networks and their int8 twins at several image sizes."""
    found = result("street/front.json")["networks"]
    levels = list(next(iter(found.values()))["ms"])
    text = f"| | short side | mIoU | MB | {' | '.join(f'ms, {level}' for level in levels)} |\n"
    text += f"|---|---:|---:|---:|{'---:|' * len(levels)}\n"
    for label, each in found.items():
        name, kind, side = label.split(", ")
        kind = "**1 bit**" if kind == "1 bit" else kind
        cells = " | ".join(f"{each['ms'][level]:.1f}" for level in levels)
        text += f"| `{name}`, {kind} | {side} | {each['mean_iou']:.3f} | {each['bytes'] / 1e6:.2f} | {cells} |\n"
    return text


BLOCKS = {"docs/results/speed.md": speed, "docs/results/street/README.md": front}
"""Page → what stands between its marks."""


def scored_elsewhere() -> Iterator[Claim]:
    """What was scored elsewhere is written down once, and every page agrees with it."""
    page = "docs/results/camvid/README.md"
    for name in NETWORKS:
        found = on_test(name)
        figures = found["miou"], found["twin"], found["below"], *found["interval"]
        yield Claim(
            page, f"| `{name}` | {{:.3f}} | {{:.3f}} | {{:.1f}} ({{:.1f}} to {{:.1f}}) |", figures
        )
        yield Claim(
            f"binseg/models/{name}.md",
            "mIoU of {:.3f} and its full-precision twin {:.3f} ({:.1f} points; 95 % interval {:.1f} to {:.1f})",
            figures,
        )
    yield Claim(page, "| teacher | {:.3f} | | |", (on_test("teacher")["miou"],))
    base, small = (on_test(name) for name in NETWORKS)
    scores = base["miou"], base["twin"], small["miou"], small["twin"]
    yield Claim(
        "docs/results/claims/README.md",
        "`camvid-base` is {:.1f} points below its twin ({:.3f} and {:.3f}; 95 % interval {:.1f} to {:.1f}),",
        (base["below"], base["miou"], base["twin"], *base["interval"]),
    )
    yield Claim(
        "docs/results/claims/README.md",
        "`camvid-small` {:.1f} ({:.3f} and {:.3f}; {:.1f} to {:.1f})",
        (small["below"], small["miou"], small["twin"], *small["interval"]),
    )
    yield Claim(
        "weights/README.md",
        "`camvid-base` {:.3f} and its twin {:.3f}, `camvid-small` {:.3f} and its twin {:.3f}, the teacher {:.3f}.",
        (*scores, on_test("teacher")["miou"]),
    )


# --- tables by network, as `binseg compare` writes them

Figures = Callable[[Any], tuple[float, ...]]


def _mean(key: str) -> Figures:
    def figures(row: Any) -> tuple[float, ...]:
        mean = row[key]
        if mean is None:
            return ()
        return (mean["value"],) if mean["deviation"] is None else tuple(mean.values())

    return figures


def _one(key: str, unit: float = 1.0) -> Figures:
    return lambda row: (row[key] / unit,) if row[key] else ()


COLUMNS: dict[str, Figures] = {
    "mIoU trained": _mean("trained_miou"),
    "shipped": _mean("shipped_miou"),
    "− full": _mean("difference"),
    "ms": _one("milliseconds"),
    "× faster": _one("faster"),
    "MB": _one("bytes", 1e6),
    "1-bit GMACs": _one("binary_macs", 1e9),
    "real GMACs": _one("real_macs", 1e9),
    "params": lambda row: ((row["binary_parameters"] + row["real_parameters"]) / 1e6,),
    "minutes": _one("minutes"),
}


def compared(page: str, results: str) -> Iterator[Claim]:
    """Every row of the page's tables whose first cell names a network of `results`."""
    rows = {row["name"]: row for row in result(results)["rows"]}
    header: list[str] = []
    for line in read(page).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            header = []
        elif not header:
            header = cells
        elif cells[0] in rows and header[0] == "network":
            yield _row(page, line, header, cells, rows[cells[0]])


def _row(page: str, line: str, header: Sequence[str], cells: Sequence[str], row: Any) -> Claim:
    slots, figures = [], []
    for name, cell in zip(header, cells, strict=True):
        share = (row.get("class_iou") or {}).get(name)
        if name in COLUMNS or share is not None:
            figures += COLUMNS[name](row) if share is None else (100 * share,)
            cell = _NUMBER.sub(_slot, cell)
        slots.append(cell)
    text = f"| {' | '.join(slots)} |"
    if text.count("{") != len(figures):
        raise ValueError(f"{page}: this row has more or fewer figures than the results: {line}")
    return Claim(page, text, tuple(figures))


def _slot(number: re.Match[str]) -> str:
    """A slot that shows as many places as the page does."""
    sign = "+" if number[0][0] in "+-" else ""
    return f"{{:{sign}.{len(number[0].partition('.')[2])}f}}"


def tables() -> Iterator[Claim]:
    for name in ("camvid", "claims", "claims/cityscapes"):
        yield from compared(f"docs/results/{name}/README.md", f"{name}/results.json")
    for name in ("camvid", "claims", "claims/cityscapes", "compare_scenes"):
        yield from compared(f"docs/results/{name}/results.md", f"{name}/results.json")


# --- single results


CAMVID, ABLATIONS = "docs/results/camvid", "docs/results/ablations"
LOGS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "docs/how-to/train.md",
        "reached a val mIoU of {:.3f}, and its full-precision twin {:.3f}",
        (f"{CAMVID}/scratch_base.log", f"{CAMVID}/scratch_twin.log"),
    ),
    (
        "docs/results/claims/README.md",
        "| [VOC animals](../voc_animals/README.md), 8 epochs | {:.3f} | {:.3f} |",
        ("docs/results/voc_animals/groupnet18_bpac.log", "docs/results/voc_animals/twin.log"),
    ),
    (
        "docs/results/claims/README.md",
        "36 epochs from scratch | {:.3f} | {:.3f} |",
        (f"{CAMVID}/scratch_base.log", f"{CAMVID}/scratch_twin.log"),
    ),
    (
        f"{CAMVID}/README.md",
        "crops scaled by 0.5 to 2 | {:.3f} | **{:.3f}** |",
        ("weights/camvid_base_start.log", "weights/camvid_base.log"),
    ),
    (
        f"{CAMVID}/README.md",
        "([log](scratch_twin.log)) | nothing | 360×270, FCN-8s | 36 | {:.3f} |",
        (f"{CAMVID}/scratch_twin.log",),
    ),
    (
        f"{CAMVID}/README.md",
        "([log](scratch_base.log)) | nothing | 360×270, FCN-8s | 36 | {:.3f} |",
        (f"{CAMVID}/scratch_base.log",),
    ),
    (
        f"{CAMVID}/README.md",
        "([log](scratch_resnete18.log)) | nothing | 360×270, FCN-8s | 36 | {:.3f} |",
        (f"{CAMVID}/scratch_resnete18.log",),
    ),
    (
        f"{CAMVID}/README.md",
        "top-1 {:.3f} | 480×360, FCN-4s | 14 | {:.3f} |",
        ("weights/tiny_imagenet_groupnet18_twin.log", f"{CAMVID}/twin_start.log"),
    ),
    (
        f"{CAMVID}/README.md",
        "[base_first.yaml](base_first.yaml) | twin_start | the same | 20 | {:.3f} |",
        (f"{CAMVID}/base_first.log",),
    ),
    (
        f"{CAMVID}/README.md",
        "| base_first | the same | 12 more | {:.3f} |",
        (f"{CAMVID}/base_second.log",),
    ),
    (
        f"{CAMVID}/README.md",
        "scaled by 0.8 to 1.5 | 60 more | {:.3f} |",
        ("weights/camvid_base_start.log",),
    ),
    (f"{ABLATIONS}/README.md", "| ResNetE-18 | {:.3f} |", (f"{CAMVID}/scratch_resnete18.log",)),
    (
        f"{ABLATIONS}/README.md",
        "| twin of Group-Net\\*\\* | {:.3f} |",
        (f"{CAMVID}/scratch_twin.log",),
    ),
    (
        "docs/results/voc_animals/README.md",
        "| **mean** | **{:.3f}** |",
        ("docs/results/voc_animals/groupnet18_bpac.log",),
    ),
    (
        "weights/README.md",
        "| `camvid_base_start.safetensors` | the K = 2 network that `camvid_base` began at, taught by the FPN, val mIoU {:.3f};",
        ("weights/camvid_base_start.log",),
    ),
    (
        "weights/README.md",
        "9 epochs, top-1 {:.3f} on",
        ("weights/tiny_imagenet_groupnet18_twin.log",),
    ),
    ("weights/README.md", "3 epochs, top-1 {:.3f};", ("weights/tiny_imagenet_groupnet18_k2.log",)),
    (
        "weights/README.md",
        "(`distillation.sees pictures`); top-1 {:.3f};",
        ("weights/tiny_imagenet_imitation_twin.log",),
    ),
)
"""Page, piece of it, and the log of each figure."""


def trainings() -> Iterator[Claim]:
    """Scores of trainings whose logs are kept."""
    for page, text, logs in LOGS:
        yield Claim(page, text, tuple(map(best, logs)))
    yield from ablations()
    table = read("weights/README.md").splitlines()
    for row in ("base", "base_twin", "small", "small_twin", "teacher"):
        (line,) = (each for each in table if each.startswith(f"| `camvid_{row}.safetensors`"))
        text = re.sub(r"val mIoU 0\.\d+", "val mIoU {:.3f}", line)
        yield Claim("weights/README.md", text, (on_val(row, "trained_miou"),))


def ablations() -> Iterator[Claim]:
    """Runs that share a log, where each line begins with the run's name."""
    log = read(f"{ABLATIONS}/scenes.log") + read(f"{ABLATIONS}/pretraining.log")
    scores = dict(re.findall(r"^(.+?)  best val (?:mIoU|top-1) (0\.\d+)", log, re.MULTILINE))
    for name, label in (
        ("base", "BPAC, a gate for each branch"),
        ("off", "without BPAC (ordinary dilation)"),
        ("nogates", "without gates"),
    ):
        seeds = [float(scores[f"{name}_s{seed}"]) for seed in range(3)]
        yield Claim(
            f"{ABLATIONS}/README.md",
            f"| {label} | {{:.3f}} | {{:.3f}} | {{:.3f}} | {{:.3f}} |",
            (*seeds, sum(seeds) / 3),
        )
    for label, name in (("from scratch", "from scratch"), ("pretrained backbone", "pretrained")):
        (half,) = re.findall(rf"camvid, {name}  epoch 8/16 .* val mIoU (0\.\d+)", log)
        mark = "**" if name == "pretrained" else ""
        yield Claim(
            f"{ABLATIONS}/README.md",
            f"| {label} | {{:.3f}} | {mark}{{:.3f}}{mark} |",
            (float(half), float(scores[f"camvid, {name}"])),
        )


def structure() -> Iterator[Claim]:
    """Sizes of classifiers, as docs/results/structure.py computed them."""
    rows = {
        line.split(" | ")[0].strip("| "): line.split(" | ")
        for line in read("docs/results/structure.md").splitlines()
    }
    names = "resnete18", "binarydensenet28", "binarydensenet37", "binarydensenet45"
    yield Claim(
        "docs/networks.md",
        "BinaryDenseNet-28, 37 and 45 take {:.2f}, {:.2f}, {:.2f} and {:.2f} MiB",
        tuple(float(rows[name][5]) for name in names),
    )


def packing() -> Iterator[Claim]:
    lines = read("docs/results/pack/bytes.txt").splitlines()
    sizes = {name: int(size) for size, name in map(str.split, lines)}
    for kind in ("trained", "fp32", "bf16", "int8"):
        label = kind if kind == "trained" else f"packed, {kind} layers"
        scores = result(f"pack/{kind}.json")
        yield Claim(
            "docs/results/README.md",
            f"| {label} | {{:.2f}} MB | {{:.3f}} |",
            (sizes[f"{kind}.safetensors"] / 1e6, scores["scores"]["mean_iou"]),
        )
    yield Claim("docs/results/README.md", "earlier calibration and has {:.3f}.", (on_val("base"),))


def training_step() -> Iterator[Claim]:
    found = result("training_step.json")
    for dtype in ("fp32", "bf16"):
        seconds = [
            found["seconds_a_step"][f"{each} {dtype}"] for each in ("twin", "K=1", "K=2", "K=4")
        ]
        yield Claim(
            "docs/results/README.md",
            f"| {dtype} | {{:.2f}} | {{:.2f}} | {{:.2f}} | {{:.2f}} |",
            (*seconds,),
        )
    blocks = found["seconds_a_block"]
    more = [
        100 * (blocks[f"{each} loop"] / blocks[f"{each} grouped"] - 1)
        for each in ("K=2 fp32", "K=2 bf16", "K=4 fp32", "K=4 bf16")
    ]
    yield Claim(
        "docs/results/README.md",
        "a loop over them took {:.0f} to {:.0f} % longer",
        (min(more), max(more)),
    )


def loader() -> Iterator[Claim]:
    found = result("loader/loader.json")
    speeds = [each["pictures_per_second"] for each in found["loader"] if not each["cache"]]
    page = "docs/results/README.md"
    yield Claim(
        page,
        "the loader gave {:.0f} images a second in the training process, {:.0f} with one worker and {:.0f} with two",
        (*speeds,),
    )
    training = {name: 1e3 * seconds for name, seconds in found["training"].items()}
    parts = "read image", "read mask, train ids", "scale and crop", "normalize"
    yield Claim(
        page,
        "Of {:.1f} ms an image {:.1f} go to decoding it, {:.1f} to its mask, {:.1f} to scale and crop, {:.1f} to normalizing",
        (sum(training.values()), *(training[part] for part in parts)),
    )
    scoring = {name: 1e3 * seconds for name, seconds in found["scoring"].items()}
    reading = scoring["read image"] + scoring["read mask, train ids"]
    yield Claim(
        page,
        "{:.1f} ms for the confusion matrix and {:.1f} for Boundary IoU beside {:.1f} for reading",
        (scoring["confusion matrix"], scoring["Boundary IoU"], reading),
    )


def demo_load() -> Iterator[Claim]:
    found = result("demo/load.json")
    yield Claim(
        "docs/results/README.md",
        "With {:.0f} clients at once for a minute (two cores of an AMD EPYC, Zen 4) {:.0f} requests were answered, "
        "half of them within {:.1f} s and 99 % within {:.1f}, {:.0f} were told that the queue is full, none failed, "
        "and the server's memory stayed at {:.1f} GB",
        (
            found["clients"],
            found["answers"]["ok"],
            found["percentiles"]["p50"],
            found["percentiles"]["p99"],
            found["answers"]["queue full"],
            found["memory"][-1][1] / 1e9,
        ),
    )


SOURCES: tuple[Callable[[], Iterator[Claim]], ...] = (
    shipped_networks,
    streets,
    class_biases,
    along_the_front,
    thirty_images,
    drawn_streets,
    scored_elsewhere,
    tables,
    trainings,
    structure,
    packing,
    training_step,
    loader,
    demo_load,
)


def claims() -> list[Claim]:
    """All of them."""
    return [claim for source in SOURCES for claim in source()]


def block_problem(page: str) -> str | None:
    """What is wrong with a page whose tables are written from the results."""
    if f"{START}{BLOCKS[page]()}{END}" in read(page):
        return None
    return f"{page}: is not what the results give; run python tools/figures.py --write"


def write(claim: Claim) -> None:
    """Carry a claim's figures into its page; the page's line breaks stay."""

    def renewed(match: re.Match[str]) -> str:
        words = iter(str(claim).split())
        return re.sub(r"\S+", lambda _: next(words), match[0])

    path = ROOT / claim.page
    path.write_text(claim.pattern.sub(renewed, read(claim.page)), encoding="utf-8")


def write_block(page: str) -> None:
    before, rest = read(page).split(START)
    text = f"{before}{START}{BLOCKS[page]()}{END}{rest.split(END)[1]}"
    (ROOT / page).write_text(text, encoding="utf-8")


def main() -> int:
    if sys.argv[1:] == ["--write"]:
        for page in BLOCKS:
            write_block(page)
        for claim in claims():
            write(claim)
    problems = [*map(Claim.problem, claims()), *map(block_problem, BLOCKS)]
    found = [problem for problem in problems if problem]
    print("\n".join(found) or f"{len(problems)} pieces agree with the results")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
