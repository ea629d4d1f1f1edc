"""One object of a MovingShapes video: what it looks like, where it goes, when it flashes."""
from dataclasses import dataclass

import numpy as np

NUM_FRAMES = 12
SHAPES = ('circle', 'square', 'triangle', 'star', 'diamond')
# RGB. Six hues that stay apart after JPEG's chroma subsampling; white is kept for flashes.
COLOURS = {
    'red': (214, 32, 38),
    'orange': (250, 140, 20),
    'yellow': (246, 228, 60),
    'green': (34, 166, 62),
    'blue': (36, 84, 226),
    'purple': (150, 46, 190),
}
# Half the extent of the widest shape, in diameters: how near a centre may come to the border.
EXTENT = 0.62
# Radius used to keep objects apart, in diameters.
CLEARANCE = 0.55


@dataclass(frozen=True)
class MovingObject:
    """One object and its simulated truth.

    Args:
        shape (str): One of ``SHAPES``.
        colour (str): A key of ``COLOURS``.
        diameter (float): Diameter of the circle with about the same area, in pixels.
        angle (float): Rotation in degrees, constant over the video.
        centres (np.ndarray): (T, 2) float, x and y of the centroid in pixels on every frame.
        flash (tuple[int, int] | None): First frame of the flash and the frame after its last one.
        enters (int): First frame that shows it; before, it is not there. Defaults to 0.
    """
    shape: str
    colour: str
    diameter: float
    angle: float
    centres: np.ndarray
    flash: tuple[int, int] | None = None
    enters: int = 0

    def flashes_at(self, frame: int) -> bool:
        """Whether the object is lit on a frame.

        Args:
            frame (int): 0-based position in the video.

        Returns:
            bool: True inside the flash interval.
        """
        return self.flash is not None and self.flash[0] <= frame < self.flash[1]
