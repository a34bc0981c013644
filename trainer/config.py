"""Everything that a training run can be told, composed of the sections beside the code that uses them.

``--set section.key=value`` names a field here or in `LoaderConfig`, `AugmentConfig`, `LossConfig`, `EMAConfig`,
`OptimConfig`, `ScheduleConfig`.
"""

from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from manifests.errors import ConfigError
from pipeline.augment import AugmentConfig
from pipeline.loaders import LoaderConfig
from trainer.ema import EMAConfig
from trainer.methods import METHODS, LossConfig
from trainer.optim import OptimConfig
from trainer.options import refuse_unless
from trainer.precision import PrecisionOption
from trainer.schedule import ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is trained on."""

    pack: str | None = None
    """Folder of the pack; none: the only one in the workspace whose format the loader reads."""

    labels: str | None = None
    """Manifest whose labels are trained and validated on instead of the pack's, image by image; none: the pack's."""

    label_space: str = "nvum-nih"
    """Outputs of the model and rows that are left out; see `manifests.label_spaces`."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network."""

    name: str = "densenet121"
    """`densenet121`, `small` for CPUs, or `timm:NAME`."""

    pretrained: str | None = None
    """Where its first weights come from: none (random), `imagenet`, or the path of a state dict."""

    input_size_px: int = 0
    """Side of the images that it sees, after augmentation; 0: that of the pack."""

    channels_last: bool = True
    """Whether weights and features lie with their channels side by side, which convolutions like."""

    recompute: bool = False
    """Whether the backward pass computes features again instead of keeping them: less memory, more time."""

    def __post_init__(self) -> None:
        refuse_unless(self.input_size_px >= 0, "model.input_size_px", self.input_size_px, "0 (the pack's) or more")
        if self.pretrained == "imagenet" and self.name == "small":
            raise ConfigError(
                "model.pretrained=imagenet: there are no ImageNet weights of the model small; "
                "use --model densenet121, or --set model.pretrained=none"
            )


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """How a step computes."""

    precision: PrecisionOption = "auto"
    """Number format of the forward passes; auto: bf16 on a GPU that has it, else fp32."""

    clip_norm: float = 0.0
    """Largest norm of the gradient over all weights; a larger one is scaled down to it; 0: no limit."""

    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What a loss or gradient that is not finite does: `stop` the run, or `skip` the step."""

    accumulate: int = 1
    """Parts that a batch is computed in, one after the other, for want of memory: still one step, in which every sample
    weighs the same. Batch statistics and partners of memory mixup are those of a part."""

    compile: bool = False
    """Whether torch.compile makes programs of the networks: minutes at the start."""

    cudnn_benchmark: bool = True
    """Whether cuDNN tries its algorithms once a shape and keeps the fastest; only on a GPU."""

    cuda_graph: bool = False
    """Whether the networks' launches are recorded once and replayed; one GPU only."""

    sync_batchnorm: bool = False
    """Whether BatchNorm sees the batches of all GPUs together; only where there are several."""

    def __post_init__(self) -> None:
        refuse_unless(isfinite(self.clip_norm) and self.clip_norm >= 0, "step.clip_norm", self.clip_norm, "0 or more")
        refuse_unless(self.accumulate >= 1, "step.accumulate", self.accumulate, "1 or more")
        refuse_unless(
            not self.sync_batchnorm or self.accumulate == 1,
            "step.sync_batchnorm",
            self.sync_batchnorm,
            "step.accumulate=1 with it: GPUs may have different numbers of parts",
        )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long, from which seed, where, and what is written how often."""

    epochs: int = 30
    """Passes over the training selection."""

    seed: int = 0
    """Of order, augmentation, memory mixup and first weights; 0 to 2^32 - 1."""

    device: str = "auto"
    """`auto` (the GPU where there is one), `cpu`, `cuda` or `cuda:N`."""

    num_threads: int = 0
    """Threads of torch on the CPU; 0: as many as the cores that this process may use. Bits depend on it on the CPU."""

    log_every_steps: int = 20
    """Steps between two `train` events; reading the losses waits for the device."""

    checkpoint_every_steps: int = 0
    """Steps between two checkpoints within an epoch; 0: none. One is always written at an epoch's end."""

    checkpoint_every_minutes: float = 15.0
    """Minutes after which one more is written within an epoch; 0: none."""

    tensorboard: bool = False
    """Whether events go to TensorBoard too: files in the run's folder."""

    wandb: bool = False
    """Whether events go to Weights & Biases too."""

    wandb_project: str = "cxr-nvum"
    """Where they appear there."""

    def __post_init__(self) -> None:
        refuse_unless(self.epochs >= 1, "run.epochs", self.epochs, "1 or more")
        refuse_unless(0 <= self.seed < 2**32, "run.seed", self.seed, "0 to 2^32 - 1")
        refuse_unless(self.num_threads >= 0, "run.num_threads", self.num_threads, "0 (all usable cores) or more")
        refuse_unless(self.log_every_steps >= 1, "run.log_every_steps", self.log_every_steps, "1 or more")
        steps, minutes = self.checkpoint_every_steps, self.checkpoint_every_minutes
        refuse_unless(steps >= 0, "run.checkpoint_every_steps", steps, "0 (only at an epoch's end) or more")
        refuse_unless(0 <= minutes < float("inf"), "run.checkpoint_every_minutes", minutes, "0 (never) or more")


