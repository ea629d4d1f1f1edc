# Masks of videos and texts of your own: test_dataloader.dataset.ann_file is a list of them (JSONL).
_base_ = ['./glus_tiny_moving-shapes.py']
checkpoint = 'checkpoints/glus_tiny_moving-shapes.pth'
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VideoListDataset',
        ann_file='data/videos.jsonl',
        test_mode=True,
        pipeline=[
            dict(type='SampleContextQueryFrames', test_mode=True),
            dict(type='OpenFrameReader'),
            dict(type='PackRefVOSInputs')
        ]))
test_evaluator = dict(format_only=True, output_dir='outputs/video_list')
