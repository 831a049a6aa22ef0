"""Sources: the same examples in the same order every time, nothing outside their folder, and errors that help."""

import io
import os
import pathlib
import shutil

import numpy as np
import pytest
from fakes import MemorySource, photo
from PIL import Image

from robust_compress.data import files, image_ops, sources, tfds_source
from robust_compress.types import DataError, SpecError, View

KIT = pathlib.Path(__file__).parent.parent.parent / "shared" / "kit"


def png(seed=0, height=12, width=16):
  stream = io.BytesIO()
  Image.fromarray(photo(height, width, seed)[0]).save(stream, "PNG")
  return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
  """data/pets/{train,val}/{cat,dog}/n.png, with three pictures a class."""
  for split, name, n in ((s, c, n) for s in ("train", "val") for c in ("dog", "cat") for n in range(3)):
    path = tmp_path / "data" / "pets" / split / name / f"{n}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(n + 3 * (name == "dog")))
  return tmp_path / "data"


@pytest.fixture
def table(tmp_path):
  """A function that writes data/birds/labels.csv beside a.png, b.png and c.png."""
  root = tmp_path / "data" / "birds"
  root.mkdir(parents=True)
  for seed, name in enumerate("abc"):
    (root / f"{name}.png").write_bytes(png(seed))

  def write(text):
    (root / "labels.csv").write_text(text)
    return tmp_path / "data"

  return write


def labels_of(source):
  return [int(source.target(i)["label"]) for i in range(len(source))]


# --------------------------------------------------------------------------------------------- folders


def test_folders(folder):
  source = sources.open_source("folders(path=pets):val", folder)
  assert source.classes == ("cat", "dog")
  assert [source.id(i) for i in range(6)] == [
    "cat/0.png",
    "cat/1.png",
    "cat/2.png",
    "dog/0.png",
    "dog/1.png",
    "dog/2.png",
  ]
  assert labels_of(source) == [0, 0, 0, 1, 1, 1]
  assert source.target(0)["label"].dtype == np.int32
  np.testing.assert_array_equal(source.picture(4).clip, photo(12, 16, 4))
  assert source.picture(4).n_bytes == (folder / "pets/val/dog/1.png").stat().st_size


def test_split_all_is_the_folder_itself(folder):
  assert len(sources.open_source("folders(path=pets/train):all", folder)) == 6


def test_other_files_are_no_pictures_and_empty_classes_count(folder):
  (folder / "pets/val/cat/notes.txt").write_text("meow")
  (folder / "pets/val/.cache").mkdir()
  (folder / "pets/val/ant").mkdir()
  source = sources.open_source("folders(path=pets):val", folder)
  assert source.classes == ("ant", "cat", "dog")
  assert labels_of(source) == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
  ("data", "error", "message"),
  [
    ("folders(path=pats):val", DataError, r"no folder .*pats; .* has pets"),
    ("folders(path=pets):test", DataError, r"no split 'test' in .*pets; .* has train, val"),
    ("folders(path=pets):all", DataError, r"no pictures in class folders of .*pets; .* has train, val"),
    ("folders(path=../data/pets):val", DataError, "leads out of .*absolute"),
    ("folders:val", SpecError, r"needs a folder, as in folders\(path="),
    ("folders(pth=pets):val", SpecError, "no option of folders 'pth'; did you mean 'path'"),
    ("folder(path=pets):val", SpecError, "no data 'folder'; did you mean 'folders'"),
    ("folders(path=pets):val[6:]", DataError, "has 6"),
    ("no_such.module:Attribute:val", SpecError, "cannot import"),
  ],
)
def test_what_is_wrong_is_said(folder, data, error, message):
  with pytest.raises(error, match=message):
    sources.open_source(data, folder)


def test_an_absolute_path_needs_no_data_dir(folder):
  assert len(sources.open_source(f"folders(path={folder}/pets):val", "nowhere")) == 6


@pytest.mark.parametrize("place", ["val/cat/link.png", "val/link", "test"])
def test_links_stay_inside(folder, tmp_path, place):
  outside = tmp_path / "outside"
  outside.mkdir()
  (outside / "secret.png").write_bytes(png())
  target = outside / "secret.png" if place.endswith("png") else outside
  (folder / "pets" / place).symlink_to(target)
  with pytest.raises(DataError, match="leads out of"):
    sources.open_source(f"folders(path=pets):{'test' if place == 'test' else 'val'}", folder)


