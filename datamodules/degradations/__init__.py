"""Degradations of clean images, physically described, one cause a file."""

from datamodules.degradations.base import Chain, Degradation
from datamodules.degradations.blur import MotionBlur
from datamodules.degradations.downsampling import BicubicDownsampling, BlurDownsampling
from datamodules.degradations.imresize import imresize
from datamodules.degradations.jpeg import JPEGCompression
from datamodules.degradations.noise import BenchmarkNoise, ClipNoise, GaussianNoise, ShotNoise
from datamodules.degradations.rain import Rain
from datamodules.degradations.second_order import DegradationRound, SecondOrderDegradation

__all__ = [
    "BenchmarkNoise",
    "BicubicDownsampling",
    "BlurDownsampling",
    "Chain",
    "ClipNoise",
    "Degradation",
    "DegradationRound",
    "GaussianNoise",
    "JPEGCompression",
    "MotionBlur",
    "Rain",
    "SecondOrderDegradation",
    "ShotNoise",
    "imresize",
]
