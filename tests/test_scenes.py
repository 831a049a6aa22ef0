"""The embedded data set: the same bits everywhere, natural statistics, fine evidence, and truth that is true."""

import concurrent.futures
import dataclasses
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from robust_compress import types
from robust_compress.data import scenes
from robust_compress.data.scenes import draws, scene, shapes, textures
from robust_compress.data.scenes.camera import Camera, Motion
from robust_compress.data.scenes.layers import Pose

PROBE = "66af8dd559f371b9"  # of VERSION 1; a new hash needs a new VERSION


@pytest.fixture(scope="module")
def pictures():
  source = scenes.Scenes("test", n=40)
  return [source.picture(i).clip[0] for i in range(len(source))]


@pytest.fixture(scope="module")
def crowd():
  """Scenes with several objects, at moments of their motion."""
  return [scenes.render(scenes.draw_scene((7, 0, i), n_objects=4, n_clutter=3), 160, 3.0 * i) for i in range(6)]


def coded(image, quality):
  file = io.BytesIO()
  Image.fromarray(image).save(file, "JPEG", quality=quality)
  return np.asarray(Image.open(file)), 8 * len(file.getvalue()) / image[..., 0].size


def grey(image):
  return image.astype(np.float64) @ [0.299, 0.587, 0.114]


# ----------------------------------------------------------------------------------------------- source


def test_pictures_are_rendered_once_as_far_as_memory_goes(monkeypatch):
  rendered = []

  def render(scene, size, time):
    rendered.append(scene)
    return scenes.renderer.render(scene, size, time)

  monkeypatch.setattr(scenes, "render", render)
  monkeypatch.setattr(scenes, "_KEPT_BYTES", 2 * 16 * 16 * 3)
  source = scenes.Scenes("val", size=16, n=3)
  first = [source.picture(i).clip for i in range(3)]
  kept = [clip.copy() for clip in first]
  for clip in first:
    clip[:] = 0  # the caller's own
  for _ in range(2):
    np.testing.assert_array_equal([source.picture(i).clip for i in range(3)], kept)
  assert len(rendered) == 3 + 2  # the third picture has no room


def test_a_picture_is_the_same_bits_in_any_thread_order_and_forever():
  source = scenes.Scenes("train", size=64)
  alone = [source.picture(i).clip for i in range(12)]
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    together = list(pool.map(lambda i: scenes.Scenes("train", size=64).picture(i).clip, range(12)))
  np.testing.assert_array_equal(alone, together)
  assert scenes.probe() == PROBE


def philox(counter, key):
  """Philox 4x64 with ten rounds, by its definition (Salmon et al., SC 2011): four words of 64 bits."""
  x, k, mask = list(counter), list(key), 2**64 - 1
  for _ in range(10):
    a, b = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
    x = [(b >> 64) ^ x[1] ^ k[0], b & mask, (a >> 64) ^ x[3] ^ k[1], a & mask]
    k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
  return x


def test_draws_are_those_that_philox_defines():
  stream = draws.Draws((5, 2, 77), stream=9)
  words = [stream.integer(2**64) for _ in range(4)]
  assert words == philox([1, 0, 9, 0], [5, (2 << 48) | 77])


def test_source_interface_and_balance():
  source = scenes.Scenes("val", size=32, seed=3, n=40)
  assert (len(source), source.id(7), len(source.classes)) == (40, "val-000007", 10)
  picture = source.picture(7)
  assert picture.clip.shape == (1, 32, 32, 3)
  assert picture.clip.dtype == np.uint8
  assert picture.n_bytes is None
  labels = [int(source.target(i)["label"]) for i in range(40)]
  assert source.target(0)["label"].dtype == np.int32
  assert np.bincount(labels).tolist() == [4] * 10
  assert labels[:10] != labels[10:20]
  assert [source.rendered(i).label for i in range(40)] == labels


def test_other_truths_are_of_the_same_pictures():
  plain = scenes.Scenes("val", size=48, n=4)
  for truth in ("boxes", "segmentation"):
    other = scenes.Scenes("val", size=48, n=4, truth=truth)
    assert other.id(2) == plain.id(2)
    np.testing.assert_array_equal(other.picture(2).clip, plain.picture(2).clip)
    assert other.target(2)["size"].tolist() == [48, 48]
  boxes, segmented = (scenes.Scenes("val", size=48, n=4, truth=truth) for truth in ("boxes", "segmentation"))
  assert boxes.target(2)["box_labels"].tolist() == [int(plain.target(2)["label"])]
  assert segmented.classes == ("background", *scenes.CLASSES)
  assert set(np.unique(segmented.target(2)["segmentation"])) == {0, 1 + int(plain.target(2)["label"])}
  assert plain.fingerprint() == f"scenes 1 split=val size=48 seed=0 n=4 probe={PROBE}"
  assert len({source.fingerprint() for source in (plain, boxes, segmented)}) == 3


