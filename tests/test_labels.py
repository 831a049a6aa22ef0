"""Class lists and the map of a data set's labels into them."""

import numpy as np
import pytest
from fakes import MemorySource, photo

from robust_compress import models
from robust_compress.data import labels
from robust_compress.data.scenes import Scenes
from robust_compress.types import DataError, SpecError

IMAGENETTE = (
  "n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
  "n03394916", "n03417042", "n03425413", "n03445777", "n03888257",
)  # fmt: skip
INDICES = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]  # of these ten among the 1000


class Labelled(MemorySource):
  """Pictures with given labels and class names."""

  def __init__(self, given, classes):
    super().__init__([photo(8, 8, seed) for seed in range(len(given))])
    self.given, self.classes = given, tuple(classes)

  def target(self, index):
    return {"label": np.int32(self.given[index])}


def test_imagenet_in_label_order():
  wnids = labels.class_list("imagenet1k")
  assert len(set(wnids)) == 1000
  assert list(wnids) == sorted(wnids)
  assert labels.class_list("imagenet1001") == ("background", *wnids)
  assert labels.imagenet_names()[wnids[207]] == "golden retriever"
  with pytest.raises(SpecError, match="did you mean 'imagenet1k'"):
    labels.class_list("imagenet")


def test_ten_classes_meet_the_thousand():
  assert labels.relabel(IMAGENETTE, labels.class_list("imagenet1k")).tolist() == INDICES
  assert labels.relabel(IMAGENETTE[::-1], labels.class_list("imagenet1001")).tolist() == [i + 1 for i in INDICES[::-1]]


def test_short_names_and_wnids_are_the_same_classes():
  wnids = labels.class_list("imagenet1k")
  assert labels.relabel(["tench", "Golden_Retriever"], wnids).tolist() == [0, 207]
  assert labels.relabel(["n02099601", "n01440764"], ["tench", "golden retriever"]).tolist() == [1, 0]
  with pytest.raises(DataError, match="'cardigan' means n02113186 or n02963159"):
    labels.relabel(["cardigan"], wnids)


def test_names_outside_imagenet():
  made = labels.relabel(["frog", "", "cat"], ["cat", "dog", "frog"])
  assert made.tolist() == [2, -1, 0]
  assert made.dtype == np.int32


def test_lacking_classes_are_listed():
  with pytest.raises(DataError, match="2 of 3 classes of the data are not among the model's 2: newt, olm; expected"):
    labels.relabel(["newt", "cat", "olm"], ["cat", "dog"])
  message = r"newt; expected names such as person, bicycle, car, or a model .*NAME\(n_classes=…,start=FILE\)"
  with pytest.raises(DataError, match=message):
    labels.relabel(["newt"], labels.class_list("coco91"))


class Placed(MemorySource):
  """Pictures whose labels have a place."""

  def __init__(self, classes, **target):
    super().__init__([photo(8, 8)])
    self.classes, self.given = tuple(classes), target

  def target(self, index):
    return self.given


def test_class_lists():
  sizes = {name: len(labels.class_list(name)) for name in labels.CLASS_LISTS}
  assert sizes == {
    "imagenet1k": 1000, "imagenet1001": 1001, "coco91": 91, "coco80": 80, "voc20": 20, "ade150": 150,
    "cityscapes19": 19, "camvid11": 11, "scenes10": 10, "scenes11": 11,
  }  # fmt: skip
  coco = labels.class_list("coco91")
  assert [coco[i] for i in (0, 1, 12, 13, 90)] == ["", "person", "", "stop sign", "toothbrush"]
  assert (labels.class_list("coco80")[11], labels.class_list("ade150")[89]) == ("stop sign", "television")
  for name in labels.CLASS_LISTS:
    named = [label for label in labels.class_list(name) if label]
    assert len(set(named)) == len(named)
    assert labels.relabel(labels.class_list(name), labels.class_list(name)).tolist() == [
      i if label else -1 for i, label in enumerate(labels.class_list(name))
    ]


@pytest.mark.parametrize(("name", "truth"), [("scenes10", "boxes"), ("scenes11", "segmentation")])
def test_the_lists_of_scenes_are_those_of_the_scenes(name, truth):
  assert labels.class_list(name) == Scenes("test", n=1, truth=truth).classes


def test_shipped_weights_are_not_scored_on_other_classes_of_as_many():
  model = models.load_model("nano_seg.scenes")
  with pytest.raises(DataError, match="sky"):
    labels.relabel(labels.class_list("camvid11"), labels.class_list(model.classes))


