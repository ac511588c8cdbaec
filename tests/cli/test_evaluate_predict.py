"""`binseg predict` and `binseg evaluate` on files, broken ones among them."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_trees import write_cityscapes, write_voc
from two_processes import two_processes

from binseg.atomic import NoSpaceError, atomic_path
from binseg.cli import main
from binseg.cli.evaluate import evaluate_command
from binseg.cli.predict import predict
from binseg.data.config import DataConfig
from binseg.data.imageio import read_image, read_mask, write_image, write_mask
from binseg.data.labels import LabelTable, get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.evaluation.protocols import Protocol
from binseg.loaded import save
from binseg.lock import locked
from binseg.nn.segmenter import create_model
from binseg.prediction.outputs import Outputs
from binseg.prediction.records import DoneImages, Made, Shard
from binseg.predictor import Predictor

RECORDS = Shard().records

LABELS = LabelTable(
    "rooms",
    ("floor", "wall", "<b>lamp</b>"),
    ((200, 0, 0), (0, 200, 0), (0, 0, 200)),
    {0: 0, 1: 1, 2: 2, 255: 255},
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = create_model("groupnet18", num_classes=3, bases=1, width=8)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save(path, network, LABELS, Preprocessing(short_side=32), training={"epochs": 3})
    return path


def noise(height: int = 20, width: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    write_image(folder / "a.png", noise(20, 30))
    write_image(folder / "b.jpg", noise(7, 41))
    write_image(folder / "d.bmp", noise(33, 5))
    return folder


class TestPredict:
    def test_folder_with_a_broken_file(self, model, images, tmp_path, capsys):
        (images / "c.jpg").write_bytes(read_bytes := (images / "b.jpg").read_bytes()[:300])
        out = tmp_path / "out"
        assert predict(model, [images], out) == 1
        printed = capsys.readouterr()
        assert str(images / "c.jpg") in printed.err
        assert printed.err.count("c.jpg") == 1
        assert {path.name for path in out.iterdir()} == {
            RECORDS,
            *(f"{stem}{end}" for stem in "abd" for end in (".png", "_overlay.jpg")),
        }
        assert (images / "c.jpg").read_bytes() == read_bytes
        assert (out / RECORDS).read_text() == printed.out
        records = [json.loads(line) for line in printed.out.splitlines()]
        assert [Path(record["file"]).name for record in records] == ["a.png", "b.jpg", "d.bmp"]
        predictor = Predictor(model, device="cpu")
        for record in records:
            found = predictor(record["file"])
            ids = read_mask(record["outputs"][0])
            assert ids.shape == (record["height"], record["width"])
            assert read_image(record["file"]).shape[:2] == ids.shape
            assert np.array_equal(ids, found.class_map)
            assert record["shares"] == pytest.approx(found.shares(), abs=1e-5)
            assert record["seconds"] > 0
            assert Path(record["outputs"][1]).is_file()

    def test_all_is_well(self, model, images, tmp_path, capsys):
        assert predict(model, [images / "*.png"], tmp_path / "out", overlay=False) == 0
        assert capsys.readouterr().err == ""
        assert {path.name for path in (tmp_path / "out").iterdir()} == {RECORDS, "a.png"}

    def test_missing_inputs_do_not_stop_the_others(self, model, images, tmp_path, capsys):
        inputs = [images / "none.jpg", tmp_path / "*.gif", images / "a.png", images]
        assert predict(model, inputs, tmp_path / "out") == 1
        printed = capsys.readouterr()
        assert "none.jpg" in printed.err
        assert "*.gif" in printed.err
        assert len(printed.out.splitlines()) == 3  # a.png comes once

    def test_same_stems_and_own_inputs_are_kept(self, model, images, tmp_path):
        other = tmp_path / "other"
        write_image(other / "a.bmp", noise(11, 13))
        before = {path: path.read_bytes() for path in images.iterdir()}
        assert predict(model, [images, other], images) == 0
        assert all(path.read_bytes() == content for path, content in before.items())
        records = [json.loads(line) for line in (images / RECORDS).read_text().splitlines()]
        written = [name for record in records for name in record["outputs"]]
        assert len(written) == len(set(written)) == 8
        sizes = {Path(r["file"]): read_mask(r["outputs"][0]).shape for r in records}
        assert sizes[other / "a.bmp"] == (11, 13)
        assert sizes[images / "a.png"] == (20, 30)

    def test_names_that_are_no_utf8(self, model, tmp_path, capsys):
        path = tmp_path / os.fsdecode(b"caf\xe9 \xc3\xa9.png")
        write_image(tmp_path / "a.png", noise())
        try:
            (tmp_path / "a.png").rename(path)
        except OSError:
            pytest.skip("this disk takes UTF-8 names only")
        assert predict(model, [tmp_path], tmp_path / "out") == 0
        record = json.loads(capsys.readouterr().out)
        assert record["file"] == str(path)
        assert all(Path(name).is_file() for name in record["outputs"])

    def test_a_full_disk_ends_the_run(self, model, images, tmp_path, monkeypatch):
        def fails(*_, **__):
            raise NoSpaceError("x.png: no space left on the disk")

        monkeypatch.setattr("binseg.prediction.outputs.atomic_path", fails)
        with pytest.raises(BinsegError, match="no space left"):
            predict(model, [images], tmp_path / "out")

    def test_a_folder_that_takes_nothing_any_more_ends_the_run(
        self, model, images, tmp_path, monkeypatch
    ):
        def fails(path, *_):
            raise BinsegError(f"{path}: cannot be written (Read-only file system)")

        monkeypatch.setattr("binseg.prediction.outputs.atomic_path", fails)
        with pytest.raises(BinsegError, match="probe: cannot be written"):
            predict(model, [images], tmp_path / "out")

    def test_an_output_that_cannot_be_written_is_its_images_fault_alone(
        self, model, images, tmp_path, monkeypatch, capsys
    ):
        def some(path, *more):
            if path.name == "b.png":
                raise BinsegError(f"{path}: cannot be written (Invalid argument)")
            return atomic_path(path, *more)

        monkeypatch.setattr("binseg.prediction.outputs.atomic_path", some)
        out = tmp_path / "out"
        assert predict(model, [images], out) == 1
        printed = capsys.readouterr()
        assert "b.png: cannot be written" in printed.err
        assert [Path(json.loads(line)["file"]).name for line in printed.out.splitlines()] == [
            "a.png",
            "d.bmp",
        ]

    @pytest.mark.parametrize("letter", ["x", "道"])
    def test_names_as_long_as_the_disk_allows(self, model, tmp_path, letter):
        longest = letter * (251 // len(letter.encode()))
        folder, out = tmp_path / "in", tmp_path / "out"
        for name in (f"{longest[:-1]}.png", f"{longest}.png", "z.png"):
            write_image(folder / name, noise())
        assert predict(model, [folder], out) == 0
        records = [json.loads(line) for line in (out / RECORDS).read_text().splitlines()]
        outputs = [Path(name) for record in records for name in record["outputs"]]
        assert len({path.name for path in outputs}) == 6
        assert all(path.is_file() for path in outputs)

    def test_a_second_run_adds_to_the_first_ones_records(self, model, images, tmp_path):
        out = tmp_path / "out"
        other = tmp_path / "other"
        write_image(other / "a.bmp", noise(11, 13))
        assert predict(model, [images], out) == 0
        first = (out / RECORDS).read_text()
        mask = (out / "a.png").read_bytes()
        assert predict(model, [other], out) == 0
        assert (out / RECORDS).read_text().startswith(first)
        assert (out / "a.png").read_bytes() == mask
        assert read_mask(out / "a_2.png").shape == (11, 13)
        # the same images again: a line for each, and the same files
        assert predict(model, [images], out) == 0
        files = [json.loads(line)["file"] for line in (out / RECORDS).read_text().splitlines()]
        assert len(files) == len(set(files)) == 4
        assert len(list(out.glob("*.png"))) == 4

    def test_its_own_outputs_are_no_images(self, model, images, capsys):
        assert predict(model, [images], images) == 0
        names = {path.name for path in images.iterdir()}
        as_if_killed_in_the_last_record(images)
        capsys.readouterr()
        assert predict(model, [images, images / "*.png"], images) == 0
        printed = capsys.readouterr()
        assert len(printed.out.splitlines()) == 3
        assert "6 outputs of earlier runs are no images here" in printed.err
        assert {path.name for path in images.iterdir()} == names

    def test_files_that_no_run_wrote_are_kept(self, model, images, tmp_path):
        """Somebody's own masks are called as the images are."""
        out = tmp_path / "masks"
        out.mkdir()
        (out / "a.png").write_text("precious")
        assert predict(model, [images], out) == 0
        assert (out / "a.png").read_text() == "precious"
        assert read_mask(out / "a_2.png").shape == (20, 30)

    def test_continue_goes_on_where_a_killed_run_stopped(self, model, images, tmp_path, capsys):
        out = tmp_path / "out"
        assert predict(model, [images], out) == 0
        as_if_killed_in_the_last_record(out)
        before = {path: path.stat().st_mtime_ns for path in out.glob("[!.]*")}
        capsys.readouterr()
        assert predict(model, [images], out, continue_=True) == 0
        printed = capsys.readouterr()
        assert [json.loads(line)["file"] for line in printed.out.splitlines()] == [
            str(images / "d.bmp")
        ]
        assert "2 of 3 images were done before" in printed.err
        kept = {path for path in before if path.stat().st_mtime_ns == before[path]}
        assert {path.name for path in kept} == {"a.png", "a_overlay.jpg", "b.png", "b_overlay.jpg"}
        assert main(["predict", str(model), str(images), f"--out={out}", "--continue"]) == 0
        assert capsys.readouterr().out == ""
        assert {path.name for path in out.iterdir()} == {path.name for path in before}

    def test_continue_does_again_what_is_not_the_same(self, model, images, tmp_path, capsys):
        out = tmp_path / "out"
        assert predict(model, [images], out) == 0
        (out / "b_overlay.jpg").unlink()
        write_image(images / "a.png", noise(9, 9))
        capsys.readouterr()
        assert predict(model, [images], out, continue_=True) == 0
        printed = capsys.readouterr().out
        assert [Path(json.loads(line)["file"]).stem for line in printed.splitlines()] == ["a", "b"]
        other = tmp_path / "other.safetensors"
        torch.manual_seed(1)
        network = create_model("groupnet18", num_classes=3, bases=1, width=8)
        save(other, network, LABELS, Preprocessing(short_side=32))
        for settings in (
            {"model": other},
            {"protocol": Protocol("sliding", window=24, stride=20)},
            {"alpha": 0.25},
        ):
            call = {"model": model, "images": [images], "out": out, **settings}
            assert predict(**call, continue_=True) == 0
            assert len(capsys.readouterr().out.splitlines()) == 3, settings

    def test_what_is_left_out_of_a_folder_is_named_and_a_fault(
        self, model, images, tmp_path, capsys
    ):
        (images / "gone.jpg").symlink_to(tmp_path / "nowhere")
        (images / "b.jpg").rename(images / "b.jpe")  # an odd ending, a plain JPEG
        (images / "notes.txt").write_text("of no interest")
        assert predict(model, [images], tmp_path / "out") == 1
        printed = capsys.readouterr()
        assert "gone.jpg" in printed.err
        assert "notes" not in printed.err
        assert len(printed.out.splitlines()) == 3

    def test_two_at_once_in_one_folder(self, model, images, tmp_path):
        with locked(tmp_path / "out"), pytest.raises(BinsegError, match="works there"):
            predict(model, [images], tmp_path / "out")

    def test_two_processes_share_the_images(self, model, images, tmp_path, capsys):
        """Masks and records are those of one process, however they take turns."""
        for number in range(4):
            write_image(images / f"sub{number}" / "a.png", noise(9 + number, 11))
        (images / "c.jpg").write_bytes(b"no image")
        patterns = [str(images), str(images / "sub*" / "*.png")]
        assert predict(model, [*map(Path, patterns)], tmp_path / "one") == 1
        line = ["predict", str(model), *patterns, "--out", str(tmp_path / "two")]
        assert two_processes(tmp_path, *line) == [1, 1], (tmp_path / "0.err").read_text()
        records = {}
        for name in ("one", "two"):
            files = sorted((tmp_path / name).glob("*.jsonl"))
            found = [json.loads(line) for path in files for line in path.open()]
            records[name] = sorted(
                (each["file"], read_mask(each["outputs"][0]).tolist(), each["shares"])
                for each in found
            )
            assert len({output for each in found for output in each["outputs"]}) == 14
        assert len(records["one"]) == 7
        assert records["two"] == records["one"]
        for rank in (0, 1):
            printed = (tmp_path / f"{rank}.out").read_text()
            lines = tmp_path / "two" / Shard(rank, 2).records
            assert printed == (lines.read_text() if lines.exists() else "")
        errors = "".join((tmp_path / f"{rank}.err").read_text() for rank in (0, 1))
        assert errors.count("c.jpg") == 1

    def test_out_is_a_file(self, model, images, tmp_path):
        (tmp_path / "out").write_text("x")
        with pytest.raises(BinsegError, match="cannot be written"):
            predict(model, [images], tmp_path / "out")

    def test_interrupted(self, model, images, tmp_path):
        """Ctrl-C in the middle: whole files and whole lines only, and no temporary ones."""
        for number in range(300):
            write_image(images / f"n{number:03d}.bmp", noise(30, 40, number))
        out = tmp_path / "out"
        code = (
            "import signal, sys; from pathlib import Path; from binseg.cli.predict import predict\n"
            # where tests run in the background, programs they start ignore Ctrl-C
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "predict(*map(Path, sys.argv[1:2]), [Path(sys.argv[2])], Path(sys.argv[3]))"
        )
        arguments = [sys.executable, "-c", code, str(model), str(images), str(out)]
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode != 0
        lines = (out / RECORDS).read_text().splitlines(keepends=True)
        assert lines[0] == first
        assert 0 < len(lines) < 300
        assert all(line.endswith("\n") and json.loads(line) for line in lines)
        for path in out.iterdir():
            assert not path.name.startswith(".")
            if path.suffix == ".png":
                read_mask(path)
            elif path.suffix == ".jpg":
                read_image(path)


