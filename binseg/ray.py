"""Networks on all machines of a Ray cluster.

```python
images = ray.data.read_images("s3://bucket/street/", mode="RGB")
binseg.ray.segment(images, "street-base").write_parquet("s3://bucket/segmented/")
```

Ray starts a lost worker anew and repeats what it had not finished; a row comes out once.
"""

import itertools
import json
import logging
import os
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binseg.errors import BinsegError
from binseg.inference.protocol import WHOLE, Protocol
from binseg.prediction.segmenting import ImageSegmenter, Job, Outcome
from binseg.predictor import Predictor

if TYPE_CHECKING:
    from ray.data import ActorPoolStrategy, Dataset

_AT_ONCE = 50_000  # paths that are handed to Ray
_BLOCK = 32  # images that a worker takes at once, and does again if it is killed


def segment(
    dataset: "Dataset",
    model: str | os.PathLike[str],
    *,
    image: str = "image",
    class_map: str = "class_map",
    protocol: Protocol = WHOLE,
    gpus: float = 0,
) -> "Dataset":
    """A dataset's rows with the class map of each row's image.

    Args:
        dataset: of Ray Data.
        model: a model file that all machines can read, or the name of a shipped model.
        image: column of HWC uint8 RGB arrays, of paths, or of the files' bytes.
        class_map: column to add: HW uint8 class ids, of the image's size.
        protocol: how an image is shown to the network.
        gpus: of each worker, for networks in torch; with 0 they run on one CPU each.

    Returns:
        A dataset that is computed when it is read.

    Raises:
        ImportError: Ray is not installed.
        BinsegError: there is no such model.
    """
    name = _name(model)
    Predictor(name, device="cpu")  # a fault of the file is one line here, not one in each worker
    arguments = (name, image, class_map, protocol, "cuda" if gpus else "cpu")
    worker: Any = _Rows
    return dataset.map(
        worker,
        fn_constructor_args=arguments,
        compute=_workers(gpus),
        num_cpus=1,
        num_gpus=gpus or None,
    )


def segment_files(
    job: Job, paths: Iterable[str], block: int = _BLOCK
) -> Generator[Outcome, None, None]:
    """Segment image files on all machines; what became of them, as it is done.

    Args:
        job: what to make; its folder and the images must be where all machines find them.
        paths: of the images; taken by and by.
        block: images that a worker takes at once.

    Raises:
        ImportError: Ray is not installed.
    """
    data = _ray_data()
    job = replace(job, model=_name(job.model), out=job.out.absolute(), threads=1)
    gpus = 1 if job.device.startswith("cuda") else 0
    todo = iter(paths)
    while some := list(itertools.islice(todo, _AT_ONCE)):
        rows = [{"path": os.fsencode(os.path.abspath(path))} for path in some]  # noqa: PTH100
        done = data.from_items(rows, override_num_blocks=-(-len(rows) // block)).map(
            _Files,
            fn_constructor_args=(job,),
            compute=_workers(gpus),
            num_cpus=1,
            num_gpus=gpus or None,
        )
        for row in done.iter_rows():
            yield Outcome(**json.loads(row["outcome"]))


class _Rows:
    """A worker of `segment`."""

    def __init__(
        self, model: str, image: str, class_map: str, protocol: Protocol, device: str
    ) -> None:
        self._predictor = Predictor(model, device=device, protocol=protocol, threads=1)
        self._columns = image, class_map

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        image, class_map = self._columns
        return {**row, class_map: self._predictor(row[image]).class_map}


class _Files:
    """A worker of `segment_files`."""

    def __init__(self, job: Job) -> None:
        self._segment = ImageSegmenter(job, job.predictor())

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"outcome": json.dumps(vars(self._segment(os.fsdecode(row["path"]))))}


def _ray_data() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(
            "this needs Ray, which is not installed; pip install 'binseg[ray]'"
        ) from (error)
    if not ray.is_initialized():
        # the cluster of RAY_ADDRESS, one that runs here, or else one of this machine alone
        ray.init(log_to_driver=False, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray.data


def _workers(gpus: float) -> "ActorPoolStrategy":
    """As many as fit."""
    data = _ray_data()
    import ray

    resources = ray.cluster_resources()
    most = int(resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 1))
    if most < 1:
        raise BinsegError("no machine of the Ray cluster has a GPU; use --device cpu")
    return data.ActorPoolStrategy(min_size=1, max_size=most)


def _name(model: str | os.PathLike[str]) -> str:
    """The model as other machines find it, too."""
    path = Path(model)
    return str(path.absolute() if path.exists() else model)