def test_labels_of_voc_and_coco_meet():
  voc, coco = labels.class_list("voc20"), labels.class_list("coco91")
  mapped = labels.relabel(voc, coco)
  assert [coco[i] for i in mapped[[0, 10, 13, 17]]] == ["airplane", "dining table", "motorcycle", "couch"]
  np.testing.assert_array_equal(labels.relabel([coco[i] for i in mapped], voc), np.arange(20))
  with pytest.raises(DataError, match="1 of 2 classes of the data are not among the model's 91: newt"):
    labels.relabel(["cat", "newt"], coco)  # and no label that is not used is taken for it


def test_labels_of_boxes_are_mapped_and_none_stays_none():
  source = labels.RelabelledSource(
    Placed(("cat", "", "dog"), box_labels=np.array([2, 0, -1, -1], np.int32)), ("dog", "", "cat")
  )
  mapped = source.target(0)["box_labels"]
  assert (mapped.tolist(), mapped.dtype) == ([0, 2, -1, -1], np.int32)
  with pytest.raises(DataError, match="label 3 is out of range"):
    labels.RelabelledSource(Placed(("a", "b"), box_labels=np.array([0, 3], np.int32)), ("b", "a")).target(0)


def test_labels_of_pixels_are_mapped_and_what_does_not_count_stays_so():
  given = np.array([[0, 0, 2], [255, 2, 0]], np.uint8)
  source = labels.RelabelledSource(Placed(("road", "", "sky"), segmentation=given), ("sky", "road"))
  mapped = source.target(0)["segmentation"]
  assert (mapped.tolist(), mapped.dtype) == ([[1, 1, 0], [255, 0, 1]], np.uint8)
  with pytest.raises(DataError, match="label 2 is out of range"):
    labels.RelabelledSource(Placed(("sky", "road"), segmentation=given), ("sky", "road", "sea")).target(0)


@pytest.mark.parametrize(
  "target",
  [
    {"label": np.int32(1)},
    {"box_labels": np.array([2, 1, -1], np.int32)},
    {"segmentation": np.array([[0, 255], [1, 2]], np.uint8)},
  ],
  ids=lambda target: next(iter(target)),
)
def test_an_example_of_a_class_without_a_name_is_refused(target):
  """No model has the class, and what is of it would be lost, though the data's own counts have it."""
  message = r"picture/0000\.png: label 1 is of a class without a name, one of 3; name it"
  for classes in (("cat", "", "dog"), ()):  # the second follow the model's list, which has a gap there
    source = labels.RelabelledSource(Placed(classes, **target), ("dog", "", "cat"))
    with pytest.raises(DataError, match=message):
      source.target(0)


def test_relabelled_source():
  source = labels.RelabelledSource(Labelled([9, 0, 1], IMAGENETTE), labels.class_list("imagenet1k"))
  assert [int(source.target(i)["label"]) for i in range(3)] == [701, 0, 217]
  assert source.target(0)["label"].dtype == np.int32
  assert len(source.classes) == 1000
  assert source.id(1) == source.source.id(1)
  np.testing.assert_array_equal(source.picture(1).clip, source.source.picture(1).clip)
  other = labels.RelabelledSource(source.source, labels.class_list("imagenet1001"))
  assert len({source.fingerprint(), other.fingerprint(), source.source.fingerprint()}) == 3


def test_a_source_whose_classes_the_model_lacks_is_refused_at_once():
  with pytest.raises(DataError, match="newt"):
    labels.RelabelledSource(Labelled([0], ["newt"]), labels.class_list("imagenet1k"))


def test_labels_without_names_follow_the_model():
  source = labels.RelabelledSource(Labelled([3, 1000], ()), labels.class_list("imagenet1k"))
  assert int(source.target(0)["label"]) == 3
  with pytest.raises(DataError, match=r"picture/0001\.png: label 1000 is out of range; the model has 1000 classes"):
    source.target(1)


def test_labels_without_names_are_not_taken_for_those_of_a_list_with_a_background():
  thousand_and_one = labels.class_list("imagenet1001")
  with pytest.raises(DataError, match=r"begin with a background.* by a column 'wnid'"):
    labels.RelabelledSource(Labelled([3], ()), thousand_and_one)
  named = labels.RelabelledSource(Labelled([3], labels.class_list("imagenet1k")), thousand_and_one)
  assert int(named.target(0)["label"]) == 4
