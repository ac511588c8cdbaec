"""The fixed list of models that the demo offers, each opened once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Literal

import numpy as np

from binseg.demo.backends import PackedRunner, Runner, TorchRunner, backends
from binseg.demo.faults import without_folders
from binseg.demo.uploads import packed_folder
from binseg.errors import BinsegError, unknown_name
from binseg.model_file import read_header
from binseg.shipped import FOLDER, FOR_PHOTOGRAPHS, shipped_models, twin_of

if TYPE_CHECKING:
    from binseg.loaded import LoadedModel

Precision = Literal["binary", "full"]
"""The model itself, or its full-precision twin."""

PRECISIONS: tuple[Precision, ...] = ("binary", "full")

_DRAWN = "scenes"  # name of the label table of the built-in scenes
_WARM_UP = np.zeros((240, 320, 3), np.uint8)
"""The first image through a network also pays for what is only made once."""


@dataclass(frozen=True)
class ModelChoice:
    """A model of the list.

    Attributes:
        key: what people and the API call it; says nothing of where the file lies.
        title: key, architecture and data in a line.
        path: its file.
        kind: of the file: packed or float.
        drawn: whether it learned from the built-in scenes.
        architecture: arguments of `binseg.create_model`, as far as the file has them.
        twin: file of its full-precision twin, if there is one.
    """

    key: str
    title: str
    path: Path
    kind: str
    drawn: bool
    architecture: dict[str, object]
    twin: Path | None = None


class ModelList:
    """The models that the demo offers; all its methods may be called from many threads.

    Args:
        paths: model files; without any, the models inside the package.

    Raises:
        BinsegError: a file is missing, foreign or damaged, or the package has no models.
    """

    def __init__(self, paths: Sequence[Path] = ()) -> None:
        choices = [_choice(_unique(paths, index), path) for index, path in enumerate(paths)]
        if not choices:
            models = sorted(shipped_models().values(), key=lambda m: m.name != FOR_PHOTOGRAPHS)
            choices = [_choice(model.name, model.path) for model in models]
        if not choices:
            raise BinsegError(f"{FOLDER}: no models here; give a model file to the demo")
        self._choices = {choice.key: choice for choice in choices}
        self._loaded: dict[tuple[str, Precision], LoadedModel] = {}
        self._packed: dict[str, Path] = {}
        self._runners: dict[tuple[str, Precision, str], Runner] = {}
        self._lock = RLock()

    @property
    def keys(self) -> list[str]:
        """What `get` takes."""
        return list(self._choices)

    @property
    def first(self) -> str:
        """What the page begins with: the first model that the drawn examples are good for."""
        return next((key for key, each in self._choices.items() if each.drawn), self.keys[0])

    def for_photographs(self, key: str) -> str:
        """The model that a photograph is segmented by where `key` is chosen: the first other one
        if `key` knows drawn streets only, and there is another."""
        if not self.get(key).drawn:
            return key
        return next((other for other, each in self._choices.items() if not each.drawn), key)

    def get(self, key: str) -> ModelChoice:
        """The model called `key`.

        Raises:
            BinsegError: there is none; the message has the keys, and no path.
        """
        if key not in self._choices:
            raise unknown_name("model", key, self._choices)
        return self._choices[key]

    def load(self, key: str, precision: Precision = "binary") -> "LoadedModel":
        """The network of a model, or its full-precision twin, in torch; opened once.

        Raises:
            BinsegError: there is no such model, it has no twin, or its file is damaged.
        """
        from binseg.loaded import load

        choice = self.get(key)
        path = choice.path if precision == "binary" else choice.twin
        if path is None:
            raise BinsegError(f"{key} comes without a full-precision twin; choose another model")
        with self._lock:
            known = key, precision
            if known not in self._loaded:
                with without_folders(path):
                    self._loaded[known] = load(path)
            return self._loaded[known]

    def packed(self, key: str) -> Path | None:
        """The file of a model's bits. A float file is packed first, once; None for one of a
        full-precision network, which has none.

        Raises:
            BinsegError: there is no such model, or it cannot be packed.
        """
        choice = self.get(key)
        if choice.kind == "packed":
            return choice.path
        if choice.architecture.get("precision") == "full":
            return None
        with self._lock:
            if key not in self._packed:
                self._packed[key] = self._pack(choice)
            return self._packed[key]

    def bytes(self, key: str) -> int:
        """Of the file that runs: of a float file those of its packed network."""
        return (self.packed(key) or self.get(key).path).stat().st_size

    def runner(self, key: str, backend: str, precision: Precision = "binary") -> Runner:
        """A model on one of `backends()`, made once.

        Args:
            key: of the model.
            backend: see `backends`; full precision runs in torch, whatever it is.
            precision: "binary" for the model itself, "full" for its full-precision twin.

        Raises:
            BinsegError: there is no such model or backend, or the model has no twin.
        """
        if backend not in (known := backends()):
            raise unknown_name("backend", backend, known)
        with self._lock:
            path = self.packed(key) if precision == "binary" else None
            wanted = key, precision, backend if path else ""
            if wanted not in self._runners:
                if path is None:
                    made: Runner = TorchRunner(self.load(key, precision))
                else:
                    with without_folders(path):
                        made = PackedRunner(path, backend)
                made.timed(_WARM_UP)
                self._runners[wanted] = made
            return self._runners[wanted]

    def _pack(self, choice: ModelChoice) -> Path:
        from binseg.compiler.pack import pack
        from binseg.loaded import save

        loaded = self.load(choice.key)
        path = packed_folder() / f"{choice.key}.safetensors"
        with without_folders(path, choice.path):
            network = pack(loaded.model, preprocessing=loaded.preprocessing)
            save(path, network, loaded.labels, loaded.preprocessing)
        return path


def _choice(key: str, path: Path) -> ModelChoice:
    header = read_header(path)
    if header["kind"] == "classifier":
        from binseg.loaded import load

        load(path)  # raises, and says what such a file is for
    labels, training = header.get("labels", {}), header.get("training") or {}
    architecture = header.get("architecture") or training.get("architecture") or {}
    name = labels.get("name", "own")
    title = f"{key}: {architecture.get('name', 'network')}, {name} classes"
    return ModelChoice(
        key, title, path, header["kind"], name == _DRAWN, architecture, twin_of(path)
    )


def _unique(paths: Sequence[Path], index: int) -> str:
    """The file's name without its suffix, and a number if an earlier file has the same."""
    stem = paths[index].stem
    before = sum(path.stem == stem for path in paths[:index])
    return f"{stem}-{before + 1}" if before else stem
