"""Whose a file is: code is loaded only if nobody but this user and root can have put it there."""

import os
import stat
from pathlib import Path

_ROOT = 0
_OTHERS_FROM_OUTSIDE = 65534
"""In a user namespace the owner of files of all users that it does not know, root among them."""


def why_untrusted(path: Path) -> str | None:
    """Why another user could have put `path` there, or could put something else in its place.

    Args:
        path: a file or folder, with all links resolved.

    Returns:
        Half a sentence; None if only this user and root can write it and every folder above it.

    Raises:
        OSError: it cannot be looked at.
    """
    status = path.lstat()
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return "is neither a file nor a folder"
    if status.st_uid not in (_ROOT, os.getuid()):
        return "belongs to another user"
    if _others_write(status):
        return "can be written by other users"
    for folder in path.absolute().parents:
        status = folder.lstat()
        if status.st_uid not in _owners_of_folders():
            return f"lies in {folder}, which belongs to another user"
        # in a folder with the sticky bit, such as /tmp, others cannot rename what is not theirs
        if _others_write(status) and not status.st_mode & stat.S_ISVTX:
            return f"lies in {folder}, which can be written by other users"
    return None


def _others_write(status: os.stat_result) -> bool:
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_own_group(status.st_gid)


def _is_own_group(gid: int) -> bool:
    """Whether a group is root's, or one that many systems make for each user alone."""
    import grp
    import pwd

    if gid == _ROOT:
        return True
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return (
        user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
    )


def _owners_of_folders() -> set[int]:
    own = {_ROOT, os.getuid()}
    try:
        first = Path("/proc/self/uid_map").read_text().split()
    except OSError:
        return own
    inside = first != ["0", "0", str(2**32 - 1)]
    return own | {_OTHERS_FROM_OUTSIDE} if inside else own
