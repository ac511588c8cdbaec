"""The page's layout: what stands where, and which event belongs to it."""

from pathlib import Path
from typing import Any

import gradio as gr

from binseg.demo.backends import backends
from binseg.demo.events import OPACITY, Events
from binseg.demo.examples import write_examples
from binseg.demo.models import ModelList
from binseg.demo.uploads import EXAMPLES, upload_folder
from binseg.demo.video import MOST_FRAMES, MOST_SECONDS
from binseg.demo.viewer import ASSETS, viewer

MOST_WAITING = 16
"""Requests in the queue; more are told that it is full."""

_ONE_AT_A_TIME: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "inference"}
# a long video does not keep images waiting: they take turns on the device, frame by frame
_ONE_VIDEO: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "video"}
_OWN: dict[str, Any] = {"api_visibility": "private"}

# gradio gives the buttons of its examples no names
_NAME_EXAMPLES = """() => document.querySelectorAll("#examples button").forEach(
    (button, at) => button.setAttribute("aria-label", `Example ${at + 1}`))"""


class Page(gr.Blocks):
    """The page.

    Attributes:
        handlers: of its events.
    """

    handlers: Events


def build_page(models: ModelList) -> Page:
    """The page with its queue, not on any port yet."""
    # before any component, which remember where gradio keeps files
    examples = write_examples(upload_folder().path / EXAMPLES)
    events = Events(models, examples)
    with Page(title="binseg: 1-bit segmentation", analytics_enabled=False) as page:
        page.handlers = events
        gr.HTML((ASSETS / "masthead.html").read_text(), apply_default_css=False, elem_id="masthead")
        choices = _choices(models)
        with gr.Tabs():
            with gr.Tab("Image"):
                image, start = _image_tab(events, choices, examples)
            with gr.Tab("Video"):
                _video_tab(events, choices)
            with gr.Tab("How it works") as tab:
                _explanation_tab(events, image, choices[0], tab)
        _endpoint(events)
        page.load(None, js=_NAME_EXAMPLES)
        page.load(*start, **_OWN, **_ONE_AT_A_TIME, preprocess=False, show_progress="hidden")
        page.unload(events.stop)
    # no way around the queue
    page.queue(max_size=MOST_WAITING, default_concurrency_limit=1, api_open=False)
    return page


def _choices(models: ModelList) -> list[gr.Dropdown]:
    """What segments, and what runs it."""
    titles = [(models.get(key).title, key) for key in models.keys]
    known = backends()
    with gr.Row(elem_id="choices"):
        return [
            gr.Dropdown(
                titles, value=models.first, label="Model", scale=3, min_width=210, elem_id="model"
            ),
            gr.Dropdown(
                known, value=known[0], label="Runs on", scale=1, min_width=110, elem_id="backend"
            ),
        ]


def _image_tab(
    events: Events, choices: list[gr.Dropdown], examples: list[Path]
) -> tuple[gr.Image, tuple[Any, ...]]:
    """The image, and function, inputs and outputs of the event that segments it."""
    model, backend = choices
    drawn = events.models.get(events.models.first).drawn
    with gr.Row(elem_id="bench"):
        with gr.Column(scale=2, min_width=300):
            image = gr.Image(
                value=str(examples[0]) if drawn else None,
                label="Image",
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard"],
                buttons=[],
                height=230,
                elem_id="image",
            )
            offered = gr.Examples(
                [[str(path)] for path in examples],
                inputs=[image],
                label="Or try a drawn street",
                elem_id="examples",
                visible=drawn or "hidden",
                **_OWN,
            ).dataset
            gr.Markdown(
                "Images stay on the machine that runs this page and are deleted within half an "
                "hour; those of the camera are not kept at all.",
                elem_classes="hint",
            )
        with gr.Column(scale=3, min_width=300, elem_id="result"):
            result = viewer()
    run = events.image, [image, *choices], [model, result]
    more: dict[str, Any] = {
        "preprocess": False, "show_progress_on": result, "trigger_mode": "always_last",
        **_ONE_AT_A_TIME, **_OWN,
    }  # fmt: skip
    gr.on([image.change], *run, **more)
    gr.on([backend.input], events.again, [image, *choices], result, **more)
    gr.on([model.input], events.model, [image, *choices], [image, offered, result], **more)
    return image, run


def _video_tab(events: Events, choices: list[gr.Dropdown]) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            video = gr.Video(
                label="Short video", sources=["upload", "webcam"], height=290, elem_id="video"
            )
            opacity = gr.Slider(0, 100, value=round(100 * OPACITY), step=5, label="Opacity in %")
            with gr.Row():
                start = gr.Button("Segment the video", variant="primary", elem_id="start")
                stop = gr.Button("Stop", min_width=100, elem_id="stop")
            gr.Markdown(
                f"Up to {MOST_SECONDS:g} seconds and {MOST_FRAMES} frames, without sound. After "
                "Stop, what is done is shown.",
                elem_classes="hint",
            )
        with gr.Column(scale=3, min_width=300):
            segmented = gr.Video(
                label="Segmented", interactive=False, buttons=["download"], elem_id="segmented"
            )
            about = gr.Markdown(elem_id="about-video")
    start.click(
        events.video,
        [video, *choices, opacity],
        [segmented, about],
        preprocess=False,
        show_progress_on=segmented,
        **_ONE_VIDEO,
        **_OWN,
    )
    stop.click(events.stop, queue=False, **_OWN)


def _explanation_tab(events: Events, image: gr.Image, model: gr.Dropdown, tab: gr.Tab) -> None:
    signs = gr.HTML(elem_id="signs", apply_default_css=False)
    text = gr.Markdown(elem_id="explanation")
    layers = gr.HTML(elem_id="network", apply_default_css=False)
    gr.on(
        [tab.select, model.input],
        events.explanation,
        [image, model],
        [text, signs, layers],
        preprocess=False,
        show_progress_on=text,
        **_ONE_AT_A_TIME,
        **_OWN,
    )


def _endpoint(events: Events) -> None:
    """The one function for programs, `/segment`; nothing of it is on any screen. Its defaults are
    the first of the models and backends, whatever the page begins with."""
    keys, known = events.models.keys, backends()
    with gr.Row(visible=False):
        image = gr.Image(type="filepath", image_mode=None, label="image")
        model = gr.Dropdown(keys, value=keys[0], label="model")
        backend = gr.Dropdown(known, value=known[0], label="backend")
        ids = gr.File(label="class ids")
        overlay = gr.File(label="overlay")
        figures = gr.JSON(label="figures")
        gr.Button().click(
            events.segment,
            [image, model, backend],
            [ids, overlay, figures],
            preprocess=False,
            api_name="segment",
            **_ONE_AT_A_TIME,
        )