def test_a_loop_of_links_ends(folder):
  (folder / "pets/val/cat/loop.png").symlink_to("loop.png")
  with pytest.raises(DataError, match="not a path that can be followed"):
    sources.open_source("folders(path=pets):val", folder)


def test_links_within_are_followed(folder):
  (folder / "pets/val/cat/3.png").symlink_to(folder / "pets/train/cat/0.png")
  source = sources.open_source("folders(path=pets):val", folder)
  assert source.id(3) == "cat/3.png"
  np.testing.assert_array_equal(source.picture(3).clip, source.picture(0).clip)


def test_a_vanished_or_damaged_file_is_named(folder):
  source = sources.open_source("folders(path=pets):val", folder)
  (folder / "pets/val/dog/0.png").unlink()
  (folder / "pets/val/dog/1.png").write_bytes(png()[:60])
  for index, name in ((3, "dog/0.png"), (4, "dog/1.png")):
    with pytest.raises(DataError, match=name):
      source.picture(index)
  with pytest.raises(DataError, match=r"dog/0\.png"):
    source.fingerprint()


# ------------------------------------------------------------------------------------------------- csv


@pytest.mark.parametrize(
  ("text", "classes", "labels"),
  [
    ("file,wnid\na.png,wren\nb.png,auk\nc.png,wren\n", ("auk", "wren"), [1, 0, 1]),
    ("file,label\na.png,7\nb.png,0\n", (), [7, 0]),
    ("file,wnid,label\na.png,wren,2\nb.png,auk,0\n", ("auk", "", "wren"), [2, 0]),
    ("\ufefflabel,other,file\n1,x,a.png\n", (), [1]),
  ],
)
def test_csv(table, text, classes, labels):
  source = sources.open_source("csv(path=birds):all", table(text))
  assert source.classes == classes
  assert labels_of(source) == labels
  assert source.id(0) == "a.png"


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("name,label\na.png,0\n", "columns are name, label; expected 'file'"),
    ("file,size\na.png,0\n", "expected 'file' and 'wnid' or 'label'"),
    ("file,label\n", "empty"),
    ("", "empty"),
    ("file,label\na.png,-1\n", r"line 2: label '-1' is out of range"),
    ("file,label\na.png,0\nb.png,1000000000000\n", "line 3: label '1000000000000' is out of range"),
    ("file,label\na.png,cat\n", "label 'cat'"),
    ("file,label\na.png\n", "line 2: expected 2 fields"),
    ("file,label\na.png,0,1\n", "line 2: expected 2 fields"),
    ("file,label\na.png,0\na.png,1\n", r"labels\.csv: ids must be unique; more than once stand a\.png\. Leave"),
    ("file,wnid,label\na.png,wren,0\nb.png,auk,0\n", "disagree"),
    ("file,wnid,label\na.png,wren,0\nb.png,wren,1\n", "disagree"),
    ("file,label\n../secret.png,0\n", r"line 2: file '../secret.png' leads out of"),
    ("file,label\n/etc/passwd,0\n", "leads out of"),
    ("file,label\n,0\n", "leads out of"),
    ("file,label\na\0.png,0\n", "not a path that can be followed|not a csv"),
  ],
)
def test_a_wrong_csv_is_explained(table, text, message):
  with pytest.raises(DataError, match=message):
    sources.open_source("csv(path=birds):all", table(text))


def test_csv_has_no_splits_and_names_what_is_there(table):
  data_dir = table("file,label\na.png,0\n")
  with pytest.raises(DataError, match="has the one split 'all'"):
    sources.open_source("csv(path=birds):train", data_dir)
  with pytest.raises(DataError, match=r"no truth\.csv in .*; .* has a\.png, b\.png"):
    sources.open_source("csv(path=birds,file=truth.csv):all", data_dir)


def test_csv_links_stay_inside(table, tmp_path):
  data_dir = table("file,label\nd.png,0\n")
  (tmp_path / "secret.png").write_bytes(png())
  (data_dir / "birds/d.png").symlink_to(tmp_path / "secret.png")
  with pytest.raises(DataError, match="leads out of"):
    sources.open_source("csv(path=birds):all", data_dir)


# ---------------------------------------------------------------------------- slices, views, fingerprints


