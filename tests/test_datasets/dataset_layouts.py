"""Every data set in its official layout, at a tiny size, written with cv2, Pillow and json only.

``LAYOUTS[name].write(root)`` makes a tree; ``truth`` tells each mask. Two videos with the objects 1
and 2: object 1 fills rows 2..7, object 2 rows 10..17 (2 covers 1 nowhere), both step right by one
pixel a frame, and object 2 is hidden on frame 1.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from glus_mm import datasets

# video: number of frames, (H, W)
VIDEOS = {'vid_a': (6, (24, 40)), 'vid_b': (5, (36, 28))}
TEXTS = ['A red box.', 'the lower box', 'both boxes', 'the blue box']
# All 256 colours: with fewer, Pillow writes fewer bits, and 255 becomes another index.
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0] + [64] * 759


def frame_names(video: str) -> list[str]:
    return [f'{5 * i:05d}' for i in range(VIDEOS[video][0])]


def object_mask(shape: tuple[int, int], which: int, frame: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    if not (which == 2 and frame == 1):
        top, bottom = {1: (2, 8), 2: (10, 18)}[which]
        mask[top:bottom, 2 + frame:9 + frame] = True
    return mask


def union_mask(shape: tuple[int, int], objects: tuple[str, ...], frame: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for which in objects:
        mask |= object_mask(shape, int(which), frame)
    return mask


def rle(mask: np.ndarray) -> dict | None:
    if not mask.any():
        return None
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'size': list(mask.shape), 'counts': code['counts'].decode()}


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_images(folder: Path, prefix: str = '') -> None:
    for video, (_, shape) in VIDEOS.items():
        target = folder / f'{prefix}{video}'
        target.mkdir(parents=True)
        for i, name in enumerate(frame_names(video)):
            cv2.imwrite(str(target / f'{name}.jpg'), np.full((*shape, 3), 20 * i, dtype=np.uint8))


def write_palette(folder: Path) -> None:
    for video, (_, shape) in VIDEOS.items():
        (folder / video).mkdir(parents=True)
        for i, name in enumerate(frame_names(video)):
            indices = np.zeros(shape, dtype=np.uint8)
            indices[object_mask(shape, 1, i)] = 1
            indices[object_mask(shape, 2, i)] = 2
            indices[-1, -1] = 255  # void
            image = Image.fromarray(indices)
            image.putpalette(PALETTE)
            image.save(folder / video / f'{name}.png')


def write_mevis(root: Path, ann_file: str = 'meta_expressions.json', images: str = 'JPEGImages',
                no_target: bool = False, types: tuple[int, ...] | None = None,
                prefix: str = '') -> None:
    """MeViS's layout: expressions 0 and 1 are an object each, 2 is both, 3 (optional) is none."""
    videos, masks = {}, {}
    objects = [[1], [2], [1, 2], []][:4 if no_target else 3]
    for number, (video, (num_frames, shape)) in enumerate(VIDEOS.items()):
        for which in (1, 2):
            masks[str(10 * number + which)] = [
                rle(object_mask(shape, which, i)) for i in range(num_frames)]
        expressions = {
            str(i): {'exp': TEXTS[i], 'obj_id': ids, 'anno_id': [10 * number + o for o in ids]}
            for i, ids in enumerate(objects)}
        for i, entry in enumerate(expressions.values()):
            if types is not None:
                entry['type_id'] = types[i]
        videos[f'{prefix}{video}'] = {
            'vid_id': number, 'frames': frame_names(video), 'expressions': expressions}
        if types is not None:
            videos[f'{prefix}{video}'].update(height=shape[0], width=shape[1])
    write_json(root / ann_file, {'videos': videos})
    write_json(root / 'mask_dict.json', masks)
    write_images(root / images, prefix)


def write_mevis_v2(root: Path) -> None:
    write_mevis(root, no_target=True)


def write_revos(root: Path) -> None:
    write_mevis(root, 'meta_expressions_train_.json', no_target=True, types=(0, 1, 1, 2),
                prefix='UVO/all/')


def write_lv_vis(root: Path) -> None:
    write_mevis(root, images='train/JPEGImages')


