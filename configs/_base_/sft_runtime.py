# default_runtime.py for trainings of the published size: a checkpoint every 500 optimizer steps,
# without the frozen weights, which would be 14 of 18 GB (computed, not measured). Those stay in the
# file of load_from, which has to be kept; tools/misc/publish_model.py puts them in.
# All are kept, 3.5 GB each (computed): the key-frame selector's pseudo-labels need an early one.
_base_ = ['./default_runtime.py']
default_hooks = dict(checkpoint=dict(interval=500 * 10, max_keep_ckpts=-1, leave_out_frozen=True))
