"""From manifests to batches: packs, order, augmentation, loaders."""