def write_ref_youtube_vos(root: Path, per_object: int = 1, obj_id: Callable = str) -> None:
    """Expression i is object i // per_object + 1."""
    write_json(root / 'meta_expressions/train/meta_expressions.json', {'videos': {
        video: {'frames': frame_names(video), 'expressions': {
            str(i): {'exp': TEXTS[i % 2], 'obj_id': obj_id(i // per_object + 1)}
            for i in range(2 * per_object)}} for video in VIDEOS}})
    write_images(root / 'train/JPEGImages')
    write_palette(root / 'train/Annotations')


def write_ref_davis(root: Path) -> None:
    write_ref_youtube_vos(root, per_object=4)


def write_ref_davis_dict(root: Path) -> None:
    """With the masks as GLUS has them; the order of videos in the annotation is another one."""
    write_ref_youtube_vos(root, per_object=4, obj_id=int)
    path = root / 'meta_expressions/train/meta_expressions.json'
    videos = json.loads(path.read_text())['videos']
    write_json(path, {'videos': dict(reversed(videos.items()))})
    masks = []
    for video in sorted(videos):
        num_frames, shape = VIDEOS[video]
        for exp_id in sorted(videos[video]['expressions']):
            which = videos[video]['expressions'][exp_id]['obj_id']
            masks.append([rle(object_mask(shape, which, i)) for i in range(num_frames)])
    write_json(root / 'train/mask_dict.json', {str(i): track for i, track in enumerate(masks)})


def write_reason_vos(root: Path) -> None:
    """Frames in an order of their own: the last one first."""
    videos = {}
    for number, (video, (_, shape)) in enumerate(VIDEOS.items()):
        names, source = frame_names(video), ('MeViS', 'VIPSeg')[number]
        videos[video] = {
            'source': source, 'is_sent': True, 'frames': names[-1:] + names[:-1],
            'expressions': [{'exp_text': TEXTS[i], 'obj_id': i + 1, 'exp_id': i, 'is_sent': True}
                            for i in range(2)]}
        for which in (1, 2):
            folder = root / 'Annotations' / f'{(source.lower(), source)[number]}_{video}_{which}'
            folder.mkdir(parents=True)
            for i, name in enumerate(names):
                mask = object_mask(shape, which, i).astype(np.uint8) * 255
                Image.fromarray(mask).save(folder / f'{name}.png')
    write_json(root / 'meta_expressions.json', {'videos': videos})
    write_images(root / 'JPEGImages')


def write_ref_sav(root: Path) -> None:
    write_mevis(root, 'meta_expressions_valid.json', images='videos', types=(0, 1, 1))


def write_long_rvos(root: Path) -> None:
    """An object that is hidden has no file."""
    kinds = ('static', 'dynamic', 'static+dynamic')
    write_json(root / 'meta_expressions.json', {'videos': {
        video: {'frames': frame_names(video), 'expressions': {
            str(i): {'exp': TEXTS[i], 'obj_id': (1, '2', 2)[i], 'type': kind}
            for i, kind in enumerate(kinds)}} for video in VIDEOS}})
    for video, (_, shape) in VIDEOS.items():
        for which in (1, 2):
            folder = root / 'Annotations' / video / str(which)
            folder.mkdir(parents=True)
            for i, name in enumerate(frame_names(video)):
                mask = object_mask(shape, which, i)
                if mask.any():
                    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f'{name}.png')
    write_images(root / 'JPEGImages')


@dataclass(frozen=True)
class Layout:
    """A data set in a layout.

    Attributes:
        dataset: the class.
        write: writes a tree.
        ann_file, masks, images: where things lie in it; ``masks`` a JSON file or a folder.
        options: arguments beside ``data_root``.
        train: whether it can be trained on.
        prefix: what stands before the id of a video.
        text_key: key of an expression's text.
    """

    dataset: type
    write: Callable[[Path], None]
    ann_file: str = 'meta_expressions.json'
    masks: str = 'mask_dict.json'
    images: str = 'JPEGImages'
    options: dict = field(default_factory=dict)
    train: bool = True
    prefix: str = ''
    text_key: str = 'exp'

    def build(self, root: Path, **options) -> datasets.BaseRefVOSDataset:
        # Serializing collects garbage, which takes longer than all the rest here.
        options = dict(self.options, serialize_data=False) | options
        return self.dataset(data_root=str(root), **options)


PALETTE_TREE = dict(ann_file='meta_expressions/train/meta_expressions.json',
                    masks='train/Annotations', images='train/JPEGImages')
LAYOUTS = {
    'mevis': Layout(datasets.MeViSDataset, write_mevis),
    'mevis_v2': Layout(datasets.MeViSv2Dataset, write_mevis_v2),
    'revos': Layout(datasets.ReVOSDataset, write_revos, prefix='UVO/all/',
                    ann_file='meta_expressions_train_.json'),
    'lv_vis': Layout(datasets.LVVISDataset, write_lv_vis, images='train/JPEGImages'),
    'ref_youtube_vos': Layout(datasets.RefYouTubeVOSDataset, write_ref_youtube_vos,
                              **PALETTE_TREE),
    'ref_davis': Layout(datasets.RefDAVISDataset, write_ref_davis, **PALETTE_TREE),
    'ref_davis_dict': Layout(
        datasets.RefDAVISDataset, write_ref_davis_dict,
        options=dict(data_prefix=dict(mask='train/mask_dict.json')),
        **dict(PALETTE_TREE, masks='train/mask_dict.json')),
    'reason_vos': Layout(datasets.ReasonVOSDataset, write_reason_vos, masks='Annotations',
                         options=dict(test_mode=True), train=False, text_key='exp_text'),
    'ref_sav': Layout(datasets.RefSAVDataset, write_ref_sav, images='videos',
                      ann_file='meta_expressions_valid.json'),
    'long_rvos': Layout(datasets.LongRVOSDataset, write_long_rvos, masks='Annotations'),
}


def train_pipeline(num_query: int = 6) -> list[dict]:
    return [
        dict(type='glus_mm.SampleContextQueryFrames', num_context=2, num_query=num_query,
             num_expressions=20),
        dict(type='glus_mm.LoadRefVOSFrames'),
        dict(type='glus_mm.LoadRefVOSMasks'),
        dict(type='glus_mm.ResizeForEncoders', vision_size=8, sam_size=16, vision_crop='squash'),
        dict(type='glus_mm.BuildConversation', tokenizer='tiny', template='compact'),
        dict(type='glus_mm.PackRefVOSInputs')]


def masks_pipeline(num_query: int = 6) -> list[dict]:
    """What of the training pipeline looks at the data set's files."""
    return train_pipeline(num_query)[:3]


def test_pipeline() -> list[dict]:
    return [
        dict(type='glus_mm.SampleContextQueryFrames', num_context=2, test_mode=True),
        dict(type='glus_mm.OpenFrameReader'),
        dict(type='glus_mm.LoadRefVOSGroundTruth'),
        dict(type='glus_mm.PackRefVOSInputs')]
