"""Sheets of pictures: crops of images, and film strips of clips, in all their versions."""