def as_if_killed_in_the_last_record(out: Path) -> None:
    """The outputs of the last image are there, its line is torn."""
    *lines, last = (out / RECORDS).read_text().splitlines(keepends=True)
    (out / RECORDS).write_text("".join(lines) + last[:20])


def test_output_names(tmp_path):
    outputs = Outputs(tmp_path / "o")
    mask, drawing = np.zeros((2, 3), np.uint8), noise(2, 3)

    def names(image: str) -> list[str]:
        files = outputs.write(str(tmp_path / image), mask, [(0, 0, 0)], drawing)
        assert [path.name[len(files[0].stem) :] for path in files] == [".png", "_overlay.jpg"]
        return files[0].stem

    assert [names(image) for image in ("x/a.jpg", "y/a.jpg", "y/a_2.jpg")] == ["a", "a_2", "a_2_2"]
    assert [names(image) for image in ("y/a_2.jpg", "y/a.jpg", "x/a.jpg")] == ["a_2_2", "a_2", "a"]
    (tmp_path / "o/b_overlay.jpg").write_text("precious")  # that an overlay would replace
    (tmp_path / "o/b_2.png").mkdir()
    assert names("x/b.jpg") == "b_3"
    assert (tmp_path / "o/b_overlay.jpg").read_text() == "precious"
    assert not (tmp_path / "o/b.png").exists()
    # hundreds of one name are not looked through one by one
    many = {names(f"{number}/c.jpg") for number in range(30)}
    assert len(many) == 30
    assert all(outputs.has_written(str(tmp_path / "o" / f"{name}.png")) for name in many)
    assert not outputs.has_written(str(tmp_path / "o/b_overlay.jpg"))


