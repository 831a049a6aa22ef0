"""Labels follow the pixels: a box that is drawn as a segmentation lands where the box lands, whatever is done."""

import numpy as np
import pytest
from fakes import MemorySource, photo
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_compress.data import colour_ops, geometry_ops, image_ops, pipeline
from robust_compress.data.geometry_ops import IGNORED, Geometry, Window, whole
from robust_compress.data.sources import ViewedSource
from robust_compress.types import DataError, InputSpec, Recipe, SpecError, View

DETR = InputSpec((1344, 1344), 800, "bilinear", fit="pad", longest=1333, multiple=32)
ADE = InputSpec((512, 2048), 512, "bilinear", fit="pad", longest=2048, multiple=32)
SMALL = InputSpec((64, 64), 32, "bilinear", fit="pad", longest=64, multiple=16)


def target(boxes, size, k=4):
  """Labels of some boxes, and the same drawn as a segmentation: class i + 1 in box i."""
  boxes = np.array(boxes, np.float32).reshape(-1, 4)
  classes = np.zeros(size, np.uint8)
  for i, (x0, y0, x1, y1) in enumerate(boxes.astype(int)):
    classes[y0:y1, x0:x1] = i + 1
  padded = np.zeros((k, 4), np.float32)
  padded[: len(boxes)] = boxes
  labels = np.full(k, -1, np.int32)
  labels[: len(boxes)] = np.arange(len(boxes))
  areas = (padded[:, 2] - padded[:, 0]) * (padded[:, 3] - padded[:, 1])
  kinds = np.zeros(k, np.uint8)
  return {
    "boxes": padded, "box_labels": labels, "box_areas": areas, "box_kinds": kinds, "segmentation": classes,
    "size": np.array(size, np.int32),
  }  # fmt: skip


def geometries():
  """Of a picture of 60×80."""
  rng = np.random.default_rng(5)
  return {
    "view": geometry_ops.viewed((60, 80), View(resize=45, crop=40)),
    "padded crop": geometry_ops.viewed((60, 80), View(crop=(90, 50))),
    "input": geometry_ops.to_input((60, 80), SMALL, View()),
    "crop": geometry_ops.random_resized_crop((60, 80), rng, (50, 40), (0.5, 0.9), (0.8, 1.2)),
    "zoom": geometry_ops.random_zoomed_crop((60, 80), rng, (40, 40), (1.0, 1.4)),
    "jitter": geometry_ops.random_jitter(geometry_ops.to_input((60, 80), SMALL, View()), rng, (64, 64), (1.2, 2.0)),
  }


@pytest.mark.parametrize("name", geometries())
@pytest.mark.parametrize("mirrored", [False, True])
def test_boxes_land_where_their_pixels_land(name, mirrored):
  geometry = geometries()[name]._replace(mirrored=mirrored)
  moved = geometry_ops.moved(target([(12, 9, 52, 49)], (60, 80)), geometry)
  assert moved["segmentation"].shape == geometry.crop.size == tuple(moved["size"])
  rows, columns = np.nonzero(moved["segmentation"] == 1)
  drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
  np.testing.assert_allclose(moved["boxes"][0], drawn, atol=1.0)
  assert (moved["box_labels"] == [0, -1, -1, -1]).all()
  assert moved["box_areas"][0] == pytest.approx((moved["segmentation"] == 1).sum(), rel=0.1)


@pytest.mark.parametrize("name", geometries())
def test_pixels_and_classes_move_alike(name):
  """A picture whose grey is its class, by the nearest pixel, is the segmentation."""
  geometry = geometries()[name]
  made = target([(12, 9, 52, 49), (60, 5, 75, 55)], (60, 80))
  clip = np.repeat(made["segmentation"][None, :, :, None], 3, -1)
  pixels = image_ops.apply(clip, geometry, "nearest")[0, ..., 0]
  moved = geometry_ops.moved(made, geometry)["segmentation"]
  inside = moved != IGNORED
  np.testing.assert_array_equal(pixels[inside], moved[inside])
  assert (pixels[~inside] == 0).all()


@pytest.mark.parametrize("name", geometries())
def test_place_leads_back(name):
  geometry = geometries()[name]
  given_boxes = np.array([(22, 19, 42, 39)], np.float32)
  moved = geometry_ops.moved(target(given_boxes, (60, 80)), geometry)["boxes"][0]
  y0, x0, sy, sx, height, width = geometry_ops.place(geometry)
  seen = np.clip(given_boxes[0], [x0, y0, x0, y0], [x0 + width * sx, y0 + height * sy] * 2)
  np.testing.assert_allclose(moved * [sx, sy, sx, sy] + [x0, y0, x0, y0], seen, atol=1e-4)
  assert (height, width) == geometry.crop.size


