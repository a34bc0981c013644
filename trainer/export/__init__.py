"""A run's model outside of its run: weights, programs, a model card; and back."""

from trainer.export.load import load_exported as load_exported
