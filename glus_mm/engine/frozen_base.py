"""Which frozen parameters a run may leave out of its checkpoints."""

import logging
from collections.abc import Mapping
from os import PathLike

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from glus_mm.utils.base_weights import base_entry, digests
from glus_mm.utils.checkpoint import list_keys


class FrozenBase:
    """The frozen parameters of a model that are those of a file, and whether they stay so.

    Args:
        path: the file that the model was filled from, its base.
        values: weights of the base, under the model's names. They may be mapped; they are let go
            by :meth:`watch`.
        keys: the names that they have in the base.
        fingerprints: their digests, where they are known already.
    """

    def __init__(self, path: str | PathLike, values: Mapping[str, Tensor],
                 keys: Mapping[str, str], fingerprints: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.keys = dict(keys)
        self._values: dict[str, Tensor] = dict(values)
        self._digests: dict[str, str] = dict(fingerprints or {})
        self._marks: dict[str, str] = {}

    def watch(self, model: nn.Module) -> int:
        """Choose the parameters to leave out: frozen ones with exactly the base's values.

        Args:
            model: the model, not wrapped, filled from the base.

        Returns:
            How many there are.
        """
        parameters = _parameters(model)
        chosen = {name: value for name, value in self._values.items()
                  if _is_frozen(parameter := parameters.get(name))
                  and parameter.shape == value.shape
                  and torch.equal(parameter, value.to(parameter))}
        self._digests.update(digests({name: value for name, value in chosen.items()
                                      if name not in self._digests}))
        self._marks = digests({name: parameters[name] for name in chosen})
        self._values = {}
        return len(chosen)

    def leave_out(self, model: nn.Module, state: dict[str, Tensor], folder: str | PathLike
                  ) -> dict | None:
        """Take out of a state dict what the base has.

        A parameter that was changed since, or is trained now, stays in, with a warning, in this
        and all later checkpoints.

        Args:
            model: the model that the state is of.
            state: changed in place.
            folder: where the checkpoint will be.

        Returns:
            What the checkpoint has to note, see :func:`base_entry`; None if nothing was taken out.
        """
        parameters = _parameters(model)
        frozen = {name: parameters[name] for name in self._marks
                  if _is_frozen(parameters.get(name))}
        marks = digests(frozen)
        changed = [name for name, mark in self._marks.items() if marks.get(name) != mark]
        if changed:
            print_log(list_keys('no longer the frozen weights that training started from, and '
                                'saved from now on', changed), 'current', logging.WARNING)
        for name in changed:
            del self._marks[name]
        taken = [name for name in self._marks if state.pop(name, None) is not None]
        if not taken:
            return None
        return base_entry(self.path, folder, {name: self.keys[name] for name in taken},
                          self._digests)


def _parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters(remove_duplicate=False))


def _is_frozen(parameter: nn.Parameter | None) -> bool:
    return parameter is not None and not parameter.requires_grad