def test_what_a_crop_leaves_little_of_is_gone():
  geometry = Geometry(Window(0, 0, 60, 40), (60, 40), whole((60, 40)))
  made = target([(0, 0, 20, 20), (35, 0, 75, 20), (50, 0, 60, 10)], (60, 80))  # whole, an eighth, nothing of it is left
  assert (geometry_ops.moved(made, geometry)["box_labels"] == [0, 1, -1, -1]).all()
  kept = geometry_ops.moved(made, geometry, geometry_ops.KEPT)
  assert (kept["box_labels"] == [0, -1, -1, -1]).all()
  assert (kept["boxes"][1:] == 0).all()


def test_labels_without_a_place_stay():
  made = {"label": np.int32(3)}
  assert geometry_ops.moved(made, geometries()["crop"]) == made


@pytest.mark.parametrize(
  ("size", "expected"), [((480, 640), (800, 1066)), ((640, 427), (1199, 800)), ((400, 1000), (533, 1333))]
)
def test_sizes_of_padded_pictures_are_the_detectors(size, expected):
  """The shorter side 800, but the longer at most 1333; as torchvision 0.28 resizes (its documented rule, truncated)."""
  assert geometry_ops.fitted(size, DETR) == expected


@settings(max_examples=60)
@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([DETR, ADE]))
def test_some_canvas_holds_every_picture(height, width, spec):
  canvases = geometry_ops.canvases(spec)
  assert len(canvases) <= 6
  held = geometry_ops.smallest(canvases, geometry_ops.fitted((height, width), spec), "a")
  assert held[0] % 32 == held[1] % 32 == 0


def test_a_picture_beyond_the_largest_canvas_is_named():
  with pytest.raises(DataError, match=r"b\.png: 90x70 pixels.*64x64.*resize=64x64"):
    geometry_ops.smallest([(64, 64)], (70, 90), "b.png")


# ---------------------------------------------------------------------------------------------- batches


class Boxed(MemorySource):
  """Pictures of unlike sizes with boxes and segmentations."""

  SIZES = ((40, 60), (60, 40), (30, 30), (48, 80), (40, 60))

  def __init__(self):
    super().__init__([photo(*size, seed) for seed, size in enumerate(self.SIZES)])

  def target(self, index):
    return target([(3 + index, 4, 20, 25)], self.SIZES[index])


@pytest.mark.parametrize("backend", ["threads", "tf.data"])
def test_evaluation_keeps_labels_in_the_view_and_says_where_inputs_lie(backend):
  source, seen = ViewedSource(Boxed(), View()), []
  for batch in pipeline.eval_batches(source, SMALL, View(), 2, backend=backend):
    assert len(batch["image"]) == 2
    for row in np.flatnonzero(batch["mask"]):
      image, place, id = batch["image"][row], batch["place"][row], str(batch["id"][row])
      index = source.source.ids.index(id)
      seen.append(id)
      height, width = place[4:].astype(int)
      assert (height, width) == geometry_ops.fitted(Boxed.SIZES[index], SMALL)
      assert image.shape[:2] == geometry_ops.smallest(geometry_ops.canvases(SMALL), (height, width), id)
      assert not image[height:].any()
      assert not image[:, width:].any()
      assert image[:height, :width].any((0, 1)).all()
      h, w = Boxed.SIZES[index]
      np.testing.assert_allclose(place[:4], [0, 0, h / height, w / width], rtol=1e-6)
      np.testing.assert_array_equal(batch["boxes"][row, 0], [3 + index, 4, 20, 25])
      np.testing.assert_array_equal(batch["segmentation"][row, :h, :w], source.target(index)["segmentation"])
      assert (batch["segmentation"][row, h:] == IGNORED).all()
  assert sorted(seen) == source.source.ids


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_input_of_a_picture_hangs_on_no_other(batch_size):
  alone = {str(b["id"][0]): b["image"][0] for b in pipeline.eval_batches(Boxed(), SMALL, View(), 1)}
  for batch in pipeline.eval_batches(Boxed(), SMALL, View(), batch_size):
    for row in np.flatnonzero(batch["mask"]):
      np.testing.assert_array_equal(batch["image"][row], alone[str(batch["id"][row])])


def test_both_backends_give_the_same_padded_batches():
  threads, by_tf = (list(pipeline.eval_batches(Boxed(), SMALL, View(), 2, backend=b)) for b in ("threads", "tf.data"))
  for one, other in zip(threads, by_tf, strict=True):
    for name in one:
      np.testing.assert_array_equal(one[name], other[name])


