"""The nouns: what travels between the verbs `compress`, `train`, `evaluate` and `report`.

    Data ──▶ Source ──▶ Picture ──Codec──▶ Coded            one picture's way to bytes
    Cell(task, model, Weights, Data, Point, target) ──▶ Row  one number's way to a curve

Only numpy and the standard library are imported here, so that plans, stores and reports run on any machine.
The written form of every noun ('jpeg@10', 'scenes(size=128):test[:100]') is in `specs.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

Clip = np.ndarray  # uint8[t h w 3], sRGB; a still picture has t == 1
Batch = Mapping[str, np.ndarray]  # 'image' uint8[b h w 3], 'id' str[b], 'mask' bool[b], 'place', and the task's targets
Arrays = Mapping[str, Any]  # named arrays with a common leading axis b: outputs, predictions, targets
Options = tuple[tuple[str, Any], ...]  # keyword options in canonical (sorted) order
IGNORED = 255  # in a segmentation: a pixel that does not count
OBJECT, CROWD, DIFFICULT = 0, 1, 2  # kinds of boxes
STARTED = "started"  # source of weights that training starts from: random, but for what a file of another network holds


class RobustCompressError(Exception):
  """Base of every error that a user can cause and mend. The message names the thing, what was expected, the remedy."""


class SpecError(RobustCompressError, ValueError):
  """A name or an option that does not exist or does not parse."""


class LevelError(SpecError):
  """A codec level outside its range."""


class CodecError(RobustCompressError):
  """Bytes that cannot be decoded, or a picture that cannot be encoded."""


class DataError(RobustCompressError):
  """A data set that is missing, damaged, or not shaped as it claims."""


class WeightsError(RobustCompressError):
  """Weights that do not fit their model, or a file that is not plain tensors."""


class TrainError(RobustCompressError):
  """Training that cannot go on, such as a loss that is not finite."""


class StoreError(RobustCompressError):
  """A workdir that is in use, full, or holds a result that contradicts a new one."""


# ---------------------------------------------------------------------------------------------- codecs


class Coded(NamedTuple):
  """One clip in coded form."""

  blob: bytes  # all that a decoder needs; len(blob) is what the rate counts
  pixels: Clip | None = None  # the encoder's own reconstruction, where it comes free


class Codec(Protocol):
  """A lossy codec. Instances hold options only, so one object may serve many threads at once."""

  name: str
  levels: tuple[float, ...]  # the usual ladder, ordered from low rate to high
  batched: bool  # True where coding clips of one shape together is faster

  def fingerprint(self) -> str:
    """What makes its bytes and pixels: library versions, options, weights."""
    ...

  def encode(self, clips: Sequence[Clip], levels: Sequence[float]) -> list[Coded]:
    """Codes each clip at its own level. Raises LevelError or CodecError."""
    ...

  def decode(self, blobs: Sequence[bytes]) -> list[Clip]:
    """Decodes each blob. Raises CodecError for bytes that are not this codec's."""
    ...


@dataclass(frozen=True, order=True)
class Point:
  """A codec at a level, or at a rate to be met: 'none', 'jpeg@10', 'webp(method=6)@30', 'bpg@0.1bpp'."""

  codec: str
  options: Options = ()
  level: float | None = None
  bpp: float | None = None  # target rate; exactly one of level and bpp is set, neither for 'none'

  def __str__(self) -> str:
    from robust_compress import specs

    return specs.format_point(self)

  @property
  def per_image(self) -> bool:
    """Whether each picture meets the target rate by a level of its own: an option of the point that no codec knows."""
    return dict(self.options).get("per_image") is True


NONE = Point("none")


# ------------------------------------------------------------------------------------------------ data


@dataclass(frozen=True)
class View:
  """What the codec sees of a source picture, and how the model is fed from it.

  Of a clip, `length` frames are taken from the middle, every `stride`-th one (`data/video_ops.py`). `resize` brings the
  shorter side to that many pixels (an (h, w) pair: exactly that size), then `crop` cuts the centre. The codec sees all
  of that. Of what it leaves, `frames` names those that feed the model: 'all', one by its number, or 'pairs' of
  successive ones. `input='model'` goes on with the model's own InputSpec geometry; `'asis'` feeds the view as it is.
  """

  resize: int | tuple[int, int] | None = None
  crop: int | tuple[int, int] | None = None
  interpolation: str = "bicubic"
  input: str = "model"
  length: int | None = None  # None: all frames that there are, at the stride
  stride: int = 1
  frames: str | int = "all"

  @property
  def is_identity(self) -> bool:
    return self.resize is None and self.crop is None and not self.samples_frames

  @property
  def samples_frames(self) -> bool:
    """Whether the codec sees other frames than the source has."""
    return self.length is not None or self.stride != 1

  @property
  def seen(self) -> View:
    """What the codec sees: the view without how a model is then fed. Coded pictures depend on no more."""
    return dataclasses.replace(self, input="model", frames="all")


