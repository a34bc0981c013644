"""Reports of a run: pages that open without a network."""
