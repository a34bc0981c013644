"""Backends that stream batches with their sample_index, all in the same order."""
