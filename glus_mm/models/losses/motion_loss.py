"""Visual tokens that know how their object moves."""

from collections.abc import Callable, Mapping, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from glus_mm.registry import MODELS
from glus_mm.structures import RefVOSDataSample

# Of what readers give, as a part of the side: states may be large and displacements are small, so
# that the steps of an optimizer would drown them.
UNIT = 0.05


@MODELS.register_module()
class MotionLoss(BaseModule):
    """Predict an object's displacement from the visual tokens under its mask; training only.

    Video MLLMs hold the direction of motion in a form that a linear map can read and yet do not
    use it; predicting it in training binds it (DeltaDirect, arXiv 2605.22823, which reads
    differences of projected tokens of adjacent frames). Here ``layers`` says which states are read.
    Layer 0, the projected tokens, knows one frame only: the mean under the object's mask on the
    frame before is subtracted. Later layers can look back: the token alone has to tell. What it
    tells is the displacement since the frame before in the prompt. Query frames lie anywhere in the
    video, and the prompt does not say where: their tokens are to tell the mean displacement between
    neighbouring context frames.

    A model that is trained from scratch does not find on its own which token of the frame before
    shows the same object. In the layers of ``track`` half of the heads are taught to look there.

    Args:
        width: D of the LLM; GLUS fills it in.
        layers: after how many layers of the LLM the states are read; 0 is its input.
        track: layers of the LLM whose attention has to follow the objects, named by the number of
            layers before them.
        coverage: least part of its cell that an object covers where a token counts as under its
            mask.
        beta: of the smooth L1 loss, as a part of the frame's side.
        loss_weight: factor of the loss on displacements.
        track_weight: factor of the loss on attention.

    Raises:
        ValueError: there is no layer.
    """

    def __init__(self,
                 width: int,
                 layers: Sequence[int] = (2, ),
                 track: Sequence[int] = (),
                 coverage: float = 0.15,
                 beta: float = 0.05,
                 loss_weight: float = 10.0,
                 track_weight: float = 1.0) -> None:
        super().__init__()
        if not layers:
            raise ValueError('model.loss_motion.layers: expected at least one layer, got none')
        self.layers = tuple(layers)
        self.track = tuple(track)
        self.coverage = coverage
        self.beta = beta
        self.loss_weight = loss_weight
        self.track_weight = track_weight
        self.readers = nn.ModuleDict({str(layer): nn.Linear(width, 2) for layer in self.layers})
        for reader in self.readers.values():
            nn.init.zeros_(reader.weight)
            nn.init.zeros_(reader.bias)

    def forward(self, states: Mapping[int, Sequence[Tensor]],
                attention: Callable[[int, Sequence[tuple[Tensor, Tensor]]], Tensor],
                data_samples: Sequence[RefVOSDataSample]) -> Tensor:
        """Loss of a batch of B videos.

        Args:
            states: for each of ``layers``, (B) states (F, V, D) of the visual tokens of the F
                frames of a prompt.
            attention: gives for a layer, and for each video the frame and the place (K) of some of
                its tokens, the logarithms (sum of K, heads, V) of the attention that they pay to
                the frame before.
            data_samples: (B) with ``object_cells`` (O, F, G, G), G x G = V, and ``object_centres``
                (O, F, 2) of the same frames, see :class:`LoadObjects`.

        Returns:
            Scalar, weighted: the means over the layers and, within one, over the tokens under a
            mask of an object that is seen on both frames; 0 where there is none.

        Raises:
            ValueError: the frames or cells of a data sample are not those of the states.
        """
        tokens = [self._tokens(sample, states[self.layers[0]][b])
                  for b, sample in enumerate(data_samples)]
        read = [self._read(layer, states[layer], tokens) for layer in self.layers]
        loss = self.loss_weight * sum(read) / len(read)
        if self.track:
            seen = [(frame[before.any(1)], place[before.any(1)], before[before.any(1)])
                    for frame, place, _, before, _ in tokens]
            target = torch.cat([before for _, _, before in seen])
            missed = []  # how little of the attention of half of the heads falls on the target
            for layer in self.track:
                heads = attention(layer, [some[:2] for some in seen])
                heads = heads[:, :max(heads.shape[1] // 2, 1)]
                looked = heads.masked_fill(~target[:, None], float('-inf')).logsumexp(-1)
                missed.append(-looked.sum() / max(looked.numel(), 1))
            loss = loss + self.track_weight * sum(missed) / len(missed)
        return loss

    def _tokens(self, sample: RefVOSDataSample, states: Tensor) -> tuple[Tensor, ...]:
        """Tokens under a mask: their frame, place and displacement (K), (K), (K, 2), and where the
        frame before shows the same object, bool (K, V) and as weights (K, V)."""
        cells = sample.object_cells.flatten(2)
        if cells.shape[1:] != states.shape[:2]:
            raise ValueError(
                f'video {sample.video_id!r}: expected object_cells on {states.shape[0]} frames of '
                f'{states.shape[1]} visual tokens, got {tuple(cells.shape[1:])}')
        # What each object's tokens are to tell on each frame, (O, F, 2), nan where nothing.
        centres, context = sample.object_centres, len(sample.context_frame_ids)
        moved = torch.full_like(centres, float('nan'))
        moved[:, 1:] = centres[:, 1:] - centres[:, :-1]
        if context > 1:
            mean = (centres[:, context - 1] - centres[:, 0]) / (context - 1)
            moved[:, context:] = mean[:, None]
        most, which = cells.max(0)
        frame, place = torch.nonzero(most > self.coverage, as_tuple=True)
        which = which[frame, place]
        known = moved[which, frame].isfinite().all(-1) & (frame > 0)
        frame, place, which = frame[known], place[known], which[known]
        before = cells[which, frame - 1] > self.coverage
        weights = before / before.sum(1, keepdim=True).clamp(min=1)
        return frame, place, moved[which, frame], before, weights

    def _read(self, layer: int, states: Sequence[Tensor],
              tokens: Sequence[tuple[Tensor, ...]]) -> Tensor:
        picked = []
        for visual, (frame, place, _, _, weights) in zip(states, tokens):
            own = visual[frame, place]
            if layer == 0:
                own = own - torch.einsum('kv,kvd->kd', weights.to(own), visual[frame - 1])
            picked.append(own)
        reader = self.readers[str(layer)]
        picked, true = torch.cat(picked), torch.cat([moved for _, _, moved, _, _ in tokens])
        loss = F.smooth_l1_loss(UNIT * reader(picked.to(reader.weight)), true.to(reader.weight),
                                reduction='none', beta=self.beta)
        return loss.sum() / max(loss.numel(), 1)
