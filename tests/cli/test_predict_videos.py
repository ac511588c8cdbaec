"""`binseg predict` on videos, and on what stands for a camera."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_packed import halves, write_small_packed

from binseg.cli.predict import predict
from binseg.data.imageio import read_mask, write_image
from binseg.errors import BinsegError
from binseg.inference import video
from binseg.inference.video import Video, real_time
from binseg.inference.video_sources import is_live, is_video, without_password
from binseg.prediction.outputs import Outputs
from binseg.prediction.videos import Interrupted, segment_video
from binseg.predictor import Predictor

SIZE = (46, 62)


@pytest.fixture
def model(tmp_path) -> Path:
    return write_small_packed(tmp_path / "model.safetensors")


@pytest.fixture
def clip(tmp_path) -> Path:
    """Seven frames; the bright part grows."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, SIZE[::-1])
    for number in range(7):
        frame = np.zeros((*SIZE, 3), np.uint8)
        frame[:, : 8 * (number + 1)] = 255
        writer.write(frame)
    writer.release()
    return path


def bright_columns(path: Path) -> list[int]:
    """Of each frame of a video of overlays: those in the colour of the class `bright`."""
    with Video(path) as opened:
        return [int((frame[20].astype(int).sum(1) > 350).sum()) for frame in opened.frames()]


def test_a_video_becomes_a_video(model, clip, tmp_path, capsys):
    write_image(tmp_path / "one.png", halves(9, 9))
    out = tmp_path / "out"
    assert predict(model, [str(clip), str(tmp_path / "one.png")], out, alpha=1.0) == 0
    printed = capsys.readouterr()
    image, record = map(json.loads, printed.out.splitlines())
    assert (out / "predictions.jsonl").read_text() == printed.out
    assert image["file"].endswith("one.png")
    assert record["outputs"] == [str(out / "clip_overlay.webm")]
    assert (record["frames"], record["height"], record["width"]) == (7, *SIZE)
    assert record["complete"]
    assert record["shares"]["bright"] == pytest.approx(32 / 62, abs=0.02)
    assert f"{clip}: 7 frames, {record['frames_per_second']:.1f} a second" in printed.err
    found = bright_columns(out / "clip_overlay.webm")
    assert len(found) == 7
    assert np.abs(np.subtract(found, [8 * (n + 1) for n in range(7)])).max() <= 2  # lossy
    # a second time it gets another name, unless it is done
    assert predict(model, [str(clip)], out, alpha=1.0, continue_=True) == 0
    assert capsys.readouterr().out == ""
    assert predict(model, [str(clip)], out) == 0
    assert (out / "clip_2_overlay.webm").exists()


def test_a_video_becomes_masks(model, clip, tmp_path):
    out = tmp_path / "out"
    assert predict(model, [str(clip)], out, frames="masks") == 0
    predictor = Predictor(model)
    with Video(clip) as opened:
        expected = [predictor(frame).class_map for frame in opened.frames()]
    masks = sorted((out / "clip_masks").iterdir())
    assert [path.name for path in masks] == [f"{number:08}.png" for number in range(1, 8)]
    for path, class_map in zip(masks, expected, strict=True):
        assert np.array_equal(read_mask(path), class_map)


def stopping_after(count: int):
    def on_progress(done, total, rate):
        assert total == 7
        assert rate > 0
        if done == count:
            raise KeyboardInterrupt

    return on_progress


def test_ctrl_c_keeps_what_is_done(model, clip, tmp_path, monkeypatch, capsys):
    predictor, outputs = Predictor(model), Outputs(tmp_path / "out")
    with pytest.raises(Interrupted, match="stopped after 3 frames, which are in") as caught:
        segment_video(str(clip), predictor, outputs, on_progress=stopping_after(3))
    assert caught.value.status == 130
    assert caught.value.record["frames"] == 3
    assert not caught.value.record["complete"]
    assert len(bright_columns(tmp_path / "out/clip_overlay.webm")) == 3
    # and the record is written down
    usual = Predictor.__call__
    seen = []

    def call(self, image):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(image)
        return usual(self, image)

    monkeypatch.setattr(Predictor, "__call__", call)
    with pytest.raises(Interrupted):
        predict(model, [str(clip)], tmp_path / "two", frames="masks")
    record = json.loads((tmp_path / "two/predictions.jsonl").read_text())
    assert (record["frames"], record["complete"]) == (2, False)
    assert len(list((tmp_path / "two/clip_masks").iterdir())) == 2


def test_a_camera_gives_the_frame_that_is_on(model, clip, tmp_path, monkeypatch):
    """A file stands for it, whose frames come as fast as they are read."""
    monkeypatch.setattr(video, "is_live", lambda source: True)
    predictor = Predictor(model)
    record = segment_video(str(clip), predictor, Outputs(tmp_path / "out"), frames="masks")
    assert 1 <= record["frames"] <= 7
    assert record["complete"]
    assert len(list((tmp_path / "out/camera_masks").iterdir())) == record["frames"]

    # Ctrl-C is how a camera ends
    def stop(done, total, rate):
        raise KeyboardInterrupt

    record = segment_video(str(clip), predictor, Outputs(tmp_path / "b"), on_progress=stop)
    assert record["frames"] == 1
    assert record["outputs"] == [str(tmp_path / "b/camera_overlay.webm")]


def test_a_slow_network_repeats_frames_so_that_time_passes_as_it_did(monkeypatch):
    clock = iter([0.0, 0.01, 1.0, 1.04, 3.0])
    monkeypatch.setattr(video.time, "monotonic", lambda: next(clock))
    times = real_time(25)
    assert [times() for _ in range(4)] == [1, 24, 1, 49]


def test_what_cannot_be_opened(model, tmp_path, capsys):
    (tmp_path / "list.mp4").write_text("#EXTM3U\n/etc/passwd\n")
    sources = [str(tmp_path / "list.mp4"), str(tmp_path / "none.mkv")]
    sources += ["rtsp://me:secret@127.0.0.1:9/door"]
    assert predict(model, sources, tmp_path / "out") == 1
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert "skipped list.mp4: not a video that binseg reads; use MP4" in lines[0]
    assert "skipped none.mkv: no such file" in lines[1]
    assert "skipped rtsp://127.0.0.1:9/door: gives no image" in printed.err
    assert "secret" not in printed.err
    assert printed.out == ""
    assert not list((tmp_path / "out").glob("*.webm"))


def test_names_of_sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("1").write_text("a file")
    assert [is_video(each) for each in ("0", "1", "a.MP4", "a.jpg", "rtsp://x/y", "x/0")] == [
        True, False, True, False, True, False,
    ]  # fmt: skip
    assert [is_live(each) for each in ("/dev/video2", "https://x/a.mp4", "a.mp4")] == [
        True, True, False,
    ]  # fmt: skip
    assert without_password("rtsp://a:b@host/x@y") == "rtsp://host/x@y"
    with pytest.raises(BinsegError, match="gives no image"):
        Video("97")