@dataclass(frozen=True, kw_only=True)
class LabConfig:
    """What is measured by clean labels that the run itself never trains on, validates on or chooses by."""

    clean_labels: str | None = None
    """Manifest of labels that are right; with it each epoch tells how many wrong labels are learned by heart."""

    num_images: int = 2000
    """Training images that this is measured on, at most."""

    def __post_init__(self) -> None:
        refuse_unless(self.num_images >= 1, "lab.num_images", self.num_images, "1 or more")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run; only composes."""

    data: DataConfig = field(default_factory=DataConfig)
    """Pack and label space."""

    loader: LoaderConfig = field(default_factory=LoaderConfig)
    """Backend, batch size, threads."""

    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Crop, flip, rotation, translation."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """Network, first weights, image size."""

    loss: LossConfig = field(default_factory=LossConfig)
    """Loss and the settings of all losses."""

    ema: EMAConfig = field(default_factory=EMAConfig)
    """Teacher."""

    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser and learning rate."""

    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Learning rate over the run."""

    step: StepConfig = field(default_factory=StepConfig)
    """Precision, clipping, losses that are not finite, parts of a batch, compilation."""

    run: RunConfig = field(default_factory=RunConfig)
    """Epochs, seed, device, threads, how often what is written."""

    lab: LabConfig = field(default_factory=LabConfig)
    """Measures that need clean labels."""

    def __post_init__(self) -> None:
        if self.step.cuda_graph and self.step.accumulate > 1:
            raise ConfigError(
                f"step.cuda_graph=true with step.accumulate={self.step.accumulate}: a replayed graph writes gradients "
                "where the last ones are; leave one of them out"
            )
        if self.step.compile and self.model.recompute:
            raise ConfigError(
                "step.compile=true with model.recompute=true: the compiler itself decides what it computes again; "
                "leave one of them out"
            )
        if self.augment.mixes_images and METHODS[self.loss.name].memory_columns:
            mixing = "mixup_alpha" if self.augment.mixup_alpha else "cutmix_alpha"
            raise ConfigError(
                f"augment.{mixing}={getattr(self.augment, mixing):g} with loss.name={self.loss.name}: its memory keeps "
                f"what is predicted for single images, and a mixture is none; set augment.{mixing}=0, or choose a loss "
                "without memory, as in --loss bce"
            )
        if self.schedule.warmup_epochs >= self.run.epochs:
            raise ConfigError(
                f"schedule.warmup_epochs={self.schedule.warmup_epochs:g}: the warm-up must end before the run does, "
                f"which has run.epochs={self.run.epochs}; lower it or train for more epochs"
            )

    @property
    def has_teacher(self) -> bool:
        """Tell whether an EMA teacher follows the student; `auto` means: where the loss remembers its logits."""
        return self.ema.enabled == "on" or (self.ema.enabled == "auto" and METHODS[self.loss.name].reads_teacher)
