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
        checkpoints/glus_tiny_moving-shapes.pth --out outputs/ceiling.json
"""

import cv2
import numpy as np
import torch
from mmengine import Config
from mmengine.registry import DefaultScope
from study import StudyVideo, load_study, study_parser, test_set, videos_of
from torch.nn import functional as F

from glus_mm.models import GLUS
from glus_mm.models.heads import MemoryBank
from glus_mm.registry import METRICS, SCOPE
from glus_mm.utils.command_line import refuse
from glus_mm.utils.image import sam2_image
from glus_mm.utils.masks import encode_mask, merge_rles


def inner_point(mask: np.ndarray) -> tuple[int, int]:
    """The pixel (x, y) of a mask, bool (H, W), that is furthest from its border."""
    padded = np.pad(mask.astype(np.uint8), 1)  # the border of the frame counts as well
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), mask.shape)
    return int(x), int(y)


def point_tokens(model: GLUS, points: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Points (N, 2), pixels (x, y) of a frame of ``size`` (H, W), as seg tokens (N, C)."""
    encoder = model.mask_head.sam2.sam_prompt_encoder
    # Centres of pixels, which the encoder adds the half to.
    scale = model.mask_head.image_size / np.array([size[1], size[0]])
    coords = torch.from_numpy((points + 0.5) * scale - 0.5).float()
    device = encoder.no_mask_embed.weight.device
    labels = torch.ones(len(points), 1, dtype=torch.int, device=device)
    tokens, _ = encoder(points=(coords[:, None].to(device), labels), boxes=None, masks=None)
    return tokens[:, 0]


@torch.inference_mode()
def segment_objects(model: GLUS, video: StudyVideo) -> dict[str, list[dict | None]]:
    """Prompt each object on each frame of a video.

    Returns:
        (T) COCO RLEs of each annotation; None where the object cannot be seen.
    """
    cfg, reader, tracks = model.test_cfg, video.reader, video.tracks
    banks = [MemoryBank(cfg.memory_stride) for _ in tracks]
    found: dict[str, list] = {track.anno_id: [None] * len(reader) for track in tracks}
    for t in range(len(reader)):
        seen = [o for o, track in enumerate(tracks) if track.masks[t] is not None]
        if not seen:
            continue
        image = sam2_image(reader.read(t), model.mask_head.image_size)
        feats = model.mask_head.extract_feat(model.data_preprocessor.normalize_sam(image)[None])
        points = np.array([inner_point(tracks[o].masks[t]) for o in seen])
        tokens = point_tokens(model, points, reader.shape)
        for i in range(0, len(seen), cfg.max_expressions):
            some = seen[i:i + cfg.max_expressions]
            pred = model.decode(feats, tokens[i:i + cfg.max_expressions],
                                [banks[o] for o in some], t, store=cfg.use_memory)
            full = F.interpolate(pred.low_res_logits[:, None].float(), reader.shape,
                                 mode='bilinear', align_corners=False)[:, 0] > 0
            for o, mask in zip(some, full.cpu().numpy()):
                found[tracks[o].anno_id][t] = encode_mask(mask)
    return found


def measure(model: GLUS, cfg: Config, num_videos: int | None = None) -> dict[str, float]:
    """What the config's metric gives for the mask head on its test set, in percent.

    Raises:
        ValueError: the data set has no masks.
    """
    dataset = test_set(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or SCOPE):
        metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = dataset.metainfo
    for video in videos_of(dataset, num_videos):
        found = segment_objects(model, video)
        video.sample.pred_masks = [[
            merge_rles([rle for anno in e['anno_ids'] if (rle := found[anno][t]) is not None],
                       video.reader.shape) for t in range(len(video.reader))]
            for e in video.info['expressions']]
        metric.process(None, [video.sample])
    return metric.evaluate(video.number + 1)


def main() -> None:
    """Measure, print the figures by kind."""
    parser = study_parser(__doc__, out="figures of every expression, as the metric's dump_file")
    args = parser.parse_args()
    with refuse(parser):
        cfg, model = load_study(args)
        if args.out is not None:
            cfg.test_evaluator.dump_file = args.out
        figures = measure(model, cfg, args.videos)
    print('| J&F in % | n | true point |\n|---|---:|---:|')
    for name in figures:
        if name.endswith('/J&F'):
            kind = name.removesuffix('/J&F')
            print(f'| {kind} | {figures.get(f"{kind}/expressions", "-")} | {figures[name]:.2f} |')
    print(f'| all with a target | {figures.get("expressions", "-")} | {figures["J&F"]:.2f} |')


if __name__ == '__main__':
    main()
