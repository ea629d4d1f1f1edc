"""Segment a list of videos: shared out to processes, resumable, one result line for each."""

from glus_mm.apis.many_videos.result_lines import ResultLines
from glus_mm.apis.many_videos.video_list_segmenter import VideoListSegmenter
from glus_mm.apis.many_videos.video_request import VideoRequest, read_requests

__all__ = ['ResultLines', 'VideoListSegmenter', 'VideoRequest', 'read_requests']