def test_boxes_and_masks_of_several_objects_agree():
  boxes, segmented = (scenes.Scenes("test", 64, n=20, truth=truth, objects=5) for truth in ("boxes", "segmentation"))
  found = []
  for index in range(20):
    target, mask = boxes.target(index), segmented.target(index)["segmentation"]
    assert target["boxes"].shape == (5, 4)
    assert target["box_kinds"].tolist() == [0] * 5
    n = int((target["box_labels"] >= 0).sum())
    assert not target["boxes"][n:].any()
    assert target["box_areas"][:n].min() >= 1
    assert target["box_areas"].sum() == (mask > 0).sum()
    for (x0, y0, x1, y1), label in zip(target["boxes"][:n].astype(int), target["box_labels"]):
      assert (mask[y0:y1, x0:x1] == 1 + label).any()
    target["boxes"][:] = 7  # the caller's own
    assert boxes.target(index)["boxes"][0].max() <= 64
    found.append(n)
  assert set(found) == {1, 2, 3, 4, 5}


def test_sizes_of_splits():
  assert {split: len(scenes.Scenes(split)) for split in scenes.SPLITS} == {"train": 4000, "val": 500, "test": 1000}


def test_splits_and_seeds_share_nothing_and_n_changes_nothing():
  first = {
    (split, seed): scenes.Scenes(split, 48, seed, n=5).picture(0).clip.tobytes()
    for split, seed in itertools.product(scenes.SPLITS, (0, 1))
  }
  assert len(set(first.values())) == 6
  assert scenes.Scenes("test", 48, 0).picture(0).clip.tobytes() == first["test", 0]


def test_fingerprint_follows_the_options():
  prints = {scenes.Scenes(*options).fingerprint() for options in (("val",), ("test",), ("val", 96), ("val", 160, 1))}
  assert len(prints) == 4
  assert scenes.Scenes("val").fingerprint() == scenes.Scenes("val", n=500).fingerprint()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"split": "tets"}, "did you mean 'test'"),
    ({"size": 4}, "size runs from 16"),
    ({"seed": -1}, "seed runs from 0"),
    ({"n": 0}, "n is at least 1"),
    ({"truth": "box"}, "did you mean 'boxes'"),
    ({"objects": 0}, "objects runs from 1 to 32"),
  ],
)
def test_options_out_of_range(options, message):
  with pytest.raises(types.SpecError, match=message):
    scenes.Scenes(**options)


def test_index_out_of_range():
  with pytest.raises(types.DataError, match="5 pictures"):
    scenes.Scenes("val", n=5).picture(5)


def test_sizes_show_the_same_scene():
  small, large = (grey(scenes.Scenes("val", size).picture(3).clip[0]) for size in (80, 160))
  halved = large.reshape(80, 2, 80, 2).mean((1, 3))
  assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.9


# ------------------------------------------------------------------------------------- natural statistics


def test_power_falls_as_in_photographs(pictures):
  """Radial power of photographs falls as f^-2 to f^-3; these, brought to 160 pixels, as f^-2.6."""
  n, window = 160, np.hanning(160)
  frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(n) * n, np.fft.fftfreq(n) * n))
  edges = np.geomspace(3, 70, 12)
  rings = [(frequency >= low) & (frequency < high) for low, high in itertools.pairwise(edges)]
  centred = [(grey(image) - grey(image).mean()) * window * window[:, None] for image in pictures]
  power = np.mean([[np.log((abs(np.fft.fft2(g)) ** 2)[ring].mean()) for ring in rings] for g in centred], axis=0)
  slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), power, 1)[0]
  assert -3.0 < slope < -2.0


def test_rates_of_jpeg_are_those_of_photographs(pictures):
  rates = [np.mean([coded(image, quality)[1] for image in pictures]) for quality in (5, 30, 75, 95)]
  assert rates == sorted(rates)
  assert 0.2 < rates[0] < 0.6
  assert 2.0 < rates[-1] < 5.0


def test_pictures_use_the_range_without_clipping(pictures):
  values = np.stack(pictures)
  assert 80 < values.mean() < 150
  assert np.isin(values, (0, 255)).mean() < 0.03


# ------------------------------------------------------------------------------------------ class evidence


