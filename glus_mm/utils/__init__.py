"""Helpers without dependencies inside the package: images, masks, frame positions."""
