"""Splitting by group: images of one sequence, patient or site are all in train or all in val.

Frames of one film, or slices of one patient, are nearly the same image. A score on val says
nothing about new ones if train holds their neighbours, so whole groups are held out.
"""

import difflib
import re
from collections.abc import Sequence

from binseg.data.dataset_views import DatasetView
from binseg.data.files import hashed_val
from binseg.data.samples import SegmentationDataset
from binseg.errors import BinsegError

FOLDER = "folder"
SEQUENCE = "sequence"

SEQUENCES = {"camvid": r"^([^_]+)_f?\d+"}
"""Data sets whose names are known to begin with their sequence: 0016E5_07959, 0006R0_f00930."""

_SHOWN = 12


def group_pattern(group_by: str, dataset_name: str) -> re.Pattern[str]:
    """The pattern that `data.group_by` stands for.

    Args:
        group_by: a regular expression, `folder` or `sequence`.
        dataset_name: the data set's, for `sequence`.

    Raises:
        BinsegError: no regular expression, or no sequences are known of the data set.
    """
    if group_by == FOLDER:
        return re.compile(r"^(.*)/")
    if group_by == SEQUENCE:
        if dataset_name not in SEQUENCES:
            raise BinsegError(
                f"data.group_by: the sequences of '{dataset_name}' are not known, only those of "
                f"{', '.join(SEQUENCES)}; write a pattern of the names, such as '^[^_]+'"
            )
        return re.compile(SEQUENCES[dataset_name])
    try:
        return re.compile(group_by)
    except re.error as error:
        raise BinsegError(
            f"data.group_by: '{group_by}' is no regular expression ({error}); write one, such as "
            "'^[^_]+' for all before the first _"
        ) from error


def group_of(pattern: re.Pattern[str], key: str) -> str | None:
    """The group that a name belongs to: the first parenthesis of the pattern that matched, else
    all that matches; None if nothing does."""
    found = pattern.search(key)
    if found is None:
        return None
    return next((part for part in found.groups() if part is not None), found[0])


def groups_of(dataset: SegmentationDataset, pattern: re.Pattern[str]) -> list[str]:
    """The group of each sample.

    Raises:
        BinsegError: names that the pattern does not match.
    """
    groups = []
    alien = []
    for index in range(len(dataset)):
        key = dataset.sample_key(index)
        group = group_of(pattern, key)
        if group is None:
            alien.append(key)
        else:
            groups.append(group)
    if alien:
        more = f" and {len(alien) - 1:,} more names" if len(alien) > 1 else ""
        raise BinsegError(
            f"data.group_by: '{alien[0]}'{more} do not match '{pattern.pattern}', so no group is "
            "known; widen the pattern"
        )
    return groups


def held_out(groups: Sequence[str]) -> list[str]:
    """The groups that are val when nobody names them, see `hashed_val`.

    Raises:
        BinsegError: there is only one group.
    """
    if len(set(groups)) < 2:
        raise BinsegError(
            f"data.group_by: all images are of one group, '{groups[0]}'; a split needs at least two"
        )
    return sorted(hashed_val(groups))


def split_by_group(
    pool: SegmentationDataset,
    split: str,
    pattern: re.Pattern[str],
    val_groups: Sequence[str] | None,
) -> DatasetView:
    """The samples of train or val when whole groups are held out.

    Args:
        pool: all that is to be split.
        split: train (all groups that are not val) or val.
        pattern: tells groups, see `group_of`.
        val_groups: groups that are val; None: see `held_out`.

    Raises:
        BinsegError: names without a group, unknown groups, or nothing is left for train.
    """
    groups = groups_of(pool, pattern)
    known = sorted(set(groups))
    if not known:
        raise BinsegError("data.group_by: there are no images to split")
    val = held_out(groups) if val_groups is None else list(val_groups)
    for name in val:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise BinsegError(
                f"data.val_groups: there is no group '{name}'{hint} (groups: {_shown(known)})"
            )
    if set(val) == set(known):
        raise BinsegError(
            f"data.val_groups: names all groups ({_shown(known)}), nothing is left to train on"
        )
    chosen = [index for index, group in enumerate(groups) if (group in val) == (split == "val")]
    own = [name for name in known if (name in val) == (split == "val")]
    return DatasetView(
        pool, indices=chosen, arrangement=f"group{'s' * (len(own) > 1)} {_shown(own)}"
    )


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
