"""`--shard-range i/n`: the share of a pack's shards that one of n processes packs, on any machine."""

from dataclasses import dataclass

from manifests.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ShardRange:
    """Share `index` of `count`: neighbouring shards, counted from 0 as Slurm counts the tasks of an array."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "ShardRange":
        """Return the range that `text`, such as 0/10, names.

        Raises:
            ConfigError: it is none.
        """
        index, _, count = text.partition("/")
        if not (text.isascii() and index.isdigit() and count.isdigit() and int(index) < int(count)):
            raise ConfigError(f"--shard-range {text}: expected i/n with i from 0 to n - 1, such as 0/10 to 9/10")
        return cls(index=int(index), count=int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def numbers(self, num_shards: int) -> range:
        """Return the numbers of its shards; ranges differ by one shard at most, none where there are too few."""
        return range(self.index * num_shards // self.count, (self.index + 1) * num_shards // self.count)
