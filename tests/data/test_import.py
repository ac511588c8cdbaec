"""Annotations of other tools become a folder that binseg's own reader takes."""

import base64
import io
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from binseg.cli.main import main
from binseg.data.datasets import FolderDataset
from binseg.data.importing.label_studio import decode_brush
from binseg.data.importing.paint import inside
from binseg.data.importing.source import Region
from binseg.data.label_table import LabelTable
from binseg.data.labels_yaml import read_labels_yaml

H, W = 24, 32


def draw(path: Path, size: tuple[int, int] = (H, W), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def png(array: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format=kind)
    return buffer.getvalue()


def square(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def imported(source: Path, out: Path, *options: str) -> tuple[dict[str, np.ndarray], LabelTable]:
    """Masks by name as binseg's folder reader gives them, and the classes."""
    assert main(["data", "import", str(source), "--out", str(out), *options]) == 0
    table = read_labels_yaml(out / "labels.yaml")
    if not (out / "train.txt").exists():
        names = sorted(path.stem for path in (out / "images").iterdir())
        (out / "train.txt").write_text("\n".join(names))
        (out / "val.txt").write_text("\n".join(names))
    found = {}
    for split in ("train", "val"):
        dataset = FolderDataset(out, split)
        found |= {dataset.sample_name(i): dataset[i].labels for i in range(len(dataset))}
    return found, table


def labelme(folder: Path, name: str, shapes: list[dict], **more: object) -> None:
    draw(folder / f"{name}.jpg")
    data = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"{name}.jpg",
        "imageData": None,
        "imageHeight": H,
        "imageWidth": W,
        **more,
    }
    (folder / f"{name}.json").write_text(json.dumps(data))


def test_labelme_shapes_of_all_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = tmp_path / "labelme"
    part = np.zeros((4, 5), np.uint8)
    part[1:, :] = 255
    shapes = [
        {"label": "road", "points": square(0, 12, 32, 24), "shape_type": "polygon"},
        {"label": "car", "points": [[4, 14], [12, 20]], "shape_type": "rectangle"},
        {"label": "sun", "points": [[25, 5], [28, 5]], "shape_type": "circle"},
        {"label": "car", "points": [[20, 15], [24, 18]], "shape_type": "mask",
         "mask": base64.b64encode(png(part)).decode()},
        {"label": "wire", "points": [[0, 0], [9, 9]], "shape_type": "line"},
    ]  # fmt: skip
    labelme(source, "a", shapes)
    labelme(source, "b", [])
    (source / "b.jpg").unlink()
    masks, table = imported(source, tmp_path / "out")
    assert table.names == ("background", "road", "car", "sun")
    mask = masks["a"]
    assert (mask[21:] == 1).all()
    assert (mask[15:19, 5:11] == 2).all()  # later shapes lie above earlier ones
    assert mask[16, 20] == 2
    assert mask[15, 20] == 1
    assert mask[5, 25] == 3
    assert mask[1, 1] == 0
    # the circle's area, by hand: π · 3²
    assert abs(int((mask == 3).sum()) - 28.3) < 4
    told = capsys.readouterr().out
    assert "Labelme JSON" in told
    assert "1 shapes of kind 'line' have no area: left out (a)" in told
    assert "1 annotation files without their image: left out (b)" in told
    assert "1 images" in told


def test_a_mask_of_a_labelme_shape_is_bounded(tmp_path: Path, capsys):
    bomb = png(np.zeros((1, 1), np.uint8))
    header = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + bomb[24:29]
    bomb = bomb[:12] + header + zlib.crc32(header).to_bytes(4, "big") + bomb[33:]
    shape = {"label": "a", "points": [[0, 0], [1, 1]], "shape_type": "mask"}
    for content, says in (
        (bomb, "30000 × 30000 pixels are more than the limit"),
        (png(np.zeros((2, 2, 3), np.uint8)), "the mask holds colours"),
        (b"no image", "not an image"),
    ):
        source = tmp_path / "labelme"
        labelme(source, "a", [{**shape, "mask": base64.b64encode(content).decode()}])
        assert main(["data", "import", str(source), "--out", str(tmp_path / "out")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "a.json" in line
        assert says in line


def test_polygons_cover_the_pixels_whose_centres_they_hold():
    """Against the crossing-number rule, computed for each pixel's centre."""
    rng = np.random.default_rng(0)
    wrong = pixels = 0
    for _ in range(40):
        rings = tuple(rng.uniform(-6, 38, (n, 2)) for n in rng.integers(3, 9, 2))
        found = inside(Region("x", rings), (H, W))
        y, x = np.mgrid[:H, :W] + 0.5
        odd = np.zeros((H, W), bool)
        for ring in rings:
            for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                crosses = (y0 > y) != (y1 > y)
                odd ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        wrong += int((found != odd).sum())
        pixels += odd.size
    # outlines are a fifth of a pixel wide
    assert wrong / pixels < 0.02


def test_labelme_image_inside_the_json(tmp_path: Path):
    source = tmp_path / "labelme"
    inside = png(np.zeros((H, W, 3), np.uint8))
    shape = {"label": "x", "points": square(0, 0, 16, 24), "shape_type": "polygon"}
    labelme(source, "a", [shape], imageData=base64.b64encode(inside).decode())
    (source / "a.jpg").unlink()
    masks, _ = imported(source, tmp_path / "out")
    assert (masks["a"][:, :15] == 1).all()
    assert (masks["a"][:, 17:] == 0).all()


def coco(folder: Path) -> Path:
    """Two images; the second has run lengths that are crowds, and an unknown category."""
    for name in ("one", "two"):
        draw(folder / "images" / f"{name}.png")
    counts = [0, H * 4, H * 28]  # column by column: the first four columns
    data = {
        "images": [
            {"id": 7, "file_name": "one.png", "height": H, "width": W},
            {"id": 8, "file_name": "sub/two.png", "height": H, "width": W},
            {"id": 9, "file_name": "gone.png", "height": H, "width": W},
        ],
        "categories": [{"id": 3, "name": "person"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 5, "iscrowd": 0,
             "segmentation": [[10, 5, 14, 5, 14, 9, 10, 9]]},
            {"image_id": 7, "category_id": 3, "iscrowd": 0,
             "segmentation": [[4, 0, 24, 0, 24, 20, 4, 20]]},
            {"image_id": 8, "category_id": 3, "iscrowd": 1,
             "segmentation": {"size": [H, W], "counts": counts}},
            {"image_id": 8, "category_id": 99, "iscrowd": 0, "segmentation": [[0, 0, 9, 0, 9, 9]]},
            {"image_id": 8, "category_id": 5, "iscrowd": 0, "bbox": [0, 0, 3, 3]},
        ],
    }  # fmt: skip
    path = folder / "annotations.json"
    path.write_text(json.dumps(data))
    return path


def test_coco(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    coco(tmp_path / "coco")
    masks, table = imported(tmp_path / "coco", tmp_path / "out")
    assert table.names == ("background", "person", "dog")
    assert (masks["one"][6:8, 11:13] == 2).all()  # the smaller object is on top
    assert masks["one"][15, 15] == 1
    assert (masks["two"][:, :4] == 255).all()
    assert (masks["two"][:, 4:] == 0).all()
    told = capsys.readouterr().out
    for line in (
        "1 crowds: ignored (255) (sub/two.png)",
        "1 objects of unknown category 99: left out",
        "1 objects with a box but no outline: left out",
        "1 annotated images are missing: left out (gone.png)",
    ):
        assert line in told


def test_coco_files_of_two_splits(tmp_path: Path):
    for split in ("train", "val"):
        folder = tmp_path / "coco"
        draw(folder / f"{split}2017" / f"{split}.jpg")
        data = {
            "images": [{"id": 1, "file_name": f"{split}.jpg", "height": H, "width": W}],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [],
        }
        (folder / f"instances_{split}2017.json").write_text(json.dumps(data))
    imported(tmp_path / "coco", tmp_path / "out")
    assert (tmp_path / "out/train.txt").read_text() == "train\n"
    assert (tmp_path / "out/val.txt").read_text() == "val\n"


def test_yolo(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = tmp_path / "yolo"
    for split in ("train", "val"):
        draw(root / "images" / split / f"{split}.jpg")
        (root / "labels" / split).mkdir(parents=True)
    draw(root / "images" / "train" / "lonely.jpg")
    (root / "labels/train/train.txt").write_text(
        "1 0 0 0.5 0 0.5 1 0 1\n0 0.5 0.5 0.2 0.2\n7 0 0 1 0 1 1\n"
    )
    (root / "labels/val/val.txt").write_text("")
    (root / "data.yaml").write_text("names: {0: cat, 1: dog}\ntrain: images/train\n")
    masks, table = imported(root, tmp_path / "out")
    assert table.names == ("background", "cat", "dog")
    assert (masks["train"][:, : W // 2 - 1] == 2).all()
    assert (masks["train"][:, W // 2 + 1 :] == 0).all()
    assert (masks["val"] == 0).all()
    told = capsys.readouterr().out
    assert "1 boxes without an outline: left out (train)" in told
    assert "1 objects of unknown class 7: left out" in told
    assert "1 images without a label file: left out (lonely)" in told
    assert "(1 train, 1 val)" in told


def heic(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))


def renamed(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


HEIC_NOTE = (
    "1 files left out: HEIC, which binseg does not read; convert it to JPEG or PNG (phone.heic)"
)


def test_yolo_images_are_told_by_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = tmp_path / "yolo"
    for name, new in (("a.jpg", "a.jfif"), ("b.png", "b"), ("c.jpg", "c.img")):
        renamed(draw(root / "images" / name), new)
    (root / "labels").mkdir()
    for name in ("a", "b", "c", "phone"):
        (root / "labels" / f"{name}.txt").write_text("0 0 0 1 0 1 1\n")
    heic(root / "images/phone.heic")
    (root / "data.yaml").write_text("names: [cat]\n")
    masks, _ = imported(root, tmp_path / "out")
    assert masks.keys() == {"a", "b", "c"}
    written = sorted(path.name for path in (tmp_path / "out/images").iterdir())
    assert written == ["a.jpg", "b.png", "c.jpg"]
    assert HEIC_NOTE in capsys.readouterr().out


@pytest.mark.parametrize("tool", ["labelme", "coco", "label-studio"])
def test_images_of_annotations_are_told_by_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tool: str
):
    source = tmp_path / "source"
    if tool == "labelme":
        for name in ("a", "phone"):
            labelme(source, name, [], imagePath=f"{name}.jpg")
    else:
        draw(source / "a.jpg")
        draw(source / "phone.jpg")
        size = {"height": H, "width": W}
        images = [
            {"id": 1, "file_name": "a.jpg", **size},
            {"id": 2, "file_name": "phone.jpg", **size},
        ]
        export = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "x"}]}
        tasks = [
            {"data": {"image": name}, "annotations": [{"result": []}]}
            for name in ("a.jpg", "phone.jpg")
        ]
        (source / "all.json").write_text(json.dumps(export if tool == "coco" else tasks))
    renamed(source / "a.jpg", "a.jfif")
    (source / "phone.jpg").unlink()
    heic(source / "phone.heic")
    draw(source / "more/nobody.png")
    if tool != "labelme":
        pytest.importorskip("pycocotools")
    masks, _ = imported(source, tmp_path / "out")
    assert masks.keys() == {"a"}
    said = capsys.readouterr().out
    assert HEIC_NOTE in said
    assert "1 images without annotations: left out (nobody.png)" in said
    assert "1 a" in said  # the annotations of phone.jpg


def encode_brush(mask: np.ndarray) -> list[int]:
    """Run lengths as Label Studio writes them, by the definition: a slow writer for the test."""
    values = np.repeat(mask.reshape(-1), 4).astype(int) * 255
    bits: list[int] = []

    def put(value: int, count: int) -> None:
        bits.extend((value >> (count - 1 - i)) & 1 for i in range(count))

    put(len(values), 32)
    put(7, 5)
    sizes = (3, 4, 8, 16)
    for size in sizes:
        put(size - 1, 4)
    at = 0
    while at < len(values):
        end = at
        while end < len(values) and values[end] == values[at] and end - at < 1 << 16:
            end += 1
        put(1, 1)
        put(3, 2)
        put(end - at - 1, 16)
        put(values[at], 8)
        at = end
    bits.extend([0] * (-len(bits) % 8))
    return np.packbits(np.array(bits, np.uint8)).tolist()


def test_label_studio(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = tmp_path / "studio"
    draw(root / "photo.png")
    brush = np.zeros((H, W), np.uint8)
    brush[3:7, 9:20] = 1
    assert np.array_equal(decode_brush(encode_brush(brush), (H, W)), brush > 0)
    about = {"original_width": W, "original_height": H}
    result = [
        {**about, "type": "polygonlabels", "value": {
            "points": square(0, 50, 100, 100), "polygonlabels": ["grass"]}},
        {**about, "type": "brushlabels", "value": {
            "format": "rle", "rle": encode_brush(brush), "brushlabels": ["bird"]}},
        {**about, "type": "rectanglelabels", "value": {
            "x": 0, "y": 0, "width": 25, "height": 25, "rectanglelabels": ["sky"]}},
        {**about, "type": "choices", "value": {"choices": ["good"]}},
    ]  # fmt: skip
    tasks = [
        {"id": 1, "data": {"image": "/data/upload/3/0a1b2c3d-photo.png"},
         "annotations": [{"result": result}]},
        {"id": 2, "data": {"image": "x.png"}, "annotations": []},
    ]  # fmt: skip
    (root / "export.json").write_text(json.dumps(tasks))
    masks, table = imported(root, tmp_path / "out")
    names = dict(enumerate(table.names))
    assert names == {0: "background", 1: "grass", 2: "bird", 3: "sky"}
    mask = masks["photo"]
    assert (mask[3:7, 9:20] == 2).all()
    assert (mask[13:] == 1).all()
    assert (mask[:5, :7] == 3).all()
    told = capsys.readouterr().out
    assert "tasks without an annotation: left out" in told
    assert "1 results of type 'choices' have no area: left out (photo)" in told


def test_a_brush_that_ends_early_is_refused():
    whole = encode_brush(np.ones((H, W), np.uint8))
    for end in (1, 4, 7, len(whole) - 1):
        with pytest.raises(ValueError, match="run lengths"):
            decode_brush(whole[:end], (H, W))


def cvat(root: Path) -> None:
    colors = {"background": (0, 0, 0), "cat": (255, 0, 0), "dog": (0, 128, 0)}
    lines = ["# label:color_rgb:parts:actions"]
    lines += [f"{name}:{r},{g},{b}::" for name, (r, g, b) in colors.items()]
    root.mkdir(parents=True)
    (root / "labelmap.txt").write_text("\n".join(lines))
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/default.txt").write_text("a\n")
    draw(root / "JPEGImages" / "a.jpg")
    mask = np.zeros((H, W, 3), np.uint8)
    mask[:8] = (255, 0, 0)
    mask[8:16] = (0, 128, 0)
    mask[0, 0] = (1, 2, 3)
    (root / "SegmentationClass").mkdir()
    Image.fromarray(mask).save(root / "SegmentationClass" / "a.png")


def test_cvat(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cvat(tmp_path / "cvat")
    masks, table = imported(tmp_path / "cvat", tmp_path / "out")
    assert table.names == ("background", "cat", "dog")
    assert table.palette[1] == (255, 0, 0)
    assert [int(masks["a"][y, 5]) for y in (2, 10, 20)] == [1, 2, 0]
    assert masks["a"][0, 0] == 255
    told = capsys.readouterr().out
    assert "CVAT" in told
    assert "1 masks with pixels of no class's colour: ignored (255) (a)" in told


def test_a_zip_is_read_and_one_that_leads_outside_refused(tmp_path: Path, capsys):
    cvat(tmp_path / "cvat")
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for path in sorted((tmp_path / "cvat").rglob("*")):
            made.write(path, path.relative_to(tmp_path / "cvat"))
    masks, _ = imported(archive, tmp_path / "out")
    assert masks["a"][2, 5] == 1
    with zipfile.ZipFile(archive, "a") as made:
        made.writestr("../../outside.txt", "x")
    assert main(["data", "import", str(archive), "--out", str(tmp_path / "other")]) == 1
    assert "outside of itself" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_colour_masks_with_class_dict(tmp_path: Path):
    root = tmp_path / "kaggle"
    draw(root / "train" / "s1.png")
    mask = np.zeros((H, W, 3), np.uint8)
    mask[:, 16:] = (64, 0, 128)
    (root / "train_labels").mkdir()
    Image.fromarray(mask).save(root / "train_labels" / "s1_L.png")
    (root / "class_dict.csv").write_text("name,r,g,b\nvoid,0,0,0\ncar,64,0,128\n")
    masks, table = imported(root, tmp_path / "out")
    assert table.names == ("void", "car")
    assert (masks["s1"][:, 16:] == 1).all()
    assert (masks["s1"][:, :16] == 0).all()


def test_masks_are_told_by_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = tmp_path / "kaggle"
    for name in ("s1", "s2"):
        draw(root / "train" / f"{name}.png")
    mask = np.zeros((H, W, 3), np.uint8)
    mask[:, 16:] = (64, 0, 128)
    (root / "masks").mkdir()
    Image.fromarray(mask).save(root / "masks/s1.png")
    Image.fromarray(mask).save(root / "masks/s2.jpg")
    renamed(root / "masks/s1.png", "s1.msk")
    (root / "class_dict.csv").write_text("name,r,g,b\nvoid,0,0,0\ncar,64,0,128\n")
    masks, _ = imported(root, tmp_path / "out")
    assert masks.keys() == {"s1"}
    assert (masks["s1"][:, 16:] == 1).all()
    said = capsys.readouterr().out
    assert "1 masks as JPEG, which alters ids and colours: left out (s2.jpg)" in said


def test_hugging_face_parquet(tmp_path: Path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    mask = np.zeros((H, W), np.uint8)
    mask[:, 20:] = 2
    rows = [
        {"image": {"bytes": png(np.full((H, W, 3), 9, np.uint8)), "path": None},
         "annotation": {"bytes": png(mask), "path": None}},
        {"image": {"bytes": png(np.full((H, W, 3), 9, np.uint8)), "path": None},
         "annotation": None},
    ]  # fmt: skip
    features = {
        "image": {"_type": "Image"},
        "annotation": {"_type": "Image"},
        "present": {"feature": {"names": ["sky", "road", "cow"], "_type": "ClassLabel"}},
    }
    table = pa.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    (tmp_path / "hf/data").mkdir(parents=True)
    parquet.write_table(table, tmp_path / "hf/data/train-00000-of-00001.parquet")
    masks, labels = imported(tmp_path / "hf", tmp_path / "out")
    assert labels.names == ("sky", "road", "cow")
    (found,) = masks.values()
    assert np.array_equal(found, mask)


def few_bits(ids: np.ndarray) -> bytes:
    """A grey PNG of 4 bits."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + crc

    height, width = ids.shape
    rows = b"".join(b"\0" + bytes(row[::2] << 4 | row[1::2]) for row in ids)
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([4, 0, 0, 0, 0])
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_hugging_face_masks_are_read_as_others_are(tmp_path: Path, capsys):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    ids = np.tile(np.array([0, 1, 2, 1], np.uint8), (H, W // 4))
    image = png(np.full((H, W, 3), 9, np.uint8))

    def made(mask: bytes) -> Path:
        path = tmp_path / "rows.parquet"
        parquet.write_table(
            pa.Table.from_pylist([{"image": {"bytes": image}, "mask": {"bytes": mask}}]), path
        )
        return path

    masks, _ = imported(made(few_bits(ids)), tmp_path / "out")
    (found,) = masks.values()
    np.testing.assert_array_equal(found, ids)
    wide = np.full((H, W), 70_000, np.int32)
    for mask, says in (
        (png(np.zeros((H, W, 3), np.uint8)), "row 0: the mask holds colours"),
        (b"nothing", "row 0: not an image"),
        (png(wide, "TIFF"), "class id 70000 in a mask, and no names"),
    ):
        assert main(["data", "import", str(made(mask)), "--out", str(tmp_path / "b")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line


def test_voc_like_tree_with_own_classes(tmp_path: Path):
    root = tmp_path / "mine"
    for name in ("a", "b"):
        draw(root / "JPEGImages" / f"{name}.jpg")
        (root / "SegmentationClass").mkdir(exist_ok=True)
        mask = np.zeros((H, W), np.uint8)
        mask[4:] = 2
        mask[0] = 255
        Image.fromarray(mask).save(root / "SegmentationClass" / f"{name}.png")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("a\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("b\n")
    masks, table = imported(root, tmp_path / "out")
    assert table.names == ("class_0", "class_1", "class_2")
    assert (masks["b"][0] == 255).all()
    assert (masks["b"][4:] == 2).all()


def test_cityscapes_like_tree(tmp_path: Path):
    root = tmp_path / "city"
    draw(root / "leftImg8bit/val/bonn/bonn_000_000_leftImg8bit.png")
    (root / "gtFine/val/bonn").mkdir(parents=True)
    mask = np.full((H, W), 7, np.uint8)  # road
    mask[:, :4] = 3  # out of roi
    Image.fromarray(mask).save(root / "gtFine/val/bonn/bonn_000_000_gtFine_labelIds.png")
    masks, table = imported(root, tmp_path / "out")
    assert table.names[0] == "road"
    (found,) = masks.values()
    assert (found[:, 4:] == 0).all()
    assert (found[:, :4] == 255).all()


def test_a_second_run_writes_nothing_and_edits_are_kept(tmp_path: Path, capsys):
    source, out = tmp_path / "labelme", tmp_path / "out"
    shape = {"label": "x", "points": square(2, 2, 20, 20), "shape_type": "polygon"}
    labelme(source, "a", [shape])
    arguments = ["data", "import", str(source), "--out", str(out)]
    assert main(arguments) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix != ".json"}
    assert main(arguments) == 0
    assert "0 files written, 3 unchanged" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in before}
    edited = np.asarray(Image.open(out / "masks/a.png")).copy()
    edited[0, 0] = 1
    Image.fromarray(edited).save(out / "masks/a.png")
    content = (out / "masks/a.png").read_bytes()
    labelme(source, "a", [{**shape, "points": square(2, 2, 10, 10)}])
    assert main(arguments) == 1
    assert "masks/a.png: changed since it was imported" in capsys.readouterr().err
    assert (out / "masks/a.png").read_bytes() == content


def test_classes_are_chosen_and_uncovered_pixels_ignored(tmp_path: Path, capsys):
    coco(tmp_path / "coco")
    masks, table = imported(
        tmp_path / "coco", tmp_path / "out", "--classes", "dog", "--uncovered", "ignore"
    )
    assert table.names == ("dog",)
    assert (masks["one"][6:8, 11:13] == 0).all()
    assert masks["one"][15, 15] == 255
    assert "regions of 'person', which is no class here: left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: [(root / each).mkdir() for each in ("images", "masks")],
         "images/ and masks/ need no import; write"),
        (lambda root: None, "no annotations that binseg knows"),
        (
            lambda root: (root / "x.json").write_text(
                '{"images": 3, "annotations": [], "categories": []}'
            ),
            "no list 'images'",
        ),
        (
            lambda root: (root / "x.json").write_text(
                '{"shapes": [{"label": "a"}], "imagePath": "a.jpg"}'
            ),
            "not a Labelme file",
        ),
        (lambda root: (root / "x.json").write_text('{"shapes": ['), "not valid JSON"),
        (lambda root: (root / "x.parquet").write_bytes(b"PAR1nonsense"), "parquet"),
        (lambda root: (root / "x.json").write_text('[{"data": 5}]'), "task 1 cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, capsys, make, says):
    root = tmp_path / "source"
    root.mkdir()
    make(root)
    assert main(["data", "import", str(root), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err.strip()
    assert says in error
    assert "\n" not in error


def test_annotations_for_another_size_are_refused(tmp_path: Path, capsys):
    source = tmp_path / "labelme"
    labelme(source, "a", [], imageWidth=W + 1)
    assert main(["data", "import", str(source), "--out", str(tmp_path / "out")]) == 1
    assert "annotations are for 33 × 24" in capsys.readouterr().err


def test_a_folder_that_no_import_wrote_is_left_alone(tmp_path: Path, capsys):
    source, out = tmp_path / "labelme", tmp_path / "out"
    labelme(source, "a", [])
    (out / "masks").mkdir(parents=True)
    assert main(["data", "import", str(source), "--out", str(out)]) == 1
    assert "holds a data set that no import wrote" in capsys.readouterr().err
