# MOSEv2: each object starts from its true mask on the first frame that shows it, so it takes a
# propagator that starts from masks, such as model.test_cfg.propagator.type=SAM2Propagator.
data_root = 'data/MOSEv2'

test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='BalancedVideoSampler'),
    dataset=dict(
        type='MOSEDataset',
        data_root=data_root,
        test_mode=True,
        pipeline=[
            dict(type='SampleContextQueryFrames', test_mode=True),
            dict(type='OpenFrameReader'),
            dict(type='LoadKeyMasks'),
            dict(type='PackRefVOSInputs')
        ]))

test_evaluator = dict(type='RefVOSMetric', protocol='mose-v2', ann_root=data_root)