@pytest.mark.parametrize("name", textures.TEXTURES)
def test_textures_have_one_mean_one_variance_and_one_band(name):
  """Sampled at 4 pixels a wave: nothing below a third of the frequency that would survive compression."""
  p, q = np.meshgrid(*[np.arange(256, dtype=np.float32) * np.float32(0.2507)] * 2)
  pattern = textures.TEXTURES[name](p, q, textures.grain(draws.Draws((0, 0, 0))))
  assert abs(pattern.mean()) < 0.02
  assert 0.92 < pattern.std() < 1.04
  frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(256)] * 2))
  power = abs(np.fft.fft2(pattern)) ** 2
  assert power[frequency < 0.25 / 3].sum() < 0.12 * power.sum()
  assert power[(frequency > 0.15) & (frequency < 0.4)].sum() > 0.75 * power.sum()


def test_each_outline_has_two_textures_and_each_texture_two_outlines():
  for part in (0, 1):
    assert set(np.unique([kind[part] for kind in scene.KINDS], return_counts=True)[1]) == {2}
  assert len(set(scene.KINDS)) == len(scenes.CLASSES) == 10


def test_texture_survives_quality_95_and_not_quality_5():
  """Correlation, inside the object, of the picture's fine band with what the texture adds to it."""

  def fine(image):
    g = grey(image)
    return g - sum(np.roll(g, shift, axis) for shift in (-3, 3) for axis in (0, 1)) / 4

  kept = {5: [], 95: []}
  for i in range(20):
    with_texture = scenes.draw_scene((1, 0, i))
    main = dataclasses.replace(with_texture.objects[0], contrast=0.0)
    plain = dataclasses.replace(with_texture, objects=(main, *with_texture.objects[1:]))
    rendered = scenes.render(with_texture)
    inside = rendered.instances == 1
    evidence = (grey(rendered.image) - grey(scenes.render(plain).image))[inside]
    for quality, shares in kept.items():
      left = fine(coded(rendered.image, quality)[0])[inside]
      shares.append(np.corrcoef(evidence, left)[0, 1])
  assert np.mean(kept[95]) > 0.7
  assert np.mean(kept[5]) < 0.45 * np.mean(kept[95])


# --------------------------------------------------------------------------------------------------- truth


def test_boxes_are_tight_around_what_is_seen(crowd):
  for rendered in crowd:
    assert rendered.labels.tolist() == [rendered.scene.objects[i].label for i in rendered.visible]
    for i, (x0, y0, x1, y1) in zip(rendered.visible, rendered.boxes.astype(int), strict=True):
      mask = rendered.instances == i + 1
      assert mask[y0:y1, x0:x1].sum() == mask.sum() > 0
      assert mask[y0].any()
      assert mask[y1 - 1].any()
      assert mask[:, x0].any()
      assert mask[:, x1 - 1].any()


def test_semantic_mask_follows_the_instances(crowd):
  for rendered in crowd:
    for index, thing in enumerate(rendered.scene.objects):
      assert (rendered.semantic[rendered.instances == index + 1] == 1 + thing.label).all()
    assert (rendered.semantic[rendered.instances == 0] == 0).all()
  assert any((r.semantic == 1 + scene.CLUTTER_LABEL).any() for r in crowd)


def test_masks_are_where_the_pixels_change(crowd):
  """Taking an object out changes the picture inside its mask, and nowhere away from it and its shadow."""
  rendered = crowd[0]
  main, *others = rendered.scene.objects
  without = dataclasses.replace(rendered.scene, objects=(dataclasses.replace(main, scale=1e-3), *others))
  plain = scenes.render(without, 160, rendered.time)
  change = np.abs(rendered.image.astype(int) - plain.image).max(-1)
  mask = rendered.instances == 1
  assert (change[mask] > 4).mean() > 0.8
  x0, y0, x1, y1 = rendered.boxes[rendered.visible.index(0)].astype(int)
  away = np.ones_like(mask)
  away[max(y0 - 24, 0) : y1 + 24, max(x0 - 24, 0) : x1 + 24] = False
  assert change[away].max(initial=0) == 0


def test_what_is_in_front_is_nearer(crowd):
  """Where objects overlap, mask and depth are those of the nearest."""
  overlaps = 0
  for rendered in crowd:
    covered = np.zeros((len(rendered.scene.objects), 160, 160), bool)
    for layer in rendered.layers:
      frame, own = layer.inside(160)
      covered[layer.index][frame] = layer.coverage[own] >= 0.5
    metres = np.array([1 / Pose.of(o, rendered.view, rendered.time).inverse_depth for o in rendered.scene.objects])
    nearest = np.where(covered, metres[:, None, None], np.inf).min(0)
    seen = rendered.instances > 0
    overlaps += (covered.sum(0) > 1).sum()
    np.testing.assert_array_equal(seen, covered.any(0))
    np.testing.assert_allclose(rendered.depth[seen], nearest[seen], rtol=1e-5)
  assert overlaps > 100