def test_lines_that_say_nonsense_lead_nowhere(tmp_path):
    image = tmp_path / "a.png"
    image.write_text("x")
    made = Made("with", None)
    lines = ({"outputs": [7], "path": [1]}, {"outputs": []}, [], {"path": 3}, {"file": None})
    whole = {"file": str(image), "outputs": [str(image)], **made.about(str(image))}
    text = "\n".join(map(json.dumps, (*lines, whole))) + '\nno JSON\n{"file": "'
    (tmp_path / RECORDS).write_text(text)
    done = DoneImages(tmp_path, Shard())
    assert done.has(str(image), made)
    assert not done.has(str(image), Made("with", 0.5))
    assert not done.has(str(tmp_path), made)
    image.write_text("xy")
    assert not DoneImages(tmp_path, Shard()).has(str(image), made)


class TestEvaluate:
    @pytest.fixture
    def data(self, tmp_path: Path) -> DataConfig:
        root = tmp_path / "data"
        for number in range(3):
            write_image(root / f"images/val/{number}.png", noise(20, 30, number))
            ids = np.random.default_rng(number).integers(0, 3, (20, 30)).astype(np.uint8)
            ids[:3] = 255
            write_mask(root / f"masks/val/{number}.png", ids)
        classes = [
            {"name": n, "color": list(c)} for n, c in zip(LABELS.names, LABELS.palette, strict=True)
        ]
        (root / "labels.yaml").write_text(json.dumps({"classes": classes}))
        return DataConfig(name="folder", root=str(root))

    def test_table_and_report(self, model, data, tmp_path, capsys):
        out = tmp_path / "report"
        assert evaluate_command(model, data=data, out=out, worst=2, device="cpu") == 0
        printed = capsys.readouterr().out
        saved = json.loads((out / "scores.json").read_text())
        assert f"{100 * saved['scores']['mean_iou']:.1f}" in printed
        assert saved["model"]["training"] == {"epochs": 3}
        assert saved["data"] == {
            "name": "folder",
            "root": data.root,
            "split": "val",
            "pictures": 3,
        }
        assert sum(map(sum, saved["scores"]["matrix"])) == 3 * 17 * 30
        assert (out / "worst/index.html").is_file()
        assert len(list((out / "worst").glob("*_small.jpg"))) == 2

    def test_what_predict_wrote_scores_the_same(self, model, data, tmp_path):
        masks = tmp_path / "masks"
        predict(model, [Path(str(data.root)) / "images/val"], masks, overlay=False, device="cpu")
        evaluate_command(model, data=data, out=tmp_path / "a", device="cpu")
        evaluate_command(data=data, predictions=masks, out=tmp_path / "b", worst=0)
        by_model, by_masks = (
            json.loads((tmp_path / name / "scores.json").read_text()) for name in "ab"
        )
        assert by_model["scores"] == by_masks["scores"]
        assert by_model["pictures"] == by_masks["pictures"]
        assert not (tmp_path / "b/worst").exists()

    def test_model_or_predictions(self, model, data, tmp_path):
        for arguments in ({}, {"model": model, "predictions": tmp_path}):
            with pytest.raises(BinsegError, match="one of the two"):
                evaluate_command(data=data, **arguments)

    def test_checkpoint_of_other_classes(self, model):
        with pytest.raises(BinsegError, match="only in the model: floor, wall"):
            evaluate_command(model, data=DataConfig(name="scenes", scenes_val=1), device="cpu")