def test_a_view_of_one_size_needs_no_more_than_its_canvas():
  view = View(resize=(30, 50))
  [batch] = pipeline.eval_batches(ViewedSource(Boxed(), view), SMALL, view, 5)
  assert batch["image"].shape == (5, 32, 64, 3)  # 32×53, padded to sixteens
  np.testing.assert_allclose(batch["boxes"][0, 0], [3 * 50 / 60, 4 * 30 / 40, 20 * 50 / 60, 25 * 30 / 40], rtol=1e-6)
  assert batch["segmentation"].shape == (5, 30, 50)


def test_asis_refuses_a_picture_that_the_canvas_of_the_first_would_hold():
  """Else no more than the first's size of its segmentation would be scored."""
  alike, unlike = Boxed(), Boxed()
  alike.SIZES, unlike.SIZES = ((40, 60),) * 5, ((40, 60), (44, 62))
  for source in (alike, unlike):
    source.clips = [photo(*size) for size in source.SIZES]
  [batch] = pipeline.eval_batches(alike, SMALL, View(input="asis"), 5)
  assert (batch["image"].shape, batch["segmentation"].shape) == ((5, 48, 64, 3), (5, 40, 60))
  with pytest.raises(DataError, match=r"0001\.png: the picture is 62x44 and picture/0000\.png is 60x40; input=asis"):
    list(pipeline.eval_batches(unlike, SMALL, View(input="asis"), 2))


@pytest.mark.parametrize("recipe", [
  Recipe(steps=1, batch_size=5, crop_scale=None), Recipe(steps=1, batch_size=5, jitter=(0.6, 2.0), colour=1.0),
  Recipe(steps=1, batch_size=5, crop_scale=(0.5, 1.0)),
])  # fmt: skip
def test_training_moves_labels_with_the_pixels(recipe):
  """In every epoch the box and its segmentation still agree, on one canvas."""
  batches = pipeline.train_batches([Boxed()], SMALL, View(), recipe, 7)()
  for _ in range(6):
    batch = next(batches)
    assert batch["image"].shape == (5, 64, 64, 3)
    assert batch["segmentation"].shape == (5, 64, 64)
    for row in range(5):
      height = int(batch["place"][row, 4])
      assert (batch["segmentation"][row, height:] == IGNORED).all()
      if batch["box_labels"][row, 0] < 0:
        continue
      rows, columns = np.nonzero(batch["segmentation"][row] == 1)
      drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
      np.testing.assert_allclose(batch["boxes"][row, 0], drawn, atol=2.0)
  batches.close()


@pytest.mark.parametrize("crops", [{"jitter": (0.5, 2.0)}, {"crop_scale": (0.5, 1.0)}])
def test_crops_have_the_size_that_the_recipe_says(crops):
  recipe = Recipe(steps=1, batch_size=5, crop_size=40, **crops)
  batches = pipeline.train_batches([Boxed()], SMALL, View(), recipe, 7)()
  batch = next(batches)
  batches.close()
  assert (batch["image"].shape, batch["segmentation"].shape) == ((5, 40, 40, 3), (5, 40, 40))
  for row in range(5):
    height, width = batch["place"][row, 4:].astype(int)
    beyond = np.ones((40, 40), bool)
    beyond[:height, :width] = False
    assert (batch["segmentation"][row][beyond] == IGNORED).all()
    assert not batch["image"][row][beyond].any()
  with pytest.raises(SpecError, match="trains on whole pictures"):
    pipeline.train_batches([Boxed()], SMALL, View(), Recipe(steps=1, crop_size=40, crop_scale=None), 7)


def test_crops_of_a_stated_size_are_cut_of_pictures_of_any():
  recipe = Recipe(steps=1, batch_size=5, jitter=(0.8, 1.2), crop_size=24)
  batches = pipeline.train_batches([Boxed()], SMALL, View(input="asis"), recipe, 7)()
  assert next(batches)["image"].shape == (5, 24, 24, 3)
  batches.close()


def test_colours_change_within_bounds_and_by_the_seed_alone():
  image = photo(20, 30)[0]
  made = [colour_ops.distorted(image, np.random.default_rng(seed), 1.0) for seed in range(20)]
  again = colour_ops.distorted(image, np.random.default_rng(3), 1.0)
  np.testing.assert_array_equal(made[3], again)
  assert len({one.tobytes() for one in made}) > 10
  assert all(one.dtype == np.uint8 and one.shape == image.shape for one in made)
  weak = [colour_ops.distorted(image, np.random.default_rng(seed), 0.05) for seed in range(20)]
  assert np.mean([np.abs(one.astype(int) - image).mean() for one in weak]) < 4