@dataclass(frozen=True)
class Data:
  """A part of a data set under a view: 'csv(path=imagenet_samples,resize=256,crop=224,input=asis):all[:100]'."""

  name: str
  options: Options = ()  # of the source; the view's own keys are in `view`
  view: View = View()
  split: str = "all"
  start: int | None = None
  stop: int | None = None

  def __str__(self) -> str:
    from robust_compress import specs

    return specs.format_data(self)


class Picture(NamedTuple):
  """Pixels with what they cost."""

  clip: Clip
  n_bytes: int | None  # of the source file or the coded blob; None where there is no file of this view

  @property
  def n_pixels(self) -> int:
    return int(np.prod(self.clip.shape[:3]))


class Source(Protocol):
  """Random access to examples. `picture` is thread-safe and may be slow; `id` and `target` are cheap.

  Sources stack: a folder, the same under a view, the same coded at a point, all have this interface; what lies beneath
  another is its `source`. Optional: `labelled_frame`, which frame of a clip labels with a place in it are of, and of
  how many frames (`inputs.check_labelled`).
  """

  classes: tuple[str, ...]  # class names in label order (wnids for ImageNet); () where labels are not classes

  def __len__(self) -> int: ...
  def id(self, index: int) -> str: ...
  def target(self, index: int) -> dict[str, np.ndarray]:
    """Labels of one example without a batch axis, in the picture's own pixels.

    Classification: {'label': int32[]}. Labels that have a place move with the pixels (`geometry_ops.py`), and come with
    'size' int32[2], the picture's (h, w):
      'boxes' float32[k 4]: x0, y0, x1, y1, continuous, the picture being 0…w by 0…h. k is that of the whole source;
        what a picture has not is zeros, and its 'box_labels' are -1. 'box_labels' int32[k]; 'box_areas' float32[k], by
        which sizes are told apart; 'box_kinds' uint8[k]: OBJECT, CROWD of them, or DIFFICULT, not to be scored.
      'segmentation' uint8[h w]: a class a pixel, IGNORED where there is none that counts.
    """
    ...

  def picture(self, index: int) -> Picture:
    """Raises DataError, naming the file, when it is unreadable, truncated or too large."""
    ...

  def fingerprint(self) -> str:
    """Hash of what the examples are: ids, targets and contents."""
    ...


def stack(source: Any) -> Iterator[Any]:
  """A source and all that lies beneath it."""
  while source is not None:
    yield source
    source = getattr(source, "source", None)


class ClipSource(Source, Protocol):
  """A source that reads a clip in part. Of any other source, a view's frames are cut from the whole `picture`."""

  def frames(self, index: int, choose: Callable[[int | None], Sequence[int]]) -> Clip:
    """uint8[t h w 3] of the frames that `choose` wants, in rising order, when it is told how many there are.

    None stands for a clip without an end, such as a rendered one. No more is decoded than those frames need. Raises
    DataError as `picture` does, and what `choose` raises.
    """
    ...


# --------------------------------------------------------------------------------------------- weights


@dataclass(frozen=True)
class Weights:
  """What the numbers in a network are. Canonical form and hash: `specs.weights_key`."""

  source: str = ""  # 'timm:swin_tiny…', 'file:<sha256>', 'random'; '' when trained here from `init`
  init: Weights | None = None
  data: str = ""  # 'folders(path=imagenette224,input=asis):train'
  points: tuple[Point, ...] = ()  # trained on; several: one drawn per example
  recipe: str = ""  # Recipe.canonical()
  seed: int = 0


