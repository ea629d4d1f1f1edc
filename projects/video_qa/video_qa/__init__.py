"""Key frames from the answers of a video MLLM."""

from video_qa.base_video_qa import AnswerCfg, BaseVideoQA
from video_qa.chat_univi_video_qa import ChatUniViVideoQA
from video_qa.moment_answer import QUESTIONS, UNITS, frame_at, parse_moment, shown_frames
from video_qa.video_qa_selector import VideoQACfg, VideoQASelector

__all__ = ['QUESTIONS', 'UNITS', 'AnswerCfg', 'BaseVideoQA', 'ChatUniViVideoQA', 'VideoQACfg',
           'VideoQASelector', 'frame_at', 'parse_moment', 'shown_frames']
