"""The verb `push`: a model, with its card, to a model hub."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from glmha.shared.checkpoint_files import CARD, write_safetensors
from glmha.shared.released.hub import REMEDY, SCHEME, WEIGHTS
from glmha.shared.released.locate import locate
from trainers.commands.export import exported
from trainers.networks import load_network

LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit", "CC-BY-NC-4.0": "cc-by-nc-4.0"}
"""What hubs call the licences of released weights."""


def push_model(checkpoint: str | Path, *, repository: str, private: bool = False, licence: str | None = None) -> None:
    """Upload a checkpoint's weights and its card to a model hub, from which hf://OWNER/NAME loads it.

    What is uploaded: `model.safetensors`, as `lowrank export` writes it, and `README.md`, the card as a page. Log in
    first (`hf auth login`), or set HF_TOKEN. HF_ENDPOINT chooses another hub.

    Args:
        checkpoint: of `lowrank fit`, or any that this package loads; as --pretrained elsewhere.
        repository: OWNER/NAME; made if there is none.
        private: whether a repository that is made is seen by you alone.
        licence: of these weights as the hub calls it, such as mit; null: that of the weights that training started
            from, and none where none is known.

    Raises:
        CheckpointError: if the checkpoint cannot be read or is of no network of this package.
        ValueError: if huggingface_hub is not installed or the hub refuses.
    """
    try:
        from huggingface_hub import HfApi, errors
    except ImportError:
        raise ValueError(f"repository ({repository}) needs huggingface_hub: {REMEDY}") from None
    source = locate(checkpoint, "checkpoint")
    content = exported(load_network(source, argument="checkpoint"), source)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / WEIGHTS).write_bytes(write_safetensors(content))
        (Path(folder) / "README.md").write_text(page(content[CARD], repository, licence), encoding="utf-8")
        try:
            hub = HfApi()
            hub.create_repo(repository, private=private, exist_ok=True)
            hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Weights and card by lowrank push")
        except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
            first = str(error).strip().partition("\n")[0]
            raise ValueError(f"repository ({repository}) cannot be written: {first}. Log in: hf auth login") from None
    print(f"pushed: {SCHEME}{repository}")


def page(card: Mapping[str, Any], repository: str, licence: str | None) -> str:
    """Write a card as a hub's page.

    Args:
        card: of `make_card`.
        repository: OWNER/NAME.
        licence: of the weights as the hub calls it; None: that of the card.

    Returns:
        Markdown with a head that hubs read.
    """
    stated = card["licence"]
    known = LICENCES.get(str(stated).partition(" ")[0], None if stated is None else "other")
    head: dict[str, Any] = {"library_name": "lowrank-attention", "pipeline_tag": "image-to-image"}
    if licence or known:
        head["license"] = licence or known
    # A recipe names folders of the machine that it ran on.
    shown = {name: value for name, value in card.items() if name != "recipe"}
    return "\n".join(
        [
            "---",
            yaml.safe_dump(head, sort_keys=False).strip(),
            "---",
            "",
            f"# {repository.rpartition('/')[2]}",
            "",
            f"{card['architecture']} with {card['parameters']} parameters, for lowrank-attention.",
            *(["", f"Licence of the weights that training started from: {stated}."] if stated else []),
            "",
            f"    lowrank restore PHOTO.png --pretrained {SCHEME}{repository} --output DIR",
            "",
            "## Card",
            "",
            "```json",
            json.dumps(shown, indent=2, ensure_ascii=False, default=str),
            "```",
            "",
        ]
    )
