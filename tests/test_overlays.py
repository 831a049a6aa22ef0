"""Boxes and masks over pictures: where colours must be, and where the picture must stay as it is."""

import itertools

import numpy as np
import pytest

from robust_compress.report import overlays

GREY = np.full((256, 300, 3), 128, np.uint8)
NAMES = ("background", "disc", "star", "a name that is far longer than the picture is wide, as some are")


def boxed(boxes, labels, **others):
  objects = {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "labels": np.array(labels, np.int32)}
  return overlays.drawn(
    GREY, objects | {name: np.array(value) for name, value in others.items()}, NAMES.__getitem__, 0.5
  )


def n_of(pixels, ink):
  return int((pixels == ink).all(-1).sum())


def test_a_frame_is_where_the_box_is_in_the_colour_of_its_class():
  pixels = boxed([(100, 80, 200, 180)], [1])
  for y, x in ((80, 190), (180, 150), (130, 100), (130, 200)):
    assert tuple(pixels[y, x]) == overlays.colour(1)
  untouched = np.ones(GREY.shape[:2], bool)
  untouched[60:182, 99:202] = False
  np.testing.assert_array_equal(pixels[untouched], GREY[untouched])
  np.testing.assert_array_equal(pixels[100:178, 104:198], GREY[100:178, 104:198])


def test_only_boxes_of_a_score_and_a_class_are_drawn():
  np.testing.assert_array_equal(boxed([(9, 9, 90, 90)], [1], scores=[0.4]), GREY)
  np.testing.assert_array_equal(boxed([(9, 9, 90, 90)], [-1], scores=[0.9]), GREY)
  assert n_of(boxed([(9, 9, 90, 90)], [1], scores=[0.5]), overlays.colour(1))
  np.testing.assert_array_equal(boxed([], []), GREY)


def test_what_is_not_scored_is_grey():
  pixels = boxed([(20, 40, 120, 200)], [1], kinds=np.array([1], np.uint8))
  assert not n_of(pixels, overlays.colour(1))
  assert (pixels != GREY).any()


def test_the_surest_lies_on_top_and_every_name_has_its_place():
  same = [(40, 60, 200, 200)] * 2
  pixels = boxed(same, [1, 2], scores=[0.6, 0.9])
  assert tuple(pixels[200, 120]) == overlays.colour(2)
  assert n_of(pixels, overlays.colour(1)) > 100  # of the plate under the other's name, its frame being covered


@pytest.mark.parametrize("box", [(-50, -50, 900, 900), (299, 255, 300, 256), (0, 0, 0, 0), (290, 0, 300, 4)])
@pytest.mark.parametrize("label", [1, 3])
def test_boxes_at_and_beyond_the_edge(box, label):
  assert boxed([box], [label]).shape == GREY.shape


@pytest.mark.parametrize(
  ("shape", "to"),
  [((160, 160), (320, 320)), ((256, 100), (256, 100)), ((1024, 2048), (256, 512)), ((1, 1), (256, 256))],
)
def test_sizes(shape, to):
  picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
  image = np.asarray(overlays.scaled(picture))
  assert image.shape == (*to, 3)
  if shape == (160, 160):
    np.testing.assert_array_equal(image[::2, ::2], picture)  # pixel for pixel


def test_boxes_are_scaled_with_the_picture():
  objects = {"boxes": np.array([[10, 20, 60, 50]], np.float32), "labels": np.array([1])}
  pixels = overlays.drawn(np.zeros((64, 64, 3), np.uint8), objects, NAMES.__getitem__, 0.5)
  assert pixels.shape == (256, 256, 3)
  assert tuple(pixels[120, 40]) == tuple(pixels[199, 100]) == overlays.colour(1)


def test_masks_tint_what_counts_and_has_a_colour():
  classes = np.full((256, 300), 255, np.uint8)
  classes[:, 100:200], classes[:, 200:] = 0, 2
  pixels = overlays.drawn(GREY, {"segmentation": classes}, NAMES.__getitem__, 0.5)
  np.testing.assert_array_equal(pixels[:, :100], GREY[:, :100])  # does not count
  np.testing.assert_array_equal(pixels[:, 101:200], GREY[:, 101:200])  # background
  between = np.sign(np.array(overlays.colour(2)) - 128.0)
  np.testing.assert_array_equal(np.sign(pixels[9, 250].astype(float) - 128), between)
  assert (pixels[:, [100, 200]] < 100).all()  # borders
  assert overlays.classes_in({"segmentation": classes}) == {0: 25600, 2: 25600}


def test_a_mask_of_another_size_covers_the_same_part():
  classes = np.array([[255, 1], [255, 1]], np.uint8)
  pixels = overlays.drawn(GREY, {"segmentation": classes}, NAMES.__getitem__, 0.5)
  np.testing.assert_array_equal(pixels[:, :150], GREY[:, :150])
  assert (pixels[:, 152:] != GREY[:, 152:]).any(-1).all()


def test_classes_are_told_apart():
  inks = np.array([overlays.colour(label) for label in range(21)], float)
  assert min(np.abs(a - b).sum() for a, b in itertools.combinations(inks, 2)) > 30
  assert overlays.colour(149) != overlays.colour(148)
