"""One object of a MovingShapes video: what it looks like, where it goes, when it flashes."""
from dataclasses import dataclass, replace

import numpy as np

NUM_FRAMES = 12  # of a scene's truth, and of a video unless it is to be longer
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
        shape: one of ``SHAPES``.
        colour: a key of ``COLOURS``.
        diameter: diameter of the circle with about the same area, in pixels.
        angle: rotation in degrees, constant over the video.
        centres: (T, 2) float, x and y of the centroid in pixels on every frame.
        flash: first frame of the flash and the frame after its last one.
        enters: first frame that shows it; before, it is not there. Defaults to 0.
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
            frame: 0-based position in the video.

        Returns:
            True inside the flash interval.
        """
        return self.flash is not None and self.flash[0] <= frame < self.flash[1]

    def over(self, num_frames: int) -> 'MovingObject':
        """The same course in more frames: slower, and along the same path.

        Returns:
            The object; its centres lie on straight lines between those of this one,
            and what happens on one frame here happens on all frames that are nearest to it.
        """
        before = len(self.centres)
        if num_frames == before:
            return self
        times = np.linspace(0, before - 1, num_frames)
        nearest = np.floor(times + 0.5)
        centres = np.stack([np.interp(times, np.arange(before), axis)
                            for axis in self.centres.T], axis=1)
        enters, *flash = np.searchsorted(nearest, [self.enters, *(self.flash or ())]).tolist()
        return replace(self, centres=centres, enters=enters, flash=tuple(flash) or None)
