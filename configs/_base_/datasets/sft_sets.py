# The data sets that the paper mixes, each under a name of its own, and what all mixes share. They
# are those of mevis.py, ref-youtube-vos.py and so on. Those cannot be inherited together, because
# all of them set train_dataloader, which MMEngine refuses; a test compares them with these.
mevis_train = dict(type='MeViSDataset', data_root='data/mevis/train', min_frames=4)
ref_youtube_vos_train = dict(
    type='RefYouTubeVOSDataset', data_root='data/Refer-YouTube-VOS', min_frames=4)
ref_davis_train = dict(type='RefDAVISDataset', data_root='data/DAVIS17', min_frames=4)
revos_train = dict(type='ReVOSDataset', data_root='data/ReVOS', min_frames=4)
lv_vis_train = dict(type='LVVISDataset', data_root='data/LVVIS', min_frames=4)

train_dataloader = dict(batch_size=2, num_workers=4, persistent_workers=True)
# Tests on MeViS valid_u.
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='BalancedVideoSampler'),
    dataset=dict(
        type='MeViSDataset', data_root='data/mevis/valid_u', min_frames=4, test_mode=True))
test_evaluator = dict(type='RefVOSMetric')
