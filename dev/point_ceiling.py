"""How far the mask head goes when it is told where the object is: the ceiling of the seg tokens.

On every frame each object is prompted with SAM-2's own point prompt in place of the seg token:
the pixel of its visible mask that lies furthest from the mask's border. Memory is that of
inference. The objects of an expression are tracked one by one and united. Where an object cannot
be seen, the mask is empty and nothing is remembered, as on a frame without ``[SEG]``; expressions
without a target get empty masks. So a model that always knows whether, and where, has these
figures; it may pass them, as a seg token says more than a point.

Needs a data set with masks; frames, masks and metric are those of the config's test.

Example::

    python dev/point_ceiling.py configs/glus/glus_tiny_moving-shapes.py \\
        checkpoints/glus_tiny_moving-shapes.pth --cfg-options \\
        test_evaluator.dump_file=outputs/ceiling.json
"""

import argparse

import cv2
import numpy as np
import torch
from layer_probes.features import object_tracks, video_of
from mmengine import Config
from mmengine.registry import DefaultScope
from torch.nn import functional as F

from glus_mm.apis import init_model
from glus_mm.models import GLUS
from glus_mm.models.heads import MemoryBank
from glus_mm.registry import DATASETS, METRICS, SCOPE
from glus_mm.utils.command_line import read_config
from glus_mm.utils.config_input import ConfigOptions
from glus_mm.utils.image import sam2_image
from glus_mm.utils.masks import encode_mask, merge_rles
from glus_mm.video import FrameReader


def inner_point(mask: np.ndarray) -> tuple[int, int]:
    """The pixel (x, y) of a mask, bool (H, W), that is furthest from its border."""
    padded = np.pad(mask.astype(np.uint8), 1)  # the border of the frame counts as well
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), mask.shape)
    return int(x), int(y)


def point_tokens(model: GLUS, points: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Points as the prompt encoder of SAM-2 sees them.

    Args:
        points: (N, 2) pixels (x, y) of a frame.
        size: ``(H, W)`` of the frame.

    Returns:
        (N, C), in place of seg tokens.
    """
    encoder = model.mask_head.sam2.sam_prompt_encoder
    # Centres of pixels, which the encoder adds the half to.
    scale = model.mask_head.image_size / np.array([size[1], size[0]])
    coords = torch.from_numpy((points + 0.5) * scale - 0.5).float()
    device = encoder.no_mask_embed.weight.device
    labels = torch.ones(len(points), 1, dtype=torch.int, device=device)
    tokens, _ = encoder(points=(coords[:, None].to(device), labels), boxes=None, masks=None)
    return tokens[:, 0]


@torch.inference_mode()
def segment_objects(model: GLUS, reader: FrameReader,
                    tracks: list[list[np.ndarray | None]]) -> list[list[dict | None]]:
    """Prompt each object on each frame of a video.

    Args:
        reader: the frames (T).
        tracks: (O)(T) true masks, bool (H, W); None where the object cannot be seen.

    Returns:
        (O)(T) predicted masks as COCO RLEs; None where the object cannot be seen.
    """
    cfg = model.test_cfg
    banks = [MemoryBank(cfg.memory_stride) for _ in tracks]
    masks: list[list[dict | None]] = [[None] * len(reader) for _ in tracks]
    for t in range(len(reader)):
        seen = [o for o, track in enumerate(tracks) if track[t] is not None]
        if not seen:
            continue
        image = sam2_image(reader.read(t), model.mask_head.image_size)
        feats = model.mask_head.extract_feat(model.data_preprocessor.normalize_sam(image)[None])
        points = np.array([inner_point(tracks[o][t]) for o in seen])
        tokens = point_tokens(model, points, reader.shape)
        for i in range(0, len(seen), cfg.max_expressions):
            some = seen[i:i + cfg.max_expressions]
            pred = model.decode(feats, tokens[i:i + cfg.max_expressions],
                                [banks[o] for o in some], t, store=cfg.use_memory)
            full = F.interpolate(pred.low_res_logits[:, None].float(), reader.shape,
                                 mode='bilinear', align_corners=False)[:, 0] > 0
            for o, mask in zip(some, full.cpu().numpy()):
                masks[o][t] = encode_mask(mask)
    return masks


def measure(model: GLUS, cfg: Config, num_videos: int | None = None) -> dict[str, float]:
    """Test the mask head on the test set of a config.

    Returns:
        What the config's metric gives, in percent.

    Raises:
        ValueError: the data set has no masks.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or SCOPE):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = dataset.metainfo
    count = min(len(dataset), num_videos or len(dataset))
    for i in range(count):
        item, info = dataset[i], dataset.get_data_info(i)
        reader, sample = item['inputs']['reader'], item['data_samples']
        tracks = object_tracks(*video_of(dataset, i), reader)
        masks = segment_objects(model, reader, [track.masks for track in tracks])
        found = dict(zip([track.anno_id for track in tracks], masks))
        sample.pred_masks = [[
            merge_rles([rle for anno in e['anno_ids'] if (rle := found[anno][t]) is not None],
                       reader.shape) for t in range(len(reader))] for e in info['expressions']]
        metric.process(None, [sample])
    return metric.evaluate(count)


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='J&F with the true point in place of seg tokens')
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='as for tools/test.py')
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    parser.add_argument('--videos', type=int, metavar='N', help='only the first N videos')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override config values')
    return parser, parser.parse_args()


def main() -> None:
    """Measure, print the figures by kind."""
    parser, args = parse_args()
    try:
        cfg = read_config(args.config, args.cfg_options)
        model = init_model(cfg, args.checkpoint, args.device)
        if not isinstance(model, GLUS):
            raise ValueError(f'expected a GLUS, got {type(model).__name__}: {args.config}')
        figures = measure(model, cfg, args.videos)
    except (OSError, KeyError, ValueError) as error:
        parser.error(str(error.args[0] if isinstance(error, KeyError) else error))
    kinds = [name.removesuffix('/J&F') for name in figures if name.endswith('/J&F')]
    print('| J&F in % | n | true point |\n|---|---:|---:|')
    for kind in kinds:
        number = figures.get(f'{kind}/expressions', '-')
        print(f'| {kind} | {number} | {figures[f"{kind}/J&F"]:.2f} |')
    print(f'| all with a target | {figures.get("expressions", "-")} | {figures["J&F"]:.2f} |')


if __name__ == '__main__':
    main()
