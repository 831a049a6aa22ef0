"""Frames of clips: which a view samples, which feed the model, and a study of clips from its data to its rows."""

import numpy as np
import pytest
from fakes import MemorySource, photo
from hypothesis import given
from hypothesis import strategies as st
from test_study import tiny_config

from robust_compress import settings, specs, store, study
from robust_compress.data import image_ops, labels, pipeline, sources, video_ops
from robust_compress.data.scenes import Scenes
from robust_compress.data.sources import PartSource, ViewedSource
from robust_compress.types import NONE, DataError, InputSpec, Recipe, SpecError, View

PICTURES, CLIPS = InputSpec((12, 16), None), InputSpec((12, 16), None, clips=True)
ASIS = View(input="asis")


def clip_source(lengths=(9, 9, 9), bad=()):
  return MemorySource([photo(24, 32, seed=i, n_frames=n) for i, n in enumerate(lengths)], bad=bad)


def view(**keys):
  return View(input="asis", **keys)


# --------------------------------------------------------------------------------------------- sampling


@given(st.integers(1, 200), st.none() | st.integers(1, 40), st.integers(1, 12))
def test_a_sample_is_in_the_middle_or_refused(n_frames, length, stride):
  asked = View(length=length, stride=stride)
  needed = 1 if length is None else (length - 1) * stride + 1
  if needed > n_frames:
    with pytest.raises(DataError, match=f"need a clip of {needed}, and it has {n_frames}"):
      video_ops.sampled(n_frames, asked, "clip")
    return
  frames = list(video_ops.sampled(n_frames, asked, "clip"))
  assert len(frames) == (length or -(-n_frames // stride))
  assert set(np.diff(frames)) <= {stride}
  before, after = frames[0], n_frames - 1 - frames[-1]
  assert after - before in (0, 1)
  assert length is not None or before + after < stride


def test_reichs_clip_holds_the_labelled_frame():
  assert list(video_ops.sampled(30, View(length=8, stride=3), "snippet")) == [4, 7, 10, 13, 16, 19, 22, 25]


def test_the_codec_sees_the_sample_of_any_source():
  source = clip_source((9, 12, 5))
  viewed = ViewedSource(PartSource(source, range(3)), View(length=3, stride=3, crop=8))
  np.testing.assert_array_equal(viewed.picture(1).clip, image_ops.apply_view(source.clips[1][[2, 5, 8]], View(crop=8)))
  assert viewed.picture(0).n_pixels == 3 * 8 * 8
  with pytest.raises(DataError, match=r"0002\.png: 3 frames at stride 3 need a clip of 7, and it has 5"):
    viewed.picture(2)


def test_only_a_clip_as_it_is_keeps_its_bytes():
  assert View(frames=3).is_identity
  assert not View(stride=2).is_identity
  assert not View(length=8).is_identity
  assert View(length=8, frames=3).seen == View(length=8, input="model") == View(length=8, input="asis").seen


# ---------------------------------------------------------------------------------------------- in words


def test_keys_of_clips_are_written_only_where_they_say_something():
  text = "frames(crop=512,frames=5,input=asis,length=8,naming=cityscapes,path=leftImg8bit_sequence,stride=3):val[:100]"
  data = specs.parse_data(text)
  assert data.view == View(crop=512, length=8, stride=3, frames=5, input="asis")
  assert specs.format_data(data) == text
  plain = "videos(path=clips):all"
  assert specs.format_data(specs.parse_data("videos(path=clips,stride=1,frames=all,length=None):all")) == plain


@given(st.none() | st.integers(2, 99), st.integers(1, 9), st.sampled_from(["all", "pairs", 0, 1]))
def test_views_of_clips_round_trip(length, stride, frames):
  data = specs.parse_data("videos(path=clips):all")
  data = type(data)(data.name, data.options, View(length=length, stride=stride, frames=frames), data.split)
  assert specs.parse_data(specs.format_data(data)) == data


def test_what_has_no_labels_needs_none_in_the_models_list():
  """Clips are often without classes, and a model is then measured against itself."""
  source = clip_source()
  source.classes, source.target = (), lambda index: {}
  for name in ("imagenet1k", "imagenet1001"):
    assert labels.RelabelledSource(source, labels.class_list(name)).target(1) == {}


@pytest.mark.parametrize(
  ("keys", "message"),
  [
    ("length=0", "length=0; expected a number of frames, at least 1"),
    ("length=2.5", "length=2.5"),
    ("length=True", "length=True"),
    ("stride=0", "stride=0"),
    ("stride=None", "stride=None"),
    ("frames=some", "frames='some'; expected all, pairs, or the number of one"),
    ("frames=-1", "count from 0"),
    ("frames=True", "frames=True"),
    ("frames=8,length=8", "frames=8; the frames of the clip count from 0 to 7"),
    ("frames=pairs,length=1", "needs at least two frames"),
  ],
)
def test_what_no_view_can_be_is_refused(keys, message):
  with pytest.raises(SpecError, match=message):
    specs.parse_data(f"videos(path=clips,{keys}):all")


# --------------------------------------------------------------------------------------- what a model is fed


def test_a_model_of_pictures_is_fed_the_frame_that_is_named():
  clip = photo(24, 32, n_frames=4)
  np.testing.assert_array_equal(image_ops.to_input(clip, PICTURES, view(frames=2)), clip[2])
  named = image_ops.to_input(clip, PICTURES, View(frames=2))
  np.testing.assert_array_equal(named, image_ops.apply_view(clip[2:3], View(crop=(12, 16)))[0])
  np.testing.assert_array_equal(image_ops.to_input(clip[:1], PICTURES, ASIS), clip[0])
  with pytest.raises(SpecError, match=r"clips of 4 frames; name the one .* from frames=0 to frames=3"):
    image_ops.to_input(clip, PICTURES, ASIS)
  with pytest.raises(SpecError, match="takes single pictures"):
    image_ops.to_input(clip, PICTURES, view(frames="pairs"))
  with pytest.raises(DataError, match="frames=4 of a clip of 4; expected 0 to 3"):
    image_ops.to_input(clip, PICTURES, view(frames=4))


def test_a_model_of_clips_is_fed_all_or_pairs():
  clip = photo(24, 32, n_frames=4)
  np.testing.assert_array_equal(image_ops.to_input(clip, CLIPS, ASIS), clip)
  assert image_ops.to_input(clip, CLIPS, View()).shape == (4, 12, 16, 3)
  pairs = image_ops.to_input(clip, CLIPS, view(frames="pairs"))
  np.testing.assert_array_equal(pairs[:, 0], clip[:-1])
  np.testing.assert_array_equal(pairs[:, 1], clip[1:])
  with pytest.raises(SpecError, match="takes clips; use frames=all or frames=pairs"):
    image_ops.to_input(clip, CLIPS, view(frames=0))
  with pytest.raises(DataError, match="clip of 1 frame"):
    image_ops.to_input(clip[:1], CLIPS, view(frames="pairs"))


@pytest.mark.parametrize("backend", ["threads", "tf.data"])
@pytest.mark.parametrize(
  ("spec", "asked", "shape"),
  [
    (PICTURES, view(length=4, frames=1), (24, 32, 3)),
    (PICTURES, View(length=4, frames=1), (12, 16, 3)),
    (CLIPS, view(length=4), (4, 24, 32, 3)),
    (CLIPS, View(frames="pairs"), (8, 2, 12, 16, 3)),
  ],
)
def test_batches_of_clips(backend, spec, asked, shape):
  source = ViewedSource(clip_source((9, 9, 9, 2, 9), bad=(1,)), View(length=asked.length or 9))
  batches = list(pipeline.eval_batches(source, spec, asked, 2, on_bad="skip", backend=backend))
  assert [batch["image"].shape for batch in batches] == [(2, *shape)] * 3
  assert [str(id) for batch in batches for id in batch["id"][batch["skipped"]]] == [source.id(1), source.id(3)]
  np.testing.assert_array_equal(batches[1]["image"][0], image_ops.to_input(source.picture(2).clip, spec, asked))
  assert batches[0]["n_pixels"][0] == (asked.length or 9) * 24 * 32
  recipe = Recipe(steps=2, batch_size=4, crop_scale=(0.3, 1.0))
  trained = pipeline.train_batches([source], spec, asked, recipe, 0, on_bad="skip", backend=backend)(0)
  batch = next(trained)
  trained.close()
  assert batch["image"].shape == (4, *shape)


def test_frames_of_a_clip_are_augmented_alike():
  still = MemorySource([np.repeat(photo(24, 32), 5, axis=0)], ["a"])
  recipe = Recipe(steps=1, batch_size=8, crop_scale=(0.2, 0.9))
  batches = pipeline.train_batches([still], CLIPS, View(length=5), recipe, 0)(0)
  images = next(batches)["image"]
  batches.close()
  assert (images == images[:, :1]).all()
  assert len({image.tobytes() for image in images}) == 8


def test_clips_of_several_lengths_need_a_view():
  with pytest.raises(DataError, match=r"0001\.png: the clip has 4 frames and picture/0000\.png has 3; .* length=8"):
    list(pipeline.eval_batches(clip_source((3, 4)), CLIPS, ASIS, 2))


# ----------------------------------------------------------------------------------------------- scenes


def test_scenes_move_from_their_picture_on():
  source = Scenes("val", size=32, n=4)
  viewed = ViewedSource(source, View(length=4, stride=3))
  clip = viewed.picture(2).clip
  assert clip.shape == (4, 32, 32, 3)
  np.testing.assert_array_equal(clip[:1], source.picture(2).clip)
  np.testing.assert_array_equal(clip[3], source.rendered(2, 9.0).image)
  assert (clip[0] != clip[3]).any()
  part = sources.open_source("scenes(size=32,n=4,length=4,stride=3):val[2:]")
  np.testing.assert_array_equal(ViewedSource(part, View(length=4, stride=3)).picture(0).clip, clip)
  with pytest.raises(SpecError, match="stride=3 of a clip without an end"):
    ViewedSource(source, View(stride=3)).picture(0)


@pytest.mark.parametrize("truth", ["label", "boxes", "segmentation"])
def test_of_a_scene_in_motion_boxes_and_masks_are_of_its_first_frame(truth):
  """And its class of all: no other frame is scored by them, and a picture needs not be told which it is."""
  source, spec = Scenes("val", size=32, n=1, truth=truth), InputSpec((32, 32), None)
  for view in (View(), View(length=8, stride=4, frames=0), View(length=1)):
    [batch] = pipeline.eval_batches(ViewedSource(source, view), spec, view, 1)
    np.testing.assert_array_equal(batch["image"], source.picture(0).clip)
  view = View(length=8, stride=4, frames=7)
  if truth == "label":
    [batch] = pipeline.eval_batches(ViewedSource(source, view), spec, view, 1)
    np.testing.assert_array_equal(batch["image"][0], source.rendered(0, 28.0).image)
    return
  with pytest.raises(SpecError, match=r"frames=7 feeds frame 28 of .* its labels are of frame 0; use frames=0"):
    pipeline.eval_batches(ViewedSource(source, view), spec, view, 1)


def test_what_was_called_so_far_is_called_the_same():
  assert ViewedSource(Scenes("val", size=32), View()).fingerprint() == Scenes("val", size=32).fingerprint()
  resized = ViewedSource(Scenes("val", size=32), View(resize=16))
  assert resized.fingerprint() == specs.key_of([Scenes("val", size=32).fingerprint(), [16, None, "bicubic", "1"]])
  assert specs.format_data(specs.parse_data("scenes(size=32,input=asis):val")) == "scenes(input=asis,size=32):val"


def test_a_study_of_clips(tmp_path):
  """The codec sees eight frames, the model the fifth of what it leaves, and is trained on the fifth of others."""
  keys = "size=32,length=8,stride=3,frames=4,input=asis"
  config = tiny_config(
    test_data=f"scenes({keys},n=10):test",
    train_data=f"scenes({keys},n=12):train",
    points=("jpeg@20", "h264@35"),
    protocols=("baseline", "shifted"),
  )
  opened = study.Study(config, tmp_path)
  opened.run()
  rows, pictures = store.Store(tmp_path).rows(), opened.bench.pictures
  assert len(rows) == len(opened.cells) == 3
  coded = [row for row in rows if row.cell.test != NONE]
  for row in coded:
    source = pictures.source(row.cell.data, row.cell.test)
    assert source.picture(0).clip.shape == (8, 32, 32, 3)
    assert row.n_pixels == 10 * 8 * 32 * 32
    assert row.n_bytes == sum(len(source.blob(index)) for index in range(10))
  other = coded[0].cell.data.replace("frames=4", "frames=2")
  assert pictures.folder(other, coded[0].cell.test) == pictures.folder(coded[0].cell.data, coded[0].cell.test)


def motion(image):
  """Class by how much successive frames differ: uint8[b t 32 32 3], or uint8[b t-1 2 32 32 3], to float[b 10]."""
  pairs = image if image.ndim == 6 else np.stack([image[:, :-1], image[:, 1:]], axis=2)
  assert pairs.shape[1:] == (3, 2, 32, 32, 3)
  change = np.abs(np.diff(pairs.astype(np.float32), axis=2)).mean((1, 2, 3, 4, 5))
  return -np.abs(change[:, None] - np.arange(10))


motion.input = InputSpec((32, 32), None, clips=True)


def test_a_model_of_clips_is_measured_on_all_frames_and_on_pairs_of_them(tmp_path):
  """Both are fed what the codec left of one coding, and come to the same numbers."""
  metrics = []
  for frames in ("", ",frames=pairs"):
    nothing = settings.recipe_config()
    config = tiny_config(
      models=("test_video_ops:motion",),
      test_data=f"scenes(size=32,length=4,stride=3,n=10{frames}):test",
      train_data="",
      points=("jpeg@5",),
      protocols=("baseline", "relative"),
      recipe=nothing,
      base_recipe=nothing,
    )
    study.Study(config, tmp_path).run()
    rows = [row for row in store.Store(tmp_path).rows() if ("pairs" in row.cell.data) == bool(frames)]
    metrics.append({(str(row.cell.test), row.cell.target): (row.metrics, row.n_bytes) for row in rows})
  assert metrics[0] == metrics[1]
  assert len(metrics[0]) == 2
  assert len(list((tmp_path / "coded").iterdir())) == 1
