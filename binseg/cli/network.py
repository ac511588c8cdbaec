"""What `NETWORK` on the command line stands for: a model file, a shipped model, or a name with
--model options."""

from dataclasses import dataclass, replace
from pathlib import Path

from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError, unknown_name
from binseg.nn.segmenter import Segmenter
from binseg.shipped import shipped_models
from binseg.training.config import DEFAULT_MODEL, ModelConfig


@dataclass
class Subject:
    """A network and what is known of it.

    Attributes:
        title: what a table calls it.
        model: in eval mode; without a file its weights are random.
        labels, preprocessing: the file's; None without one.
    """

    title: str
    model: Segmenter
    labels: LabelTable | None = None
    preprocessing: Preprocessing | None = None


def open_network(network: str | None, options: ModelConfig, classes: int) -> Subject:
    """Load the file `network`, or build the network of that name.

    Args:
        network: a model file, a model inside the package, or one of `binseg models`; None for the
            name in `options`.
        options: the network's, if it is built.
        classes: its classes, if it is built.

    Raises:
        BinsegError: neither a file nor a name, options for a file, or a file that is faulty.
    """
    from binseg.loaded import load
    from binseg.nn.segmenter import create_model, list_models

    if options.start is not None:
        raise BinsegError("--model.start is for training; give the file in place of the name")
    if network is not None and network not in list_models():
        path = Path(network)
        known = [*list_models(), *shipped_models()]
        missing = not path.exists() and network not in known
        if missing and path.suffix != ".safetensors" and path.name == network:
            raise unknown_name("model file or name", network, known)
        if options != ModelConfig():
            raise BinsegError(f"{path}: a file knows its own options; leave --model.… out")
        loaded = load(path)
        return Subject(path.name, loaded.model, loaded.labels, loaded.preprocessing)
    name = network or options.name or DEFAULT_MODEL
    if network is not None and options.name not in (None, network):
        raise BinsegError(f"two networks are named, {network} and {options.name}; leave one out")
    arguments = replace(options, name=name).arguments(classes)
    return Subject(name, create_model(**arguments).eval())
