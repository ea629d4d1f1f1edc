"""The buffers ``rotary_emb.inv_freq`` of official checkpoints, which follow from the sizes."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig


def inv_freq(config: LlamaConfig) -> Tensor:
    """Inverse frequencies (Dh / 2) of an LLM, as transformers 4.31 computed them.

    Scaling types act later, on positions or at long sequences, and leave the buffer as it is.

    Returns:
        float32 (Dh / 2), Dh the width of a head.
    """
    width = config.head_dim
    return 1.0 / (config.rope_parameters['rope_theta']**(torch.arange(0, width, 2).float() / width))


def check_inv_freq(name: str, value: Tensor, config: LlamaConfig, file: Path) -> None:
    """Raise ``ValueError`` if a stored buffer is not what the sizes give, in its own type.

    Args:
        name: of the buffer, for the message.
        value: (head_dim / 2) the stored frequencies, see :func:`inv_freq`.
        config: sizes of the LLM.
        file: where the buffer is stored.
    """
    expected = inv_freq(config).to(value.dtype)
    if value.shape != expected.shape or not torch.allclose(
            value.float(), expected.float(), rtol=torch.finfo(value.dtype).eps, atol=0):
        raise ValueError(f'{file}: expected {name} to be the rotary frequencies that config.json '
                         f'gives, {expected[:4].tolist()}... {tuple(expected.shape)}, got '
                         f'{value.flatten()[:4].tolist()}... {tuple(value.shape)}')