def test_slices(folder):
  part = sources.open_source("folders(path=pets):val[2:5]", folder)
  assert [part.id(i) for i in range(len(part))] == ["cat/2.png", "dog/0.png", "dog/1.png"]
  assert part.classes == ("cat", "dog")
  assert len(sources.open_source("folders(path=pets):val[:100]", folder)) == 6


def test_a_source_of_ones_own_is_sliced_too(monkeypatch):
  monkeypatch.setattr(
    sources, "import_attribute", lambda kind, name: lambda split, n: MemorySource([photo(seed=i) for i in range(n)])
  )
  part = sources.open_source("mine:Source(n=5):val[1:3]")
  assert [part.id(i) for i in range(2)] == ["picture/0001.png", "picture/0002.png"]
  np.testing.assert_array_equal(part.picture(1).clip, photo(seed=2))
  assert part.fingerprint() != sources.open_source("mine:Source(n=5):val[1:4]").fingerprint()
  with pytest.raises(IndexError):
    part.picture(2)


def test_only_the_identity_view_keeps_the_rate(folder):
  source = sources.open_source("folders(path=pets):val", folder)
  assert sources.ViewedSource(source, View(input="asis")).picture(0).n_bytes == source.picture(0).n_bytes
  viewed = sources.ViewedSource(source, View(resize=8, crop=6))
  assert viewed.picture(0).n_bytes is None
  np.testing.assert_array_equal(viewed.picture(0).clip, image_ops.apply_view(source.picture(0).clip, viewed.view))
  assert (len(viewed), viewed.id(1), viewed.classes) == (6, "cat/1.png", ("cat", "dog"))


def test_fingerprint_tells_what_can_change_a_number(folder, tmp_path):
  open_val = lambda: sources.open_source("folders(path=pets):val", folder)  # noqa: E731
  first = open_val().fingerprint()
  moved = shutil.copytree(folder, tmp_path / "elsewhere")
  assert sources.open_source("folders(path=pets):val", moved).fingerprint() == first  # nor place nor time of the files
  fingerprints = {first, sources.open_source("folders(path=pets):val[:5]", folder).fingerprint()}
  for view in (View(resize=8), View(resize=9), View(resize=8, interpolation="bilinear"), View(crop=8)):
    fingerprints.add(sources.ViewedSource(open_val(), view).fingerprint())
  assert sources.ViewedSource(open_val(), View(input="asis")).fingerprint() == first
  path = folder / "pets/val/cat/0.png"
  data = bytearray(path.read_bytes())
  data[-20] ^= 1  # same size, other content
  path.write_bytes(data)
  os.utime(path, ns=(1, 1))
  fingerprints.add(open_val().fingerprint())
  path.rename(path.with_name("00.png"))
  fingerprints.add(open_val().fingerprint())
  assert len(fingerprints) == 8


def test_large_sets_are_sampled():
  assert list(files.sampled(5000)) == list(range(5000))
  sample = files.sampled(50_000)
  assert (len(sample), sample[0], sample[-1]) == (1000, 0, 49_999)


# ------------------------------------------------------------------------------------------------ TFDS


@pytest.fixture(scope="module", params=["array_record", "tfrecord"])
def prepared(request, tmp_path_factory):
  """A TFDS set of our own, in a format with random access and in one without."""
  import tensorflow_datasets as tfds

  class Dots(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # to be found by its files, not by its code
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
      features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["n01440764", "n02102040"])}
      features = tfds.features.FeaturesDict(features)
      return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

    def _split_generators(self, dl_manager):
      return {"train": self._generate_examples()}

    def _generate_examples(self):
      for n in range(7):
        yield n, {"image": io.BytesIO(png(n)), "label": n % 2}

  data_dir = tmp_path_factory.mktemp(request.param)
  Dots(data_dir=data_dir, file_format=request.param).download_and_prepare()
  return data_dir


def test_tfds(prepared):
  source = sources.open_source("dots:train", prepared)
  assert (len(source), source.classes) == (7, ("n01440764", "n02102040"))
  assert source.id(3) == "train-00000003"
  seeds = {png(n): n for n in range(7)}
  stored = [seeds[source.read(i)] for i in range(7)]  # the bytes are those that went in, in TFDS's own order
  assert sorted(stored) == list(range(7))
  assert labels_of(sources.open_source("dots:train", prepared)) == [n % 2 for n in stored]
  np.testing.assert_array_equal(source.picture(2).clip, photo(12, 16, stored[2]))
  assert source.picture(2).n_bytes == len(png(stored[2]))


