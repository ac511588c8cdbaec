"""Read a whole data set and list everything that is wrong with it."""

import functools
import time
from collections.abc import Iterator, Sequence

import numpy as np

from binseg.data.check_images import SCORED, SeenImages, compare_images
from binseg.data.check_report import DatasetReport, Finding, SplitReport
from binseg.data.check_sample import CheckedSample, check_sample
from binseg.data.class_presence import missing_classes, not_scored, nothing_to_score, one_class
from binseg.data.config import DataConfig
from binseg.data.datasets import SPLITS, MissingSplitError
from binseg.data.groups import SEQUENCE, SEQUENCES, group_of, group_pattern
from binseg.data.labels import IGNORE
from binseg.data.merge import open_merged
from binseg.data.processes import in_processes
from binseg.data.samples import SegmentationDataset, size_in_words
from binseg.errors import BinsegError


class DatasetCheck:
    """A check in steps, so that a caller can show progress: iterate, then take `report`.

    Every image and mask is read once; what is looked for are `FAULTS` and `WARNINGS`. The report
    does not depend on the number of processes.

    Args:
        config: says which data set.
        workers: processes that read; below 2: this one.

    Raises:
        BinsegError: an unknown data set, or its label table cannot be read at all.
    """

    def __init__(self, config: DataConfig, workers: int = 1) -> None:
        self.report = DatasetReport(config.label_table())
        self._config = config
        self._workers = workers
        # of a few classes only, an image may well have none
        self._need_labels = config.chosen_classes is None and config.relabel is None
        self._datasets: dict[str, SegmentationDataset] = {}
        self._said: set[str] = set()
        for split in SPLITS:
            try:
                self._datasets[split] = config.open(split, strict=False)
            except BinsegError as error:
                optional = split == "test" and isinstance(error, MissingSplitError)
                if not optional:
                    self._fault("arrangement", str(error))
        for number, other in enumerate(config.merge, start=1):
            try:
                opened = open_merged(other, self.report.labels, strict=False)
            except BinsegError as error:
                self._fault("arrangement", str(error))
            else:
                self._datasets[f"merge {number}, {other.name}"] = opened

    def __len__(self) -> int:
        """Samples to read."""
        return sum(len(dataset) for dataset in self._datasets.values())

    def __iter__(self) -> Iterator[str]:
        """Check sample after sample, yielding the name of each; the report is ready at the end.

        Raises:
            BinsegError: a process that read was killed.
        """
        began = time.monotonic()
        items = [
            (split, index)
            for split, dataset in self._datasets.items()
            for index in range(len(dataset))
        ]
        check = functools.partial(_check_item, self._datasets, items, self._need_labels)
        checked = in_processes(check, len(items), self._workers)
        seen: dict[str, SeenImages] = {}
        for split, dataset in self._datasets.items():
            for line in dataset.faults:
                self._fault("arrangement", line)
            for path, reason in dataset.left_out:
                self._fault("left_out", f"{path}: left out: {reason}")
            result = self._begin(split, dataset)
            images = seen.setdefault(split, SeenImages())
            for index in range(len(dataset)):
                sample = next(checked)
                self.report.faults.extend(sample.faults)
                self.report.warnings.extend(sample.notes)
                if sample.counts is not None and sample.size is not None:
                    result.add(sample.counts, sample.size)
                paths = dataset.sample_paths(index)
                if paths and sample.digest is not None and sample.thumbnail is not None:
                    images.add(paths[0], sample.digest, sample.thumbnail)
                yield f"{split}/{dataset.sample_name(index)}"
        self._look_at_classes()
        self._look_at_sequences()
        compare_images(self.report, seen, self._remedy())
        self.report.seconds = time.monotonic() - began

    def _fault(self, kind: str, text: str) -> None:
        """Add a fault, unless another split had the same."""
        if text not in self._said:
            self.report.faults.append(Finding(kind, text))
            self._said.add(text)

    def _begin(self, split: str, dataset: SegmentationDataset) -> SplitReport:
        classes = self.report.labels.num_classes
        zeros = np.zeros(classes + 1, np.int64), np.zeros(classes, np.int64)
        result = SplitReport(
            size_in_words(dataset), len(dataset), dataset.expected, dataset.arrangement, 0, *zeros
        )
        self.report.splits[split] = result
        return result

    def _look_at_classes(self) -> None:
        labels = self.report.labels
        if (text := one_class(labels)) is not None:
            self._fault("classes", text)
        results = self.report.splits
        if any(dataset.sample_paths(0) is None for dataset in self._datasets.values() if dataset):
            return  # drawn and not read: their labels are right by construction
        training = [result for split, result in results.items() if split not in SCORED]
        trained = sum((_by_train_id(result) for result in training), np.zeros(IGNORE + 1, np.int64))
        masks = sum(result.samples for result in training)
        if "train" in results and masks:
            text = missing_classes(labels, trained, masks)
            if text is not None and self._config.allow_missing_classes:
                self.report.warnings.append(Finding("classes", text))
            elif text is not None:
                self._fault("classes", text)
        val = results.get("val")
        if val is None or not val.samples:
            return
        if (text := nothing_to_score(labels, _by_train_id(val), val.samples)) is not None:
            self._fault("classes", text)
        elif masks and (text := not_scored(labels, trained, _by_train_id(val), val.samples)):
            self.report.warnings.append(Finding("classes", text))

    def _look_at_sequences(self) -> None:
        """Sequences, or groups, that are in train and in another split as well."""
        group_by = self._config.group_by
        if group_by is None:
            if self._config.name not in SEQUENCES:
                return
            group_by = SEQUENCE
        try:
            pattern = group_pattern(group_by, self._config.name)
        except BinsegError:
            return  # said when the splits were opened
        groups = {
            split: [group_of(pattern, dataset.sample_key(n)) for n in range(len(dataset))]
            for split, dataset in self._datasets.items()
            if split in SPLITS
        }
        train = groups.pop("train", [])
        for split, found in groups.items():
            for group in sorted({group for group in found if group is not None} & set(train)):
                text = (
                    f"{split}: {found.count(group):,} of its {len(found):,} images are of "
                    f"{group}, like {train.count(group):,} of train's {len(train):,}; "
                    f"{self._remedy()}"
                )
                self.report.warnings.append(Finding("sequences", text))

    def _remedy(self) -> str:
        if self._config.name in SEQUENCES:
            return "leave a whole sequence out to choose by (--data.val_groups NAME)"
        if self._config.name == "folder":
            return "hold out whole sequences, patients or sites (--data.group_by)"
        return "keep this in mind when choosing by it"


def check_dataset(config: DataConfig, workers: int = 1) -> DatasetReport:
    """Read all splits of a data set; see `DatasetCheck`.

    Raises:
        BinsegError: an unknown data set, or its label table cannot be read at all.
    """
    check = DatasetCheck(config, workers)
    for _ in check:
        pass
    return check.report


def _check_item(
    datasets: dict[str, SegmentationDataset],
    items: Sequence[tuple[str, int]],
    need_labels: bool,
    number: int,
) -> CheckedSample:
    split, index = items[number]
    # what is merged may have images of ignored classes alone
    return check_sample(datasets[split], index, need_labels=need_labels and split in SPLITS)


def _by_train_id(result: SplitReport) -> np.ndarray:
    """int64 (256,): pixels by train id, ignored ones at 255."""
    counts = np.zeros(IGNORE + 1, np.int64)
    counts[: len(result.pixels) - 1] = result.pixels[:-1]
    counts[IGNORE] = result.pixels[-1]
    return counts
