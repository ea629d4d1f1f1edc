"""Convert a LLaMA-VID checkpoint into one that VideoQASelector loads.

Example, from the root of the repository::

    PYTHONPATH=projects/video_qa:projects/llama_vid \
        python projects/llama_vid/convert_llama_vid.py \
        projects/llama_vid/configs/llama-vid-7b_video-qa.py llama-vid-7b-full-224-video-fps-1 \
        checkpoints/llama-vid-7b.pth --eva eva_vit_g.pth
"""

import argparse
from pathlib import Path

from llama_vid.official_weights import to_ours

from glus_mm.conversion.plain_weights import empty_model, write_weights
from glus_mm.utils.checkpoint import check_fit, list_keys
from glus_mm.utils.command_line import read_config
from glus_mm.utils.paths import ensure_writable_file
from glus_mm.utils.weight_files import read_weight_file, read_weights


def convert(config: str, hf_dir: str, target: str, eva: str | None,
            options: dict | None = None) -> int:
    """Convert.

    Args:
        config: of the selector; its sizes have to be those of the checkpoint.
        hf_dir: folder of the checkpoint.
        target: file to write.
        eva: file of the vision tower; None where the checkpoint holds it.
        options: dotted keys that override the config.

    Returns:
        The size of the file in bytes.

    Raises:
        OSError: a file is missing, or cannot be written.
        ValueError: weights are missing, unknown or have another shape; the message lists them.
    """
    model = empty_model(read_config(config, options or {}), config)
    state = to_ours(read_weights(hf_dir).tensors,
                    read_weight_file(Path(eva)) if eva else {},
                    model.mllm.vision.config.num_hidden_layers)
    state = {f'mllm.{name}': value for name, value in state.items()}
    unknown = check_fit(model, state, hf_dir)
    if unknown:
        raise ValueError(f'{hf_dir}: {list_keys("unknown weights", unknown)}')
    return write_weights(state, ensure_writable_file(target), None)


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description='Convert a LLaMA-VID checkpoint')
    parser.add_argument('config', metavar='CONFIG', help='config of the selector')
    parser.add_argument('hf_dir', metavar='HF_DIR', help='folder of the checkpoint')
    parser.add_argument('target', metavar='OUT', help='file to write')
    parser.add_argument('--eva', metavar='FILE', help='eva_vit_g.pth')
    args = parser.parse_args()
    try:
        size = convert(args.config, args.hf_dir, args.target, args.eva)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'wrote {args.target}: {size / 1e9:.2f} GB')  # noqa: T201


if __name__ == '__main__':
    main()
