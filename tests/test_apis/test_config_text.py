"""Tokenizers that come with the weights, and settings that model and data share."""

import shutil
from pathlib import Path

import pytest
from mmengine import Config

from glus_mm.apis import init_model
from glus_mm.apis.config_text import check_shared_settings, fill_tokenizers
from glus_mm.text.tokenizer import SHIPPED_TOKENIZERS
from programs import ROOT

OFFICIAL = ROOT / 'tests' / 'data' / 'official_prompt'


def config(**model):
    pipeline = [
        dict(type='ResizeForEncoders', vision_size=56, sam_size=64),
        dict(type='BuildConversation', tokenizer='load_from', template='llava_v1')
    ]
    mllm = dict(dict(type='LlavaMLLM', tokenizer='load_from'), **model)
    mix = [dict(type='MeViSDataset', pipeline=pipeline), dict(type='Other', pipeline=pipeline)]
    return Config(dict(
        model=dict(type='GLUS', mllm=mllm),
        train_dataloader=dict(dataset=dict(type='MixedRefVOSDataset', datasets=mix))))


def conversation(cfg, number):
    return cfg.train_dataloader.dataset.datasets[number].pipeline[1]


def tokenizers(cfg):
    return {cfg.model.mllm.tokenizer, conversation(cfg, 0).tokenizer,
            conversation(cfg, 1).tokenizer}


@pytest.fixture
def converted(tmp_path):
    """A folder with a tokenizer and (a stand-in for) weights."""
    folder = tmp_path / 'converted'
    shutil.copytree(OFFICIAL, folder)
    (folder / 'model.pth').write_bytes(b'')
    return folder


@pytest.fixture
def trained(tmp_path):
    """A checkpoint of a training, which has no tokenizer beside it."""
    (tmp_path / 'run').mkdir()
    file = tmp_path / 'run' / 'iter_5.pth'
    file.write_bytes(b'')
    return file


def test_where_the_tokenizer_is_found(converted, tmp_path, trained, local_hub):
    for checkpoint in (converted / 'model.pth', str(converted)):
        cfg = config()
        fill_tokenizers(cfg, checkpoint, 'no/such-repository')
        assert tokenizers(cfg) == {str(converted.resolve())}
    for load_from in (str(converted), str(converted / 'model.pth')):
        cfg = config()
        fill_tokenizers(cfg, trained, load_from)
        assert tokenizers(cfg) == {str(converted.resolve())}
    home = local_hub.publish('some/model', OFFICIAL)
    cfg = config()
    fill_tokenizers(cfg, trained, 'some/model')
    assert tokenizers(cfg) == {str(home / 'snapshots' / ('c' * 40))}


def test_no_tokenizer_to_look_for(trained, local_hub):
    cfg = config(tokenizer='tiny')
    for number in (0, 1):
        conversation(cfg, number).tokenizer = 'tiny'
    fill_tokenizers(cfg)
    assert tokenizers(cfg) == {'tiny'}
    message = (r'model.mllm.tokenizer, train_dataloader.dataset.datasets.0.pipeline.1.tokenizer, '
               r'.*no tokenizer.model beside the checkpoint \(.*iter_5.pth\) nor at load_from')
    with pytest.raises(FileNotFoundError, match=message):
        fill_tokenizers(config(), trained, None)
    with pytest.raises(ConnectionError, match='some/model could not be reached'):
        fill_tokenizers(config(), trained, 'some/model')


def test_model_and_pipelines_agree(converted):
    cfg = config()
    fill_tokenizers(cfg, converted)
    check_shared_settings(cfg)  # with the template and the crop that are defaults
    check_shared_settings(Config(dict(model=dict(type='GLUS'))))
    cfg = config(tokenizer=str(OFFICIAL))
    fill_tokenizers(cfg, converted)
    check_shared_settings(cfg)


@pytest.mark.parametrize(('model', 'message'), [
    (dict(template='compact'), r"model.mllm.template='compact' and train_dataloader.dataset."
                               r"datasets.0.pipeline.1.template='llava_v1'"),
    (dict(vision_crop='squash'), r"model.mllm.vision_crop='squash' and .*datasets.0.pipeline.0."
                                 r"vision_crop='center' \(ResizeForEncoders\)"),
    (dict(tokenizer='tiny'), "model.mllm.tokenizer='tiny' and .*converted"),
])
def test_model_and_pipelines_differ(converted, model, message):
    cfg = config(**model)
    fill_tokenizers(cfg, converted)
    with pytest.raises(ValueError, match=message):
        check_shared_settings(cfg)


def test_init_model_fills_it_in(tiny_config, tmp_path):
    path, options = tiny_config
    shutil.copytree(SHIPPED_TOKENIZERS['tiny'], tmp_path / 'weights')
    cfg = Config.fromfile(path)
    cfg.load_from = str(tmp_path / 'weights')
    model = init_model(cfg, cfg_options={**options, 'model.mllm.tokenizer': 'load_from'})
    assert Path(model.mllm.tokenizer.model_file).parent == tmp_path / 'weights'


def test_a_test_pipeline_has_the_context_of_the_model():
    sample = dict(type='SampleContextQueryFrames', test_mode=True)
    cfg = Config(dict(
        model=dict(type='GLUS', mllm=dict(type='LlavaMLLM'), test_cfg=dict(num_context=2)),
        test_dataloader=dict(dataset=dict(pipeline=[sample]))))
    check_shared_settings(cfg)
    node = cfg.test_dataloader.dataset.pipeline[0]
    node.num_context = 2
    check_shared_settings(cfg)
    node.num_context = 4
    with pytest.raises(ValueError, match='model.test_cfg.num_context=2 and test_dataloader.dataset.'
                                         r'pipeline.0.num_context=4 \(SampleContextQueryFrames'):
        check_shared_settings(cfg)
    node.strategy = 'local'
    with pytest.raises(ValueError, match="num_context=2 and .*pipeline.0.strategy='local'"):
        check_shared_settings(cfg)
    cfg.model.test_cfg.num_context = 0
    check_shared_settings(cfg)
    del cfg.model.test_cfg['num_context']  # then it is 4
    del node['strategy']
    check_shared_settings(cfg)


def test_both_say_how_many_tokens():
    cfg = config(template='llava_v1', tokenizer='tiny')
    for number in (0, 1):
        conversation(cfg, number).update(tokenizer='tiny')
    cfg.model.train_cfg = dict(one_token_seg_all=True)
    with pytest.raises(ValueError, match='_seg_all=True and .*one_token_seg_all=False'):
        check_shared_settings(cfg)


@pytest.mark.parametrize('model, message', [
    (dict(mllm=dict(vision_tower=dict(image_size=64))),
     r'model.mllm.vision_tower.image_size=64 and train_dataloader.*pipeline.0.vision_size=56'),
    (dict(mask_head=dict(image_size=128)),
     r'model.mask_head.image_size=128 and train_dataloader.*pipeline.0.sam_size=64')])
def test_images_of_another_size_than_the_model_takes(model, message):
    cfg = config(tokenizer='tiny', template='llava_v1')
    for dataset in cfg.train_dataloader.dataset.datasets:
        dataset.pipeline[1].tokenizer = 'tiny'
    cfg.merge_from_dict(dict(model=dict(
        mllm=dict(vision_tower=dict(image_size=56)), mask_head=dict(image_size=64))))
    check_shared_settings(cfg)
    cfg.merge_from_dict(dict(model=model))
    with pytest.raises(ValueError, match=message):
        check_shared_settings(cfg)
