"""The fixed list of models that the demo offers, each opened once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

import numpy as np

from binseg.demo.backends import BackendPredictor, backends, device_of
from binseg.demo.faults import without_folders
from binseg.errors import BinsegError, unknown_name
from binseg.loaded import LoadedModel, load, read_header
from binseg.machine import cache_folder
from binseg.nn.backbones.groupnet import Precision
from binseg.shipped import shipped_models, twin_of

QUICKSTART = "quickstart"

_WARM_UP = np.zeros((240, 320, 3), np.uint8)
"""The first image through a network also pays for what is only made once."""

Report = Callable[[float, str], None]
"""Takes the share that is done, in [0, 1], and a line about it."""


@dataclass(frozen=True)
class ModelChoice:
    """A model of the list.

    Attributes:
        key: what people and the API call it; says nothing of where the file lies.
        title: key, architecture and data in a line.
        path: its file; not there yet for a quickstart that was never trained.
        twin: file of its full-precision twin, if there is one.
    """

    key: str
    title: str
    path: Path
    twin: Path | None = None

    @property
    def bytes(self) -> int:
        """Of the file; 0 before it is there."""
        return self.path.stat().st_size if self.path.exists() else 0


class ModelList:
    """The models that the demo offers; all its methods may be called from many threads.

    Args:
        paths: model files; without any, the models inside the package, and without those the
            quickstart's network, which is trained on first use.

    Raises:
        BinsegError: a file is missing, foreign or damaged.
    """

    def __init__(self, paths: Sequence[Path] = ()) -> None:
        choices = [_choice(_unique(paths, index), path) for index, path in enumerate(paths)]
        choices = choices or [_choice(name, m.path) for name, m in shipped_models().items()]
        self._folder: Path | None = None
        if not choices:
            # imports lightning, which takes seconds that nobody else need wait for
            from binseg.demo.training import quickstart_files

            self._folder = cache_folder() / "demo"
            network, twin = quickstart_files(self._folder)
            title = f"{QUICKSTART}: Group-Net**, drawn street scenes"
            choices = [ModelChoice(QUICKSTART, title, network, twin)]
        self._choices = {choice.key: choice for choice in choices}
        self._loaded: dict[tuple[str, Precision, str], LoadedModel] = {}
        self._predictors: dict[tuple[str, Precision, str], BackendPredictor] = {}
        self._lock = RLock()

    @property
    def keys(self) -> list[str]:
        """What `get` takes."""
        return list(self._choices)

    def get(self, key: str) -> ModelChoice:
        """The model called `key`.

        Raises:
            BinsegError: there is none; the message has the keys, and no path.
        """
        if key not in self._choices:
            raise unknown_name("model", key, self._choices)
        return self._choices[key]

    def prepare(self, key: str, report: Report = lambda share, text: None) -> None:
        """Make sure that the model's file is there: trains the quickstart's network if it is not.

        Args:
            key: of the model.
            report: told how far a training is, in this thread.

        Raises:
            BinsegError: no such model, or the training failed.
        """
        self.get(key)
        if self._folder is not None:
            from binseg.demo.training import quickstart_models

            with self._lock, without_folders(self._folder):
                quickstart_models(self._folder, report)

    def load(self, key: str, precision: Precision = "binary", device: str = "cpu") -> LoadedModel:
        """The network of a model, or its full-precision twin; opened once for each device.

        Raises:
            BinsegError: there is no such model, it has no twin, or its file is damaged.
        """
        choice = self.get(key)
        path = choice.path if precision == "binary" else choice.twin
        if path is None:
            raise BinsegError(f"{key} comes without a full-precision twin; choose another model")
        with self._lock:
            self.prepare(key)
            # moving a network to a device takes it away from where it was
            known = (key, precision, device)
            if known not in self._loaded:
                with without_folders(path):
                    self._loaded[known] = load(path)
            return self._loaded[known]

    def predictor(
        self, key: str, backend: str, precision: Precision = "binary"
    ) -> BackendPredictor:
        """A predictor for a model on one of `backends()`, made once.

        Args:
            key: of the model.
            backend: see `backends`.
            precision: "binary" for the model itself, "full" for its full-precision twin.

        Raises:
            BinsegError: there is no such model or backend, or the model has no twin.
        """
        if backend not in (known := backends()):
            raise unknown_name("backend", backend, known)
        with self._lock:
            wanted = (key, precision, backend)
            if wanted not in self._predictors:
                model = self.load(key, precision, device_of(backend))
                made = BackendPredictor(model, backend, source=key)
                made(_WARM_UP)
                self._predictors[wanted] = made
            return self._predictors[wanted]


def _choice(key: str, path: Path) -> ModelChoice:
    header = read_header(path)
    if header["kind"] == "classifier":
        load(path)  # raises, and says what such a file is for
    labels, training = header.get("labels", {}), header.get("training") or {}
    architecture = header.get("architecture") or training.get("architecture") or {}
    title = f"{key}: {architecture.get('name', 'network')}, {labels.get('name', 'own')} classes"
    return ModelChoice(key, title, path, twin_of(path))


def _unique(paths: Sequence[Path], index: int) -> str:
    """The file's name without its suffix, and a number if an earlier file has the same."""
    stem = paths[index].stem
    before = sum(path.stem == stem for path in paths[:index])
    return f"{stem}-{before + 1}" if before else stem
