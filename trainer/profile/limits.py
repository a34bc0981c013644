"""How fast training can be, from what its stages need: the model behind verdict and predictions.

The loader works while the step computes, so that they do not add up; what they share does::

    seconds an image  =  max( loader,                        batches that nobody waits for
                              reading,                       where the pack does not fit into the page cache
                              step,                          on a batch that is there already
                              (loader + step core seconds) / cores )

    loader  =  at least reading from the page cache, decoding or gathering, copying to the GPU
    step    =  augment + forward + teacher + backward + loss + optimiser + all-reduce + waiting for the slowest rank

A loader that only works when it is asked (`reference`; `resident` on a GPU) adds up with the step. On a CPU the step
needs the cores that the loader needs, and the last line is then the one that counts: the two add up.
All numbers are of all ranks together: each rank measured while the others did the same.

A prediction takes a part away, or replaces it by another that was measured, and leaves the rest as it was measured. Of
a part that computes that is fair. A part that waits (`Limits.waiting`) lets the cores idle, and what comes after a
pause may be slower than it is without one: threads are woken, caches filled again. How much nobody measured, so that
the rate without such a part is the least to be expected.
"""

from dataclasses import dataclass, replace
from typing import Literal

from trainer.profile.measurements import PartName

Resource = Literal["loader", "reading", "step", "cores"]