def test_tfds_slices_keep_ids(prepared):
  part = sources.open_source("dots:train[2:4]", prepared)
  whole = sources.open_source("dots:train", prepared)
  assert [part.id(i) for i in range(2)] == ["train-00000002", "train-00000003"]
  np.testing.assert_array_equal(part.picture(1).clip, whole.picture(3).clip)
  assert part.fingerprint() != whole.fingerprint() == sources.open_source("dots:train", prepared).fingerprint()


@pytest.mark.parametrize(
  ("data", "error", "message"),
  [
    ("dots:test", DataError, "no split 'test' in .*; it has train"),
    ("dots(path=x):train", SpecError, "no option of dots 'path'"),
    ("cifar10:train", DataError, "cifar10: not prepared in .*tfds build cifar10"),
    ("cifar1O:train", SpecError, "did you mean 'cifar10'"),
    ("dots(others=x):train", SpecError, "no option of dots 'others'"),
    ("picture(path=x):all", SpecError, "did you mean 'pictures'"),
    *((f"{name}x(path=x):all", SpecError, f"did you mean '{name}'") for name in sources.SOURCES),
  ],
)
def test_tfds_errors(prepared, data, error, message):
  with pytest.raises(error, match=message):
    sources.open_source(data, prepared)


def test_a_tfrecord_file_that_stops_short(tmp_path):
  path = tmp_path / "a.tfrecord"
  path.write_bytes(tfds_source.HEADER.pack(100, 0) + bytes(50))
  with pytest.raises(DataError, match=r"a\.tfrecord: stops short"):
    tfds_source.TFRecords([path], bytes)


# ------------------------------------------------------------------------------------------------- kit


@pytest.mark.skipif(not KIT.is_dir(), reason="no ../shared/kit beside the checkout")
def test_kit():
  source = sources.open_source("csv(path=imagenet_samples,resize=256,crop=224,input=asis):all", KIT)
  assert len(source) == 250
  assert source.classes[4] == "n01494475"
  val = sources.open_source("folders(path=imagenette224,input=asis):val", KIT)
  assert (len(val), len(val.classes)) == (500, 10)


# ------------------------------------------------------------------------------------- pictures of any folder


def test_pictures_below_folders_need_no_labels(folder):
  source = sources.open_source("pictures(path=pets/train):all", folder)
  assert [source.id(i) for i in range(2)] == ["cat/0.png", "cat/1.png"]
  assert source.target(0) == {}
  assert source.classes == ()
  both = sources.open_source("pictures(path=pets/val+pets/train/dog):all", folder)
  assert len(both) == 9
  assert both.id(8) == "pets/train/dog/2.png"
  np.testing.assert_array_equal(both.picture(8).clip, source.picture(5).clip)


def test_a_folder_may_have_a_plus_in_its_name(folder):
  shutil.copytree(folder / "pets" / "val", folder / "pets+more")
  source = sources.open_source("pictures(path=pets+more):all", folder)
  assert len(source) == len(sources.open_source("pictures(path=pets/val):all", folder))
  assert not source.id(0).startswith("pets")


@pytest.mark.parametrize(
  ("data", "message"),
  [
    ("pictures(path=pets):train", "has the one split 'all'"),
    ("pictures(path=nowhere):all", "no folder"),
    ("pictures(path=pets+../pets):all", "leads out"),
    ("pictures:all", "needs a folder"),
  ],
)
def test_pictures_that_are_not_there(folder, data, message):
  with pytest.raises((DataError, SpecError), match=message):
    sources.open_source(data, folder)


def test_a_part_of_a_source_is_a_slice_or_any_order_of_it():
  source = MemorySource([photo(8, 8, seed) for seed in range(6)])
  for indices in (range(2, 5), (4, 0, 2)):
    part = sources.PartSource(source, indices)
    assert [part.id(i) for i in range(len(part))] == [source.id(i) for i in indices]
    for wrong in (-1, 3):
      with pytest.raises(IndexError):
        part.picture(wrong)
  assert sources.PartSource(source, (2, 3, 4)).fingerprint() != sources.PartSource(source, range(2, 5)).fingerprint()


def test_a_folder_without_pictures_says_what_it_has(tmp_path):
  (tmp_path / "notes.txt").write_text("no picture")
  with pytest.raises(DataError, match=r"no pictures in it; .*notes\.txt"):
    sources.open_source("pictures(path=.):all", tmp_path)
