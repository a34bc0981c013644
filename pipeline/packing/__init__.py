"""Writing packs: pixels, shards, the parallel runner, verification."""
