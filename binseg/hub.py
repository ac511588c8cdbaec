"""Models on the Hugging Face Hub: `hf:user/name` wherever a model file is wanted.

Nothing is downloaded but what such a name asks for; a file that is in the hub's cache already is
taken from there, and with HF_HUB_OFFLINE=1 only from there.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from binseg.errors import BinsegError

PREFIX = "hf:"
_SUFFIX = ".safetensors"
_DEFAULT = f"model{_SUFFIX}"
_UNREACHED = (
    *("LocalEntryNotFoundError", "OfflineModeIsEnabled"),
    *("ConnectError", "ConnectTimeout", "ConnectionError"),
)
_NAME = re.compile(
    r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w./-]+\.safetensors))?(?:@(?P<revision>[\w./-]+))?"
)


def is_hub_name(name: str) -> bool:
    """Whether a name means a model on the hub."""
    return name.startswith(PREFIX)


def fetch(name: str) -> Path:
    """The local file of a model on the hub.

    Args:
        name: `hf:user/name`, whose file is model.safetensors or the only .safetensors there;
            `hf:user/name/file.safetensors`; either with `@revision` behind it.

    Raises:
        BinsegError: another form, huggingface_hub is missing, no network, or no such model.
    """
    repo, file, revision = _parts(name)
    hub = _library()
    try:
        if file is None:
            file = _only_file(hub, repo, revision, name)
        return Path(hub.hf_hub_download(repo, file, revision=revision))
    except BinsegError:
        raise
    except Exception as error:  # the library's errors come from several packages
        raise BinsegError(f"{name}: {_words(error)}") from error


def push(path: Path, name: str, card: str, *, private: bool = False) -> str:
    """Upload a model file and its card, in one commit.

    Args:
        path: the model file.
        name: `hf:user/name`; made if there is no such repository.
        card: the README.md.
        private: of a repository that is made.

    Returns:
        The model's address.

    Raises:
        BinsegError: another form of name, huggingface_hub is missing, nobody is logged in, or the
            hub refuses.
    """
    repo, file, revision = _parts(name)
    hub = _library()
    try:
        api = hub.HfApi()
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.create_commit(
            repo,
            operations=[
                hub.CommitOperationAdd(file or _DEFAULT, str(path)),
                hub.CommitOperationAdd("README.md", card.encode("utf-8")),
            ],
            commit_message=f"{path.name}, by binseg push",
            revision=revision,
        )
    except Exception as error:  # as above
        raise BinsegError(f"{name}: {_words(error)}") from error
    return str(address)


def _parts(name: str) -> tuple[str, str | None, str | None]:
    found = _NAME.fullmatch(name)
    if found is None or ".." in PurePosixPath(found["file"] or "").parts:
        raise BinsegError(
            f"{name[:100]}: not a model's name on the hub; write hf:user/name, "
            "hf:user/name/file.safetensors or hf:user/name@revision"
        )
    return found["repo"], found["file"], found["revision"]


def _only_file(hub: Any, repo: str, revision: str | None, name: str) -> str:
    """model.safetensors, in the cache if it is there, or the only model file of the repository."""
    cached = hub.try_to_load_from_cache(repo, _DEFAULT, revision=revision)
    if isinstance(cached, str):
        return _DEFAULT
    files = hub.HfApi().list_repo_files(repo, revision=revision)
    models = [each for each in files if each.endswith(_SUFFIX)]
    if _DEFAULT in models:
        return _DEFAULT
    if len(models) != 1:
        has = ", ".join(sorted(models)[:5]) or "none"
        raise BinsegError(f"{name}: which model file? it has {has}; write hf:{repo}/FILE{_SUFFIX}")
    return models[0]


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise BinsegError("hf: names need huggingface_hub: pip install 'binseg[hub]'") from error
    return huggingface_hub


def _words(error: Exception) -> str:
    """One line for an error of the hub's library."""
    kind = type(error).__name__
    if kind in ("RepositoryNotFoundError", "GatedRepoError"):
        return "no such model on the hub, or no access to it; check the name, or `hf auth login`"
    if kind == "EntryNotFoundError" or kind == "RemoteEntryNotFoundError":
        return "the model has no such file; check the name"
    if kind == "RevisionNotFoundError":
        return "the model has no such revision; check what stands behind @"
    if kind in (
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ConnectError",
        "ConnectTimeout",
    ):
        return "not in the cache, and the hub cannot be reached; check the network"
    if "401" in str(error) or "403" in str(error) or kind == "LocalTokenNotFoundError":
        return "the hub wants to know who you are; run `hf auth login` with a token that may write"
    return f"the hub's answer was an error ({' '.join(str(error).split())[:120] or kind})"
