"""What the page does when somebody uploads, chooses, starts or stops."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import gradio as gr

from binseg.demo import viewer
from binseg.demo.drawing import result_json, write_downloads
from binseg.demo.explain import explain
from binseg.demo.explanation import layer_table
from binseg.demo.images import OpenedImage, open_upload
from binseg.demo.inference import DemoResult, segment_image
from binseg.demo.models import ModelList
from binseg.demo.uploads import find_upload, work_folder
from binseg.demo.video import plan_video, segment_video
from binseg.errors import BinsegError
from binseg.visualize import overlay

OPACITY = 0.6

Upload = dict[str, Any] | None
"""A file as a client describes it, see `find_upload`. The events take it so, with
`preprocess=False`, because gradio's opener has no limits and no words for faults."""


class Events:
    """The page's events on one list of models.

    Args:
        models: all that the page offers.
    """

    def __init__(self, models: ModelList) -> None:
        self.models = models
        self._stops: dict[str, Event] = {}

    def image(
        self,
        upload: Upload,
        model: str,
        backend: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - gradio finds it by this default
    ) -> Iterator[tuple[Any, Any, Any]]:
        """Segment the page's image; then, where there is a twin, compare the two.

        Yields:
            Values of the viewer, of the comparison's group and of its slider.
        """
        hidden = gr.update(visible=False), None
        if upload is None:
            yield viewer.message(viewer.EMPTY), *hidden
            return
        try:
            path, name = find_upload(upload, "an image")
            self._prepare(model, progress)
            opened, found = self._segment(path, model, backend)
            yield viewer.result(found, Path(name).stem, opened.notes), *hidden
            if self.models.get(model).twin is not None:
                pair = self._compared(found)
                yield gr.skip(), gr.update(visible=True), pair
        except BinsegError as error:
            yield viewer.message(str(error), alarming=True), *hidden

    def segment(self, image: Upload, model: str, backend: str) -> Iterator[tuple[str, str, Any]]:
        """Segment an image: a palette PNG of class ids, the overlay, and the figures as JSON."""
        try:
            path, name = find_upload(image, "an image")
            self.models.prepare(model)
            _, found = self._segment(path, model, backend)
        except BinsegError as error:
            raise gr.Error(str(error), print_exception=False) from error
        # gradio copies the files while the generator waits
        with TemporaryDirectory(dir=work_folder()) as folder:
            ids, drawing = write_downloads(
                Path(folder), found, opacity=OPACITY, stem=Path(name).stem
            )
            yield str(ids), str(drawing), result_json(found)

    def video(
        self,
        upload: Upload,
        model: str,
        backend: str,
        opacity: float,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - as above
    ) -> Iterator[tuple[Any, str]]:
        """Segment the page's video until its end, or until its session says `stop`.

        Yields:
            Values of the resulting video and of the text about it.
        """
        if upload is None:
            yield None, "Choose a video first."
            return
        session = str(request.session_hash)
        stop = self._stops[session] = Event()
        # gradio copies the file while the generator waits
        with TemporaryDirectory(dir=work_folder()) as folder:
            try:
                path, _ = find_upload(upload, "a video")
                self._prepare(model, progress)
                notes = plan_video(path).notes
                out = segment_video(
                    path,
                    self.models,
                    model,
                    backend,
                    Path(folder),
                    opacity=opacity / 100,
                    progress=lambda done, total: progress((done, total), unit="frames"),
                    stop=stop,
                )
                ended = "Stopped; this is what was done." if stop.is_set() else "Done."
                yield str(out), " ".join([ended, *(f"{note}." for note in notes)])
            except BinsegError as error:
                yield None, f"**{error}**"
            finally:
                self._stops.pop(session, None)

    def stop(self, request: gr.Request) -> None:
        """End the session's video after the frame that is being done; also when a page closes."""
        self.leave(str(request.session_hash))

    def leave(self, session: str) -> None:
        """End what is being done for a session whose client is gone."""
        if waiting := self._stops.get(session):
            waiting.set()

    def explanation(self, model: str) -> tuple[str, str, str]:
        """Values of the tab that explains the model: text, drawing of weights, table of layers."""
        try:
            self.models.prepare(model)
            found = explain(self.models, model)
        except BinsegError as error:
            return f"**{error}**", "", ""
        return found.text, found.picture, layer_table(found)

    def _prepare(self, model: str, progress: gr.Progress) -> None:
        def report(share: float, text: str) -> None:
            progress(share, desc=text)

        self.models.prepare(model, report)

    def _segment(self, path: Path, model: str, backend: str) -> tuple[OpenedImage, DemoResult]:
        opened = open_upload(path)
        found = segment_image(self.models, model, backend, opened.image)
        return opened, found

    def _compared(self, found: DemoResult) -> tuple[Any, Any]:
        """Overlays of the 1-bit network and of its full-precision twin."""
        twin = self.models.predictor(found.key, found.backend, "full")(found.image)
        left, right = (
            overlay(found.image, class_map, found.labels, OPACITY)
            for class_map in (found.class_map, twin.class_map)
        )
        return left, right
