"""Segment a list of videos: shared out to processes, resumable, one result line for each."""

from glus_mm.apis.many_videos.video_list_segmenter import VideoListSegmenter, earlier_results
from glus_mm.apis.many_videos.video_request import VideoRequest, read_requests

__all__ = ['VideoListSegmenter', 'VideoRequest', 'earlier_results', 'read_requests']