def test_objects_stand_before_the_backdrop_at_every_moment():
  for i, time in itertools.product(range(8), (0.0, 5.0, 11.0, 17.0)):
    rendered = scenes.render(scenes.draw_scene((9, 1, i), n_objects=3), 80, time)
    bare = scenes.render(dataclasses.replace(rendered.scene, objects=()), 80, time)
    seen = rendered.instances > 0
    assert (rendered.depth[seen] < bare.depth[seen]).all()
    assert rendered.depth.min() > 0.3
    assert rendered.depth.max() <= 101


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_keypoints_lie_inside_the_outline(name):
  shape = shapes.SHAPES[name]
  assert len(shape.keypoints) == shapes.N_KEYPOINTS
  u, v = np.array(list(shape.keypoints.values()), np.float32).T
  assert (shape.distance(u, v) < -0.01).all()


@pytest.mark.parametrize("name", [*shapes.SHAPES, *shapes.CLUTTER])
def test_outlines_are_closed_within_reach_and_steep_enough(name):
  """Inside a circle of 1.1, with a slope near 1 where the distance is used for the coverage of edge pixels."""
  distance = {**shapes.SHAPES, **shapes.CLUTTER}[name].distance
  grid = np.linspace(-1.5, 1.5, 601, dtype=np.float32)
  u, v = np.meshgrid(grid, grid)
  d = distance(u, v)
  assert (d[np.hypot(u, v) > 1.12] > 0).all()
  assert (d < 0).any()
  slope = np.hypot(*np.gradient(d, 0.005))[abs(d) < 0.02]
  assert 0.6 < np.median(slope) < 1.4
  assert np.quantile(slope, 0.02) > 0.4
  assert np.quantile(slope, 0.98) < 1.6


def test_keypoints_are_on_their_object_or_hidden(crowd):
  states = set()
  for rendered in crowd:
    assert rendered.keypoints.shape == (len(rendered.visible), shapes.N_KEYPOINTS, 3)
    for i, points in zip(rendered.visible, rendered.keypoints, strict=True):
      for x, y, state in points:
        states.add(int(state))
        inside = 0 <= x < 160 and 0 <= y < 160
        assert (state > 0) == inside
        assert not inside or (state == 2) == (rendered.instances[int(y), int(x)] == i + 1)
  assert states >= {1, 2}


def test_flow_takes_one_frame_to_the_next():
  """The next frame, sampled where the flow leads, is this frame, where the point is seen in both."""
  for i in range(5):
    now, later = (scenes.render(scenes.draw_scene((5, 0, i), n_objects=2), 160, time) for time in (4.0, 5.0))
    flow, seen = now.flow(5.0)
    x, y = np.meshgrid(*[np.arange(160, dtype=np.float32)] * 2)
    goal = textures.sample(textures.repeating(grey(later.image).astype(np.float32)), x + flow[..., 0], y + flow[..., 1])
    warped, unwarped = (np.abs(grey(now.image) - other)[seen].mean() for other in (goal, grey(later.image)))
    assert seen.mean() > 0.8
    assert np.abs(flow).max() > 0.3
    assert warped < 6
    assert warped < 0.75 * unwarped


def test_flow_there_and_back_is_no_flow():
  rendered = scenes.render(scenes.draw_scene((5, 0, 1)), 96, 2.0)
  flow, seen = rendered.flow(2.0)
  assert np.abs(flow).max() < 1e-3
  assert seen.mean() > 0.99


def test_clips_move_and_their_first_frame_is_the_still():
  described = scenes.draw_scene((2, 0, 0))
  clip = np.stack([frame.image for frame in scenes.render_clip(described, 96, 4)])
  assert clip.shape == (4, 96, 96, 3)
  np.testing.assert_array_equal(clip[0], scenes.render(described, 96).image)
  assert all(np.abs(a.astype(int) - b).mean() > 0.5 for a, b in itertools.pairwise(clip))


def test_camera_inverts_in_closed_form():
  camera = Camera((0.1, -0.05), 0.1, 0.5, Motion(period=10, phase=0.3))
  view = camera.at(3.0)
  x, y = view.project(0.2, -0.1, 0.7)
  assert view.unproject_row(y) == pytest.approx(-0.1)
  assert view.unproject_column(x, 0.7) == pytest.approx(0.2)
  rest = camera.at(0.0)
  assert (rest.x, rest.y, rest.zoom, rest.dolly) == (0, 0, 1, 0)
