"""What the page does when somebody uploads, chooses, starts or stops."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import gradio as gr

from binseg.demo import viewer
from binseg.demo.drawing import comparison_json, result_json, write_downloads
from binseg.demo.images import OpenedImage, open_upload
from binseg.demo.inference import DemoResult, segment_image
from binseg.demo.models import ModelList
from binseg.demo.twins import Twins
from binseg.demo.uploads import find_upload, work_folder
from binseg.demo.video import plan_video, segment_video
from binseg.errors import BinsegError

OPACITY = 0.6

Upload = dict[str, Any] | None
"""A file as a client describes it, see `find_upload`. The events take it so, with
`preprocess=False`, because gradio's opener has no limits and no words for faults."""


class Events:
    """The page's events on one list of models.

    Args:
        models: all that the page offers.
        examples: images that it offers to the networks that learned from drawn scenes.
    """

    def __init__(self, models: ModelList, examples: Sequence[Path]) -> None:
        self.models = models
        self.twins = Twins(models)
        self._examples = examples
        self._stops: dict[str, Event] = {}

    def image(self, upload: Upload, model: str, backend: str) -> Iterator[tuple[Any, Any]]:
        """Segment the page's image. One from outside, where a network of drawn streets is chosen,
        goes to a network that knows photographs; choosing the other one again brings it back.

        Yields:
            Values of the list of models and of the viewer.
        """
        outside = upload is not None and not self._is_example(upload)
        known = self.models.for_photographs(model) if outside else model
        switched = known != model
        for shown in self.again(upload, known, backend):
            if switched and "notes" in shown:
                shown["notes"].insert(0, f"segmented by {known}; {model} knows drawn streets")
            yield gr.update(value=known) if switched else gr.skip(), shown

    def again(self, upload: Upload, model: str, backend: str) -> Iterator[dict[str, Any]]:
        """Segment the page's image by the network that is chosen; then compare with its twin.

        Yields:
            Values of the viewer.
        """
        chosen = viewer.chosen(self.models, model, backend)
        if upload is None:
            yield chosen | viewer.message(self.empty(model))
            return
        try:
            path, name = find_upload(upload, "an image")
            opened, found = self._segment(path, model, backend)
            yield chosen | viewer.result(found, Path(name).stem, opened.notes)
            yield {"comparison": viewer.comparison(found, self.twins.compare(found))}
        except BinsegError as error:
            yield chosen | viewer.message(str(error), alarming=True)

    def model(self, upload: Upload, model: str, backend: str) -> Iterator[tuple[Any, ...]]:
        """What follows from another model: its examples, and the image by it.

        Yields:
            Values of the image, of the examples and of the viewer.
        """
        drawn = self.models.get(model).drawn
        # what is not there at all loses its names, see `_NAME_EXAMPLES`
        examples = gr.update(visible=drawn or "hidden")
        image: Any = gr.skip()
        if drawn and upload is None:
            upload = self._example()
            image = str(self._examples[0])
        elif not drawn and self._is_example(upload):
            # a network that learned from photographs sees nothing in a drawn scene
            image = upload = None
        shown: dict[str, Any] = {}
        for shown in self.again(upload, model, backend):
            yield image, examples, shown
            # drawn again, the examples would lose a click that comes just then
            image = examples = gr.skip()

    def empty(self, model: str) -> str:
        """What stands in place of a result where there is no image."""
        if self.models.get(model).drawn:
            return "Choose an example, or drop an image of your own."
        return (
            f"{model} learned from photographs: drop one of a street, or open the camera.\n"
            "The drawn examples belong to the network of drawn scenes."
        )

    def segment(self, image: Upload, model: str, backend: str) -> Iterator[tuple[str, str, Any]]:
        """Segment an image: a palette PNG of class ids, the overlay, and the figures as JSON."""
        try:
            path, name = find_upload(image, "an image")
            _, found = self._segment(path, model, backend)
            figures = result_json(found) | comparison_json(found, self.twins.compare(found))
        except BinsegError as error:
            raise gr.Error(str(error), print_exception=False) from error
        # gradio copies the files while the generator waits
        with TemporaryDirectory(dir=work_folder()) as folder:
            ids, drawing = write_downloads(
                Path(folder), found, opacity=OPACITY, stem=Path(name).stem
            )
            yield str(ids), str(drawing), figures

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

    def explanation(self, upload: Upload, model: str) -> tuple[str, str, str]:
        """Values of the tab that explains the model: text, signs of the image, table of layers."""
        # they load torch, for which the page's first result need not wait
        from binseg.demo.explain import explain
        from binseg.demo.explanation import layer_table

        try:
            path, _ = find_upload(upload or self._example(), "an image")
            found = explain(self.models, model, open_upload(path).image)
        except BinsegError as error:
            return f"**{error}**", "", ""
        return found.text, found.signs, layer_table(found)

    def _example(self) -> dict[str, Any]:
        return {"path": str(self._examples[0]), "orig_name": self._examples[0].name}

    def _is_example(self, upload: Upload) -> bool:
        return upload is not None and upload.get("path") in [str(path) for path in self._examples]

    def _segment(self, path: Path, model: str, backend: str) -> tuple[OpenedImage, DemoResult]:
        opened = open_upload(path)
        found = segment_image(self.models, model, backend, opened.image)
        return opened, found
