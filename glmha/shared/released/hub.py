"""Files of a model hub, by huggingface_hub's own client and cache."""

import re
from pathlib import Path

from glmha.shared.checkpoint_files import CheckpointError

SCHEME = "hf://"
WEIGHTS = "model.safetensors"
"""The file of a repository that holds a network's weights, if the address names none."""
REMEDY = "pip install 'lowrank-attention[hub]'"


def fetch(source: str, argument: str, *, offline: bool) -> Path:
    """Find a file of a model hub on this machine, downloaded if need be.

    Args:
        source: hf://OWNER/NAME[@REVISION][/FILE]; without a file, `model.safetensors`.
        argument: name of the option or argument that gave it, for messages.
        offline: take what was downloaded before, or nothing.

    Raises:
        CheckpointError: if the address has another form, huggingface_hub is not installed, or the file cannot be had.
    """
    form = re.fullmatch(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<file>[\w./+-]+))?", source)
    if form is None:
        raise CheckpointError(f"{argument} ({source}) must have the form hf://OWNER/NAME[@REVISION][/FILE]")
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError:
        raise CheckpointError(f"{argument} ({source}) needs huggingface_hub: {REMEDY}") from None
    file = form["file"] or WEIGHTS
    try:
        return Path(hf_hub_download(form["repository"], file, revision=form["revision"], local_files_only=offline))
    except errors.EntryNotFoundError:
        # Also of a file that is not in the cache, which has its own name.
        raise CheckpointError(
            f"{argument} ({source}) must hold {file}, got a repository without it, or none in the cache: name a "
            f"file of it, {SCHEME}{form['repository']}/FILE"
        ) from None
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{argument} ({source}) cannot be downloaded: {first}. Check the name, and log in for a private one "
            "(hf auth login)"
        ) from None
