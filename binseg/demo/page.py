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
    events = Events(models)
    with Page(title="binseg: 1-bit segmentation", analytics_enabled=False) as page:
        page.handlers = events
        gr.HTML((ASSETS / "masthead.html").read_text(), apply_default_css=False, elem_id="masthead")
        choices = _choices(models)
        with gr.Tabs():
            with gr.Tab("Image"):
                image = _image_tab(events, choices, examples)
            with gr.Tab("Video"):
                _video_tab(events, choices)
            with gr.Tab("How it works") as tab:
                _explanation_tab(events, choices[0], tab)
        _endpoint(events, [image, *choices])
        page.load(None, js=_NAME_EXAMPLES)
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
                titles, value=models.keys[0], label="Model", scale=3, min_width=210, elem_id="model"
            ),
            gr.Dropdown(
                known, value=known[0], label="Runs on", scale=1, min_width=110, elem_id="backend"
            ),
        ]


def _image_tab(events: Events, choices: list[gr.Dropdown], examples: list[Path]) -> gr.Image:
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            image = gr.Image(
                label="Image",
                type="filepath",
                image_mode=None,
                sources=["upload", "webcam", "clipboard"],
                buttons=[],
                height=270,
                elem_id="image",
            )
            gr.Examples(
                [[str(path)] for path in examples],
                inputs=[image],
                label="Or try a drawn street",
                elem_id="examples",
                **_OWN,
            )
            gr.Markdown(
                "Models that learned from photographs do better on photographs. Images stay on "
                "the machine that runs this page and are deleted within half an hour.",
                elem_classes="hint",
            )
        with gr.Column(scale=3, min_width=300):
            result = viewer()
            with gr.Column(visible=False) as comparison:
                gr.Markdown("### 1-bit beside full precision")
                pair = gr.ImageSlider(
                    show_label=False, format="jpeg", interactive=False, buttons=[], elem_id="pair"
                )
                gr.Markdown(
                    "Left of the line the 1-bit network, right of it its full-precision twin. "
                    "Drag the line.",
                    elem_classes="hint",
                )
    gr.on(
        [image.change, *(choice.input for choice in choices)],
        events.image,
        [image, *choices],
        [result, comparison, pair],
        preprocess=False,
        show_progress_on=result,
        trigger_mode="always_last",
        **_ONE_AT_A_TIME,
        **_OWN,
    )
    return image


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


def _explanation_tab(events: Events, model: gr.Dropdown, tab: gr.Tab) -> None:
    with gr.Row():
        with gr.Column(min_width=300):
            text = gr.Markdown(elem_id="explanation")
        with gr.Column(min_width=300):
            weights = gr.HTML(elem_id="weights", apply_default_css=False)
    layers = gr.HTML(elem_id="network", apply_default_css=False)
    gr.on([tab.select, model.input], events.explanation, model, [text, weights, layers], **_OWN)


def _endpoint(events: Events, inputs: list[gr.components.Component]) -> None:
    """The one function for programs, `/segment`; its outputs are on no screen."""
    ids = gr.File(visible=False, label="class ids")
    overlay = gr.File(visible=False, label="overlay")
    figures = gr.JSON(visible=False, label="figures")
    gr.Button(visible=False).click(
        events.segment,
        inputs,
        [ids, overlay, figures],
        preprocess=False,
        api_name="segment",
        **_ONE_AT_A_TIME,
    )
