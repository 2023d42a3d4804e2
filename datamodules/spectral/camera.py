"""The camera of CAVE and KAIST: a cube as a snapshot and its mask."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from datamodules.cassi import DISPERSION, adjoint, initial_estimate, measure, shift

BANDS = 28
"""453.5 to 648 nm, the bands of TSA-Net's camera."""

NetInput = Literal["estimate", "masked_estimate", "measurement"]
NetMask = Literal["shifted", "plain", "none"]


@dataclass(frozen=True)
class Camera:
    """A simulated CASSI camera, and what a net is given of its snapshots.

    Attributes:
        mask: coded aperture, shape (H, W); of a smaller scene its upper left part is used.
        bands: N.
        step: pixels by which the prism moves a band against the one before it.
        net_input: "estimate", the measurement shifted back and scaled by 2 / N (MST's); "masked_estimate", that times
            the mask; or "measurement" as it is.
        net_mask: "shifted", the mask dispersed as the scene is (MST's); "plain", one for each band (MST++'s); "none".
    """

    mask: Tensor
    bands: int = BANDS
    step: int = DISPERSION
    net_input: NetInput = "estimate"
    net_mask: NetMask = "shifted"

    def see(self, cube: Tensor) -> dict[str, Tensor]:
        """Take a snapshot of a scene.

        Args:
            cube: shape (N, H, W), at most of the mask's height and width.

        Returns:
            `input`, (N, H, W) or for "measurement" (H, W + step · (N − 1)); `target`, the cube; and `mask`, (N, H, W)
            or shifted (N, H, W + step · (N − 1)), unless there is to be none.

        Raises:
            ValueError: if the cube is larger than the mask.
        """
        height, width = cube.shape[-2:]
        mask = self.mask[:height, :width]
        measurement = measure(cube, mask, self.step)
        seen = {"target": cube, "input": measurement}
        if self.net_input == "estimate":
            seen["input"] = initial_estimate(measurement, self.bands, self.step)
        elif self.net_input == "masked_estimate":
            seen["input"] = adjoint(measurement / self.bands * 2, mask, self.bands, self.step)
        if self.net_mask != "none":
            plain = mask.expand(self.bands, height, width)
            seen["mask"] = shift(plain, self.step) if self.net_mask == "shifted" else plain.contiguous()
        return seen
