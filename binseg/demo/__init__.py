"""The demo in a browser: `binseg demo`, or `binseg.demo.build()` for a page of your own server."""

import inspect
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from binseg.demo.page import Page

# gradio looks at it when it is imported, and would call home
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# later versions keep what was asked in the browser unless they are told not to
os.environ.setdefault("GRADIO_RUN_HISTORY", "False")
# FFmpeg writes of damaged videos in the log; OpenCV looks when it opens the first one
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_file_of = inspect.getfile


def import_gradio() -> None:
    """Import gradio, but let it write no stub files beside its own modules, as it does for editors
    at each start: that takes nearly half of the import. It writes none for classes without a file.

    Raises:
        ModuleNotFoundError: gradio, or what it needs, is not installed.
    """

    def file_of(thing: Any) -> str:
        if isinstance(thing, type) and thing.__module__.startswith("gradio."):
            raise OSError
        return _file_of(thing)

    if "gradio" not in sys.modules:
        with patch.object(inspect, "getfile", file_of):
            import_module("gradio")


def build(models: Sequence[str | os.PathLike[str]] = ()) -> "Page":
    """The demo's page; `binseg.demo.serve.launch` puts it on a port.

    Args:
        models: model files or names of shipped models, which are all that the page offers; without
            any, the shipped ones.

    Raises:
        BinsegError: a model is missing or damaged.
    """
    import_gradio()
    from binseg.demo.models import ModelList
    from binseg.demo.page import build_page
    from binseg.shipped import resolve

    return build_page(ModelList([resolve(model) for model in models]))


__all__ = ["build", "import_gradio"]