STEP_PARTS: tuple[PartName, ...] = ("forward", "teacher", "backward", "loss + memory", "optimiser + EMA", "other")
"""Parts that compute, the augmentation aside."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an image costs, in seconds of each resource; over all ranks together."""

    loader_s: float
    """Of the loader by itself, with its threads; 0: no loader."""

    loader_core_s: float
    """Of cores, for loading."""

    read_s: float
    """Reading as a later epoch meets it: from the page cache, and from the disk what does not fit there."""

    cold_s: float
    """Reading from the disk alone."""

    cached_s: float
    """Reading from the page cache alone."""

    decode_s: float
    """Decoding, or gathering where images lie as they are."""

    decode_core_s: float
    """Of cores, for the same."""

    gather_s: float
    """Gathering images of this size that lie in memory as they are."""

    gather_core_s: float
    """Of cores, for the same."""

    copy_s: float
    """To a GPU; 0 without one."""

    step_s: float
    """Of a step on a batch that is there."""

    step_core_s: float
    """Of cores, for the same."""

    parts_s: dict[PartName, float]
    """What the step's seconds are made of."""

    parts_core_s: dict[PartName, float]
    """What its core seconds are made of."""

    augment_floor_s: float
    """What preparing an image takes without augmentation."""

    waiting: frozenset[PartName]
    """Parts of the step that wait rather than compute: they keep less than half a core busy, and less than half of what
    the rest of the step does. Of a GPU nobody knows; there it is empty."""

    straggler_s: float
    """What the slowest rank costs beyond the others' mean."""

    straggler_core_s: float
    """Of cores, for the same: nothing where it waits."""

    cores: float
    """That all ranks may use."""

    reads_ahead: bool
    """Whether the loader works while the step computes."""

    reads_beside_decoding: bool
    """Whether, within the loader, reading goes on while other threads decode."""

    @property
    def cores_s(self) -> float:
        """Seconds an image if nothing but the cores were short."""
        return (self.loader_core_s + self.step_core_s) / self.cores

    @property
    def resources(self) -> dict[Resource, float]:
        """Seconds an image by the resource that is short."""
        return {"loader": self.loader_s, "reading": self.read_s, "step": self.step_s, "cores": self.cores_s}

    @property
    def image_s(self) -> float:
        """Seconds an image, as the model has it."""
        one_after_the_other_s = 0.0 if self.reads_ahead else self.loader_s + self.step_s
        return max(one_after_the_other_s, *self.resources.values())

    @property
    def images_per_s(self) -> float:
        """Images a second, as the model has it."""
        return 1 / self.image_s

    @property
    def bound_by(self) -> Resource:
        """The resource that is short."""
        return max(self.resources, key=lambda resource: self.resources[resource])

    def reading_from_memory(self) -> "Limits":
        """Return the limits if what is read lay in memory: gathered instead of read."""
        return self._with_loader_part(
            self.read_s, min(self.read_s, self.gather_s), read_s=min(self.read_s, self.gather_s)
        )

    def all_cached(self) -> "Limits":
        """Return the limits if no read waited for the disk."""
        return self._with_loader_part(self.read_s, self.cached_s, read_s=self.cached_s)

    def uncached(self) -> "Limits":
        """Return the limits of an epoch whose every read waits for the disk."""
        return replace(self, read_s=max(self.read_s, self.cold_s), loader_s=max(self.loader_s, self.cold_s))

    def gathered(self, *, read_s: float = 0.0) -> "Limits":
        """Return the limits with a loader that gathers images which lie as they are, as `raw` and `resident` do.

        It is another loader: of the one that was measured nothing is left but the copies.

        Args:
            read_s: what reading takes an image; 0: they are in memory.
        """
        return replace(
            self,
            loader_s=max(self.gather_s, self.copy_s, read_s),
            loader_core_s=self.gather_core_s,
            read_s=read_s,
            decode_s=self.gather_s,
            decode_core_s=self.gather_core_s,
            reads_ahead=True,
        )

    def decoded_elsewhere(self) -> "Limits":
        """Return the limits if decoding took neither time nor cores: its loader is left with the reading."""
        return self._with_loader_part(
            self.decode_s,
            0.0,
            decode_s=0.0,
            decode_core_s=0.0,
            loader_core_s=max(0.0, self.loader_core_s - self.decode_core_s),
            reads_ahead=True,
        )

    def without_copy(self) -> "Limits":
        """Return the limits if images were on the GPU already."""
        return self._with_loader_part(self.copy_s, 0.0, copy_s=0.0)

    def with_loader_threads(self, times: float) -> "Limits":
        """Return the limits if the loader had that many times the threads; a disk that is waited for stays as it is."""
        waits_for_disk = self.read_s > self.cached_s
        read_s = self.read_s if waits_for_disk else self.read_s / times
        return replace(
            self,
            loader_s=max(self.loader_s / times, self.copy_s, read_s),
            read_s=read_s,
            cached_s=self.cached_s / times,
            decode_s=self.decode_s / times,
        )

    def without_part(self, part: PartName, *, left_s: float = 0.0) -> "Limits":
        """Return the limits if a part of the step took `left_s` seconds an image."""
        before_s = self.parts_s.get(part, 0.0)
        spared_s = max(0.0, before_s - left_s)
        share = spared_s / before_s if before_s else 0.0
        spared_core_s = share * self.parts_core_s.get(part, 0.0)
        return replace(
            self,
            step_s=self.step_s - spared_s,
            step_core_s=max(0.0, self.step_core_s - spared_core_s),
            parts_s=self.parts_s | {part: before_s - spared_s},
            parts_core_s=self.parts_core_s | {part: self.parts_core_s.get(part, 0.0) - spared_core_s},
        )

    def without_straggler(self) -> "Limits":
        """Return the limits if the slowest rank were as fast as the others are on average."""
        return replace(
            self,
            step_s=self.step_s - self.straggler_s,
            step_core_s=max(0.0, self.step_core_s - self.straggler_core_s),
            straggler_s=0.0,
            straggler_core_s=0.0,
        )

    def with_cores(self, times: float, *, step_on_cores: bool) -> "Limits":
        """Return the limits with that many times the cores, and threads for them, used perfectly."""
        more = self.with_loader_threads(times)
        step_s = self.step_s / times if step_on_cores else self.step_s
        return replace(more, cores=self.cores * times, step_s=step_s)

    def _with_loader_part(self, before_s: float, after_s: float, **changes: float) -> "Limits":
        """Return the limits if a part of the loader's work took less: no more than that is won, and no other part."""
        changed = replace(self, **changes)  # type: ignore[arg-type]  # numbers and, of reads_ahead, a truth value
        if not self.loader_s:
            return changed
        others_s = max(changed.read_s, changed.decode_s, changed.copy_s)
        if self.reads_beside_decoding and before_s >= self.loader_s / 2:  # the others were hidden behind it
            return replace(changed, loader_s=others_s)
        return replace(changed, loader_s=max(self.loader_s - (before_s - after_s), others_s))
