"""The tables and figures of both papers: what each needs, and how far it is reproduced here."""

from dataclasses import dataclass
from typing import Literal

from trainers.reproduction import channel_tables, window_tables

State = Literal["reproduced", "partly", "not"]


@dataclass(frozen=True)
class Item:
    """A table or a figure of a paper.

    Attributes:
        name: in `lowrank reproduce NAME`.
        title: what it shows.
        needs: data and weights; empty: none.
        hours: on one GPU, rough; empty: minutes.
        state: whether it is reproduced here.
        why: what is there, and what is missing.
        how: the command that makes the figure; empty: `lowrank reproduce NAME`.
    """

    name: str
    title: str
    needs: str
    hours: str
    state: State
    why: str
    how: str = ""


def _channel_item(table: channel_tables.PublishedTable) -> Item:
    host = table.host
    costs = "FLOPs and parameters are counted; " if table.has_costs else ""
    miniature = "no miniature: there are no bundled data" if table.number == 2 else "in miniature by --scale mini"
    return Item(
        f"glmha-table{table.number}",
        table.title,
        host.data,
        f"{len(table.rows)} × {host.hours}",
        "partly" if table.has_costs else "not",
        f"{costs}no network was trained at the paper's size; {miniature}",
    )


_REFERENCED = (
    Item(
        "glmha-table5",
        "spectral networks of others beside MST-L and MST++",
        "as Tables 1 and 2",
        "as Tables 1 and 2",
        "partly",
        "the rows of MST-L, MST++ and GLMHA are those of Tables 1 and 2; the others quote other papers",
        "lowrank reproduce glmha-table1 glmha-table2",
    ),
    Item(
        "glmha-table6",
        "deblurring and deraining networks of others beside Restormer",
        "as Tables 3 and 4",
        "as Tables 3 and 4",
        "partly",
        "the rows of Restormer and GLMHA are those of Tables 3 and 4; the others quote other papers. It gives CSA "
        "32.92 dB on GoPro, Table 3 32.88",
        "lowrank reproduce glmha-table3 glmha-table4",
    ),
)

_CHANNEL_FIGURES = (
    Item(
        "glmha-figure1",
        "cumulative energy of the attention's eigenvalues, block by block",
        "a checkpoint of Restormer, MST-L or MST++, and images",
        "",
        "partly",
        "drawn for any checkpoint; the papers' weights are not bundled",
        "lowrank analyze spectrum IMAGES --pretrained restormer-deraining --output DIR",
    ),
    Item(
        "glmha-figure5",
        "spectra from RGB, pictures",
        "NTIRE 2022 (ARAD_1K) and checkpoints of Table 1",
        "as Table 1",
        "not",
        "needs the trained networks; of the demonstration's it is drawn",
        "lowrank demo spectral",
    ),
    Item(
        "glmha-figure6",
        "snapshot compressive imaging, pictures",
        "KAIST and checkpoints of Table 2",
        "as Table 2",
        "not",
        "needs the trained networks",
        "lowrank test --config eval/cassi.yaml --model.pretrained CKPT --data.root DIR --model.save_tests true",
    ),
    Item(
        "glmha-figure7",
        "deraining and deblurring, pictures",
        "Rain13K, GoPro and checkpoints of Tables 3 and 4",
        "as Tables 3 and 4",
        "not",
        "needs the trained networks; of the demonstration's it is drawn",
        "lowrank demo learned",
    ),
)

_WEIGHTS: dict[int, tuple[str, str, State]] = {
    2: ("weights and data of Tables 3 to 5", "1", "partly"),
    3: ("DehazeFormer; RESIDE-Out, RSHaze, RESIDE-6K", "1", "not"),
    4: ("Uformer-B; SIDD, BSDS200, RealBlur-R", "2", "not"),
    5: ("SwinIR ×2, ×4, ×8; Set5, BSDS100", "1", "not"),
    6: ("Uformer-B, SIDD", "2", "not"),
    0: ("RVRT; REDS4, GoPro, DAVIS", "10", "not"),
}
_WHY = {
    2: "whole networks are timed on a processor (docs/results/kernels.md), not on its GPU",
    3: "of the three data sets and their weights none is bundled; DehazeFormer-T on SOTS-indoor is measured "
    "(docs/results/kernels.md)",
    4: "neither weights nor data are bundled",
    5: "neither weights nor data are bundled",
    6: "neither weights nor data are bundled; in miniature by --scale mini",
    0: "neither weights nor data are bundled, and the tables of that version are not at hand",
}


def _window_item(table: window_tables.WindowTable) -> Item:
    needs, hours, state = _WEIGHTS[table.number]
    return Item(window_name(table.number), table.title, needs, hours, state, _WHY[table.number])


def window_name(number: int) -> str:
    """Name of a table of PnP-Nystra; 0 is that of its first version."""
    return f"pnp-table{number}" if number else "pnp-rvrt"


_WINDOW_FIGURES = (
    Item(
        "pnp-figure1",
        "singular values of window attention",
        "a checkpoint of SwinIR or Uformer, and images",
        "",
        "not",
        "needs weights, of which none are bundled",
    ),
    Item(
        "pnp-figure2",
        "dehazing, pictures",
        "DehazeFormer, hazy images",
        "",
        "partly",
        "drawn for any checkpoint and any data set",
        "lowrank compare --config nystra/dehazeformer_sots.yaml --pretrained CKPT --data.root DIR",
    ),
    Item(
        "pnp-figure3",
        "time against the number of tokens",
        "",
        "",
        "reproduced",
        "exact attention grows with its square, all kernels linearly (docs/results/kernels.md)",
        "lowrank figure tokens window16.json window32.json window64.json",
    ),
    Item(
        "pnp-figure4",
        "attention maps, exact and approximated",
        "a checkpoint and an image",
        "",
        "partly",
        "drawn for any checkpoint; the papers' weights are not bundled",
        "lowrank figure attention IMAGE --pretrained CKPT --window_size 16",
    ),
)

ITEMS = {
    item.name: item
    for item in (
        *sorted((*map(_channel_item, channel_tables.TABLES.values()), *_REFERENCED), key=lambda item: item.name),
        *_CHANNEL_FIGURES,
        Item(
            "pnp-table1",
            "orders of growth of the algorithm's steps",
            "",
            "",
            "reproduced",
            "linear in the tokens: each kernel's multiply-adds are counted, and timed (docs/results/kernels.md)",
            "lowrank bench attention --window 64 --windows 1",
        ),
        *(_window_item(table) for number, table in window_tables.TABLES.items() if number),
        *_WINDOW_FIGURES,
        _window_item(window_tables.TABLES[0]),
    )
}
"""Every table and figure by name, in the papers' order."""
