"""Probabilities for image files: decoded and resized as packing does it, then asked of a trained model."""