@dataclass(frozen=True)
class Recipe:
  """How weights are trained. Its content is part of the weights' identity; where it runs and logs is not.

  Lengths inside the recipe (`warmup`, `milestones`) are fractions of the whole, so a recipe scales by `epochs` or
  `steps` alone. Defaults never change: `canonical` leaves them out.
  """

  epochs: float | None = None  # exactly one of epochs and steps
  steps: int | None = None
  batch_size: int = 32
  optimizer: str = "sgd"  # 'sgd' | 'adamw'
  learning_rate: float = 0.01  # peak, for the whole batch
  schedule: str = "cosine"  # 'cosine' | 'poly' | 'step' | 'constant'
  warmup: float = 0.0  # linear, fraction of all steps
  milestones: tuple[float, ...] = (1 / 3, 2 / 3)  # schedule='step': fractions at which the rate is multiplied
  decay: float = 0.1  # by this
  final_factor: float = 0.0  # schedule='cosine' and 'poly': ends at this times the peak
  power: float = 1.0  # schedule='poly': falls as what is left of training, to this power
  momentum: float = 0.9
  nesterov: bool = False
  weight_decay: float = 0.0  # sgd: added to the gradient; adamw: decoupled
  decay_bias_and_norm: bool = False  # one-dimensional parameters decay too
  clip_norm: float | None = None  # of the global gradient, without parameters that have an optimiser of their own
  label_smoothing: float = 0.0
  mixup: float = 0.0  # Beta(a, a); 0 is off
  cutmix: float = 0.0
  crop_scale: tuple[float, float] | None = (0.08, 1.0)  # random resized crop, area fractions; None: evaluation geometry
  crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
  crop_zoom: tuple[float, float] | None = None  # in place of crop_scale: windows of so many source pixels a pixel
  flip: bool = True
  jitter: tuple[float, float] | None = None  # in place of crop_scale: the evaluation's scale times so much, then a crop
  crop_size: int | None = None  # side of the square that crops are brought to; None: the evaluation's own size
  colour: float = 0.0  # strength of changes of brightness, contrast, saturation and hue; 1 is SSD's
  dropout: float = 0.0  # stochastic depth or dropout rate, where the model has one
  ema: float = 0.0  # decay of the exponential moving average of parameters; 0 is off
  evaluate: str = "raw"  # 'raw' | 'ema': which parameters become the weights
  dtype: str = "float32"  # compute; parameters stay float32. 'bfloat16'
  gradient_accumulation: int = 1  # microbatches a step
  batch_norm: str = "sync"  # 'sync' | 'local' | 'frozen'

  def canonical(self) -> str:
    from robust_compress import specs

    return specs.format_recipe(self)


# --------------------------------------------------------------------------------------- cells and rows


@dataclass(frozen=True)
class Cell:
  """One number to be measured. Canonical form and hash: `specs.cell_key`."""

  task: str
  model: str
  weights: Weights
  data: str  # format_data(Data)
  test: Point
  target: str = "labels"  # or 'self', 'self(score=0.5)': the same weights' output on the uncoded view


@dataclass(frozen=True)
class Row:
  """A cell with its numbers. Metrics are fractions; rates are bits per pixel of what the codec saw."""

  cell: Cell
  n: int
  metrics: dict[str, float]
  intervals: dict[str, tuple[float, float]]  # 95 %, paired bootstrap over pictures
  n_bytes: int | None
  n_pixels: int
  bpp: float | None  # 8 · Σ bytes / Σ pixels
  bpp_mean: float | None  # mean of per-picture bpp
  fingerprint: dict[str, str]  # what can change a number; compared
  provenance: dict[str, Any] = dataclasses.field(default_factory=dict)  # what cannot; recorded
  wall_s: float = 0.0
  n_skipped: int = 0  # unreadable pictures left out under policy 'skip'


# ------------------------------------------------------------------------------------ models and tasks


@dataclass(frozen=True)
class InputSpec:
  """How a model is fed: evaluation geometry (Pillow) and normalisation (inside the compiled step).

  Under fit='crop' the centre of the resized picture is cut to `size`. Under fit='pad' nothing is cut: the picture is
  resized so that no side exceeds `longest`, and padded below and to the right: to multiples of `multiple` where the
  view makes all pictures alike, else to one of a few canvases (`geometry_ops.canvases`), so that few are compiled.
  """

  size: tuple[int, int]  # h, w
  resize: int | tuple[int, int] | None  # shorter side, or exact (h, w), before the centre crop or the padding to `size`
  interpolation: str = "bicubic"  # Pillow's name: 'nearest' | 'bilinear' | 'bicubic' | 'lanczos'
  mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
  std: tuple[float, float, float] = (0.229, 0.224, 0.225)
  fit: str = "crop"  # 'crop' | 'pad'
  longest: int | None = None
  multiple: int = 1
  clips: bool = False  # fed uint8[t h w 3], or pairs uint8[t-1 2 h w 3]; other models are fed uint8[h w 3]


class Published(NamedTuple):
  """A score that somebody else measured."""

  metric: str
  score: float  # a fraction
  source: str  # where it stands


