"""Coded streams and pictures: MPEG-TS, H.264, AAC and Opus in; pictures; H.264 and Opus out."""
