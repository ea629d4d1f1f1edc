# Table 5, the truth about key frames: the IoU of every frame of the test videos when all start at
# the first frame. Its best frames are the oracle.
_base_ = ['./glu_mb_oc.py']
test_evaluator = dict(
    _delete_=True, type='FrameIoUMetric', out_file='work_dirs/ablation/ious_valid.json')