@dataclass(frozen=True)
class ModelSpec:
  """An architecture with a tag, bound to how it is fed and where its base weights come from.

  `build(**options)` returns the network; every builder takes `dtype`, `batch_norm` and `dropout`, used or not.
  """

  name: str
  task: str
  build: Callable[..., Any]  # -> flax.linen.Module: __call__(float[b h w 3], train: bool) -> outputs
  input: InputSpec
  base: Weights
  rules: tuple[Any, ...] = ()  # convert.Rule table between foreign keys and this network's variables
  # Name of the class list its outputs follow (data/labels.py), or 'source': those of the data. 'source:LIST': those of
  # the data with a head like that of LIST, so from 1 on where LIST has no class at 0.
  classes: str = ""
  n_params: int = 0
  published: Published | None = None
  options: Options = ()  # given to `build`
  own_loss: Callable[[Any, Arrays], dict[str, tuple[Any, Any]]] | None = None  # default: the task's
  call: Callable[[np.ndarray], Any] | None = None  # in place of a network: uint8[b h w 3] -> outputs or predictions
  own_rates: tuple[
    tuple[str, float], ...
  ] = ()  # (pattern of paths, learning rate): what Adam trains apart from the rest
  reading: tuple[Any, ...] = ()  # rules for reading foreign files, where they are more than `rules`

  def bound(self, **options: Any) -> ModelSpec:
    """The same model with build options set: bound(dtype='bfloat16', batch_norm='frozen')."""
    return dataclasses.replace(self, options=tuple(sorted({**dict(self.options), **options}.items())))

  def module(self) -> Any:
    return self.build(**dict(self.options))

  def normalise(self, image: Any) -> Any:
    """uint8[b h w 3] to float32[b h w 3] as the weights expect it. Runs inside the compiled step."""
    mean, std = (np.asarray(x, np.float32) for x in (self.input.mean, self.input.std))
    return (image.astype("float32") / np.float32(255) - mean) / std

  def init(self, rng: Any) -> Any:
    """Random variables."""
    return self.module().init(rng, np.zeros((1, *self.input.size, 3), np.float32), train=False)

  def apply(self, variables: Any, batch: Arrays, *, train: bool = False, rngs: Any = None) -> tuple[Any, Any]:
    """(outputs, updated collections) for batch['image'] uint8[b h w 3]. Collections are {} unless training."""
    module, image = self.module(), self.normalise(batch["image"])
    if not train:
      return module.apply(variables, image, train=False), {}
    mutable = [name for name in variables if name != "params"]
    return module.apply(variables, image, train=True, mutable=mutable, rngs=rngs)


class Task(Protocol):
  """What is asked of a model, how it is trained for it, and how its answers are scored.

  `loss`, `predict` and `augment` run on the device with static shapes; the rest runs on the host in numpy.

  Four more are optional: `monitor`, with the arguments and result of `loss`, whose terms are shown in training and
  not minimised; `right`, the name of a record that says of a picture whether it was understood; `packed`, from
  predictions to smaller ones that `as_targets` takes as well, for those that are kept over a whole data set; and
  `per_class`, from records to {label: {metric: value}}, the most telling metric first, which the report shows.
  """

  name: str
  version: str  # of the metric's definition; part of a row's fingerprint
  primary_metric: str
  higher_is_better: bool

  def loss(self, outputs: Any, batch: Arrays) -> dict[str, tuple[Any, Any]]:
    """{name: (sum over the unmasked examples, their weight)}; the train loop sums both over devices."""
    ...

  def augment(self, batch: Arrays, rng: Any, recipe: Recipe) -> Arrays:
    """Augmentation that mixes examples (mixup, cutmix) and label smoothing, inside the compiled step."""
    ...

  def predict(self, outputs: Any, batch: Arrays) -> Arrays:
    """Small arrays that travel to the host and are kept for target='self'."""
    ...

  def as_targets(self, predictions: Arrays, **options: Any) -> dict[str, np.ndarray]:
    """Predictions on the original as the truth for predictions on the coded picture."""
    ...

  def statistics(self, predictions: Arrays, targets: Arrays) -> list[dict[str, np.ndarray]]:
    """One record an example, sufficient to recompute every metric."""
    ...

  def compute(self, records: Mapping[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
    """Metrics as fractions, from stacked records (`statistics.stack`) and example weights float[n] (bootstrap)."""
    ...


Batches = Callable[[int], Iterator[Batch]]  # start_step -> batches from that step on
