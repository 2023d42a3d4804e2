"""Released checkpoints of window-attention networks: infer the architecture from the tensors, load strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmha.shared.checkpoint_files import read
from glmha.shared.families import Families, Family
from glmha.shared.released.locate import locate
from glmha.shared.state_dicts import unwrap
from nystra.hosts.dehazeformer.checkpoint import infer_arguments as infer_dehazeformer
from nystra.hosts.dehazeformer.network import DehazeFormer
from nystra.hosts.rvrt.checkpoint import infer_arguments as infer_rvrt
from nystra.hosts.rvrt.network import RVRT
from nystra.hosts.swinir.checkpoint import infer_arguments as infer_swinir
from nystra.hosts.swinir.network import SwinIR
from nystra.hosts.uformer.checkpoint import infer_arguments as infer_uformer
from nystra.hosts.uformer.network import Uformer
from nystra.sites import attention_record
from nystra.sites.host import WindowHost
from nystra.sites.site import BiasMode

FAMILIES: Families[WindowHost] = Families(
    (
        Family(("layers.0.residual_group.blocks.0.attn.qkv.weight",), SwinIR, infer_swinir),
        Family(("encoderlayer_0.blocks.0.attn.relative_position_bias_table",), Uformer, infer_uformer),
        Family(("patch_unembed.proj.0.weight",), DehazeFormer, infer_dehazeformer),
        Family(("deform_align.backward_1.conv_offset.10.weight",), RVRT, infer_rvrt),
    ),
    refusal="{name} must be a SwinIR, Uformer, DehazeFormer or RVRT checkpoint; its first keys are {keys}. "
    "Restormer, MST and MST++ are loaded by glmha.load_pretrained",
)


def load_pretrained(
    source: str | Path | Mapping[str, Any],
    *,
    window_size: int | None = None,
    position_bias: BiasMode | None = None,
    recorded: bool = True,
    **overrides: Any,
) -> WindowHost:
    """Build the host that a checkpoint belongs to and load it strictly.

    A checkpoint that was fine-tuned after a substitution records windows and kernels, which are restored with the
    weights (`nystra.sites.attention_record`).

    Args:
        source: path of a .pth, .pt, .ckpt or .safetensors file; or, as text, a name of `lowrank models`, an address
            (https://…, hf://OWNER/NAME); or a loaded checkpoint or state dict. Wrappers (`params_ema`, `params`,
            `state_dict`) and prefixes (`module.`) are stripped.
        window_size: side of the windows to attend in, in tokens; None: the recorded, else the trained one.
        position_bias: use of the trained position bias: "keep" (every offset keeps its bias, offsets beyond
            the trained ones take the nearest one's), "interpolate" (the trained range of offsets is stretched to the
            window's), "drop" (neither bias nor shift masks, PnP-Nystra's "original"); None: as recorded, else "keep".
        recorded: False leaves windows and kernels of the record out: exact attention in the trained windows, unless
            `window_size` and `position_bias` say otherwise.
        **overrides: constructor arguments of the host that replace the inferred ones: what tensors cannot tell, such as
            Uformer's `shift_flag` or SwinIR's `img_range`.

    Returns:
        SwinIR, Uformer, DehazeFormer or RVRT, with exact attention where no other is recorded, in eval mode and
        float32, on the CPU.

    Raises:
        CheckpointError: if the file is missing, truncated, holds anything but tensors in plain containers, belongs to
            another family, or does not fit the inferred architecture, or its record is of another net.
        ValueError: if `window_size` or `position_bias` is out of range.

    Examples:
        >>> from nystra import SwinIR, load_pretrained
        >>> weights = SwinIR(img_size=8, embed_dim=8, depths=[2], num_heads=[2], window_size=4).state_dict()
        >>> net = load_pretrained({"params": weights})
        >>> type(net).__name__, net.window_size, net.training
        ('SwinIR', 4, False)
        >>> load_pretrained(weights, window_size=8, position_bias="interpolate").window_size
        8
    """
    name = "the given state dict" if isinstance(source, Mapping) else str(source)
    content = source if isinstance(source, Mapping) else read(locate(source))
    net = FAMILIES.build(unwrap(content, name), name, overrides)
    if recorded:
        attention_record.apply_recorded(net, content, name)
    if window_size is not None or position_bias is not None:
        record = attention_record.record(net)
        mode = record.get("position_bias", "keep") if position_bias is None else position_bias
        net.set_window(net.window_size if window_size is None else window_size, mode)
    return net
