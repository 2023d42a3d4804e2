"""Data sets of clips: video super-resolution, deblurring and denoising."""
