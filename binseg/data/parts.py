"""Data sets made of others: several one after the other, with names that stay unique."""

from collections import Counter
from collections.abc import Sequence

from binseg.data.dataset_views import DatasetView
from binseg.data.samples import Sample, SegmentationDataset


class JoinedDatasets(DatasetView):
    """Several data sets of one label table as one, in their order.

    Sample names stay unique: a second `0001` is called `0001_2`.

    Args:
        datasets: at least one.
        arrangement: in words, how they came together.
    """

    def __init__(self, datasets: Sequence[SegmentationDataset], arrangement: str = "") -> None:
        super().__init__(*datasets, arrangement=arrangement)
        self.expected = None
        self._names = distinct_names([part.sample_name(index) for part, index in self._places])

    def __getitem__(self, index: int) -> Sample:
        return super().__getitem__(index)._replace(name=self._names[index])

    def sample_name(self, index: int) -> str:
        return self._names[index]


def distinct_names(names: list[str]) -> list[str]:
    """The names, all but the first of several equal ones numbered."""
    taken = set(names)
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        own = name
        if seen[name] > 1:
            while (own := f"{name}_{seen[name]}") in taken:
                seen[name] += 1
            taken.add(own)
        found.append(own)
    return found
