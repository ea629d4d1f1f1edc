# Table 4, "+ KFS", Tables 5 and 6, "GLUS (ours)": start at the key frames of a file, go both ways.
# The rows of Table 5 differ in who wrote the file; docs/key_frames.md. Test only.
_base_ = ['../glus/glus_lisa-7b_sam2-l.py']
model = dict(test_cfg=dict(selector=dict(
        type='FileKeyFrameSelector', file='work_dirs/key_frames/mevis_valid_u.json')))