class TestBenchmarks:
    """Export, the official evaluators and several processes, on trees of the real layouts."""

    @pytest.fixture
    def cityscapes(self, tmp_path: Path) -> tuple[DataConfig, Path]:
        """Three images, and predictions of class ids for them, partly wrong."""
        root = write_cityscapes(tmp_path / "data", train=0, val=3, size=(31, 45))
        config = DataConfig(name="cityscapes", root=str(root))
        dataset, rng = config.open("val"), np.random.default_rng(2)
        for place in range(3):
            ids = rng.integers(0, 19, (31, 45)).astype(np.uint8)
            right = (rng.random(ids.shape) < 0.7) & (dataset.read_labels(place) != 255)
            ids[right] = dataset.read_labels(place)[right]
            write_mask(tmp_path / "masks" / f"{dataset.sample_name(place)}.png", ids)
        return config, tmp_path / "masks"

    def test_official_beside_ours(self, cityscapes, tmp_path, capsys):
        pytest.importorskip("cityscapesscripts")
        data, masks = cityscapes
        export, out = tmp_path / "export", tmp_path / "out"
        arguments = {"data": data, "predictions": masks, "official": True, "worst": 0}
        assert evaluate_command(**arguments, export=export, out=out) == 0
        printed = capsys.readouterr().out
        assert "binseg beside cityscapesScripts" in printed
        assert "iIoU" in printed
        saved = json.loads((out / "scores.json").read_text())
        assert saved["official"]["largest_difference"] <= 1e-9
        classes = saved["scores"]["classes"]
        assert classes["car"]["instance_iou"] == pytest.approx(
            saved["official"]["instance_iou"]["car"], abs=1e-9
        )
        # what was exported is scored again, as it is
        again = {**arguments, "predictions": export, "raw_ids": True}
        assert evaluate_command(**again, out=tmp_path / "again") == 0
        assert json.loads((tmp_path / "again/scores.json").read_text())["scores"] == saved["scores"]
        with pytest.raises(BinsegError, match="--raw_ids"):
            evaluate_command(**arguments)

    def test_classes_of_the_model(self, cityscapes, capsys):
        data, _ = cityscapes
        with pytest.raises(BinsegError, match=r"--data\.relabel camvid turns"):
            evaluate_command(Path("street-small"), data=data)
        assert evaluate_command(Path("street-small"), data=replace(data, relabel="camvid")) == 0
        assert "bicyclist" in capsys.readouterr().out

    @pytest.mark.parametrize("images", [1, 3])
    def test_two_processes_give_the_same_figures(self, cityscapes, tmp_path, images):
        data, masks = cityscapes
        keep_images(data, images)
        evaluate_command(data=data, predictions=masks, out=tmp_path / "one", worst=2)
        codes = two_processes(
            tmp_path,
            *(
                "evaluate",
                "--data.name",
                "cityscapes",
                "--data.root",
                str(data.root),
                "--worst",
                "2",
            ),
            *("--predictions", str(masks), "--out", str(tmp_path / "two")),
            *("--export", str(tmp_path / "export")),
        )
        assert codes == [0, 0], (tmp_path / "1.err").read_text()
        assert (tmp_path / "0.out").read_text().count("frequency-weighted IoU") == 1
        assert (tmp_path / "1.out").read_text() == ""
        one, two = (
            json.loads((tmp_path / name / "scores.json").read_text()) for name in ("one", "two")
        )
        for key in ("scores", "pictures", "data"):
            assert one[key] == two[key]
        assert one["scores"]["mean_instance_iou"] > 0
        pages = [(tmp_path / name / "worst/index.html").read_text() for name in ("one", "two")]
        assert pages[0] == pages[1]
        assert len(list((tmp_path / "export").glob("*_pred_labelIds.png"))) == images

    def test_a_fault_in_one_process_ends_both_with_the_same_line(self, cityscapes, tmp_path):
        """The process with the damaged image says so; the other, which has none, ends too."""
        data, masks = cityscapes
        keep_images(data, 1)[0].write_bytes(b"no image")
        codes = two_processes(
            tmp_path,
            *("evaluate", "--data.name", "cityscapes", "--data.root", str(data.root)),
            *("--predictions", str(masks)),
        )
        assert codes == [1, 1]
        # the lines before it name the masks whose images are left out
        lasts = [(tmp_path / f"{rank}.err").read_text().splitlines()[-1] for rank in (0, 1)]
        assert "not an image that binseg reads" in lasts[0]
        assert lasts[1] == lasts[0]

    def test_a_test_split_is_exported_and_not_scored(self, tmp_path, capsys):
        root = write_voc(tmp_path / "data", test=2, size=(20, 30))
        network = create_model("groupnet18", num_classes=21, bases=1, width=8)
        path = tmp_path / "voc.safetensors"
        save(path, network, get_label_table("voc"), Preprocessing(short_side=32))
        arguments = {"data": DataConfig(name="voc", root=str(root)), "split": "test"}
        assert evaluate_command(path, **arguments, export=tmp_path / "out", device="cpu") == 0
        assert "nothing was scored" in capsys.readouterr().out
        folder = tmp_path / "out/results/VOC2012/Segmentation/comp6_test_cls"
        assert sorted(file.name for file in folder.iterdir()) == [
            "2008_002000.png",
            "2008_002001.png",
        ]
        assert read_mask(folder / "2008_002000.png").shape == (20, 30)
        with pytest.raises(BinsegError, match=r"not public.*--export"):
            evaluate_command(path, **arguments, device="cpu")

    def test_animals_are_named_as_what_they_are(self, tmp_path, capsys):
        animals = get_label_table("voc_animals")
        root = write_voc(tmp_path / "data", val=2, size=(20, 30))
        data = DataConfig(name="voc", root=str(root), classes=list(animals.names))
        for name in ("2008_001000", "2008_001001"):
            write_mask(tmp_path / f"masks/{name}.png", np.full((20, 30), 6, np.uint8))
        evaluate_command(data=data, predictions=tmp_path / "masks")
        printed = " ".join(capsys.readouterr().out.split())
        assert "on VOC animals val" in printed
        assert "VOC animals: 7 of the benchmark's 21 classes" in printed

    def test_refused(self, cityscapes, model):
        data, masks = cityscapes
        with pytest.raises(BinsegError, match="add --export"):
            evaluate_command(model, data=data, official=True)
        with pytest.raises(BinsegError, match="would overwrite"):
            evaluate_command(data=data, predictions=masks, export=masks)


def keep_images(data: DataConfig, count: int) -> list[Path]:
    """The first `count` images of a tree of Cityscapes; the others are deleted."""
    paths = sorted(Path(str(data.root)).glob("leftImg8bit/val/*/*"))
    for path in paths[count:]:
        path.unlink()
    return paths[:count]
