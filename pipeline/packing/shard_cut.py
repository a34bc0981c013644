"""Into how many shards a pack is cut: a rule of what every image takes, never of the machine."""

MAX_SHARD_BYTES = 256 << 20
"""What the largest shard holds, about."""

TARGET_SHARDS = 64
"""A pack is cut into about so many shards or more, so that up to 64 processes have work to the end..."""

MIN_SHARD_SAMPLES = 64
"""... unless a shard would hold fewer images than this."""


def samples_per_shard(num_samples: int, bytes_per_sample: int) -> int:
    """Return how many samples each shard but the last holds; `bytes_per_sample` may be an estimate."""
    fitting = max(MAX_SHARD_BYTES // bytes_per_sample, 1)
    return min(fitting, max(-(-num_samples // TARGET_SHARDS), MIN_SHARD_SAMPLES))
