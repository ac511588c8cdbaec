"""The models inside the package, which go by name: `binseg.load("camvid-base")`.

Each is `models/NAME.safetensors`, a packed network, with a card `NAME.md`; its full-precision twin
is `models/NAME.twin.safetensors` or, where that would be large, in weights/ of a checkout.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from binseg import hub
from binseg.errors import BinsegError, unknown_name

FOLDER = Path(__file__).parent / "models"
WEIGHTS = Path(__file__).parents[1] / "weights"
"""Of a checkout: the float weights of the shipped networks, and of their twins."""
BEST = "best.safetensors"
"""Of a run folder: the network of its best validation."""
FOR_PHOTOGRAPHS = "street-base"
"""The shipped network that knows photographs of streets best."""
_SUFFIX = ".safetensors"
_TWIN = f".twin{_SUFFIX}"


@dataclass(frozen=True)
class ShippedModel:
    """A network that comes with binseg.

    Attributes:
        name: what `binseg.load` takes.
        path: of its packed file.
        card: Markdown: what it was trained on, its figures, its terms, what it is not for.
        twin: file of its full-precision twin, if that is here too.
    """

    name: str
    path: Path
    card: Path
    twin: Path | None


def shipped_models() -> dict[str, ShippedModel]:
    """Name → model, sorted by name."""
    paths = {
        path.name.removesuffix(_SUFFIX): path
        for path in FOLDER.glob(f"*{_SUFFIX}")
        if not path.name.endswith(_TWIN)
    }
    return {
        name: ShippedModel(name, path, path.with_suffix(".md"), twin_of(path))
        for name, path in sorted(paths.items())
    }


def trainable(name_or_path: str | os.PathLike[str]) -> Path:
    """The file with the float weights that a name or a path means, to train on from or to pack.

    A path and `hf:user/name` are what `resolve` makes of them. The shipped networks are packed;
    what they were packed from lies in weights/ of binseg's repository and, for its size, not in
    the package.

    Raises:
        BinsegError: a shipped network whose float weights are not on this machine.
    """
    path = resolve(name_or_path)
    if path.parent != FOLDER:
        return path
    name = path.name.removesuffix(_SUFFIX)
    float_file = WEIGHTS / f"{name.replace('-', '_')}{_SUFFIX}"
    if float_file.is_file():
        return float_file
    raise BinsegError(
        f"{name}: comes packed, as bits; get its float weights, "
        f"weights/{float_file.name} in binseg's repository, and give their path (or hf:user/name)"
    )


def twin_of(path: Path) -> Path | None:
    """The file of a model's full-precision twin, if there is one.

    That is NAME.twin.safetensors or NAME_twin.safetensors beside the model's own NAME.safetensors,
    and for a shipped model also the one in weights/ of a checkout.
    """
    name = path.name.removesuffix(_SUFFIX)
    places = [path.with_name(name + _TWIN), path.with_name(f"{name}_twin{_SUFFIX}")]
    if path.parent == FOLDER:
        places.append(WEIGHTS / f"{name.replace('-', '_')}_twin{_SUFFIX}")
    return next((place for place in places if place.is_file()), None)


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """The file that a name or a path means: what exists there, else the shipped model so named.

    Of a run folder it is the network that scored best in the run, best.safetensors. `hf:user/name`
    is the file of that model on the Hugging Face Hub, downloaded once. Anything else is the path as
    it is.

    Raises:
        BinsegError: a bare word that is neither, with the names there are; a model on the hub that
            cannot be had.
    """
    if hub.is_hub_name(name := os.fspath(name_or_path)):
        return hub.fetch(name)
    path = Path(name_or_path)
    if (path / BEST).is_file():
        return path / BEST
    if path.exists():
        return path
    shipped = shipped_models()
    if name in shipped:
        return shipped[name].path
    if shipped and not path.suffix and path.name == name:
        raise unknown_name("model file or shipped model", name, shipped)
    return path
