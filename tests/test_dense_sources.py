"""Sources of boxes and masks: what is written down becomes what is there, and what cannot be is told or counted."""

import io
import json
import pathlib
import tracemalloc

import numpy as np
import pytest
from fakes import photo
from PIL import Image

from robust_compress.data import boxes, labels, layout, pipeline, segmentations, sources
from robust_compress.specs import parse_data
from robust_compress.types import DataError, InputSpec, Recipe, SpecError

KIT = pathlib.Path(__file__).parent.parent.parent / "shared" / "kit"
IGNORED = labels.IGNORED


def picture(path, height=12, width=16, seed=0):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(photo(height, width, seed)[0]).save(path)


def mask(path, values, mode=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = Image.fromarray(np.asarray(values))
  (image if mode is None else image.convert(mode)).save(path)


def objects(source, index):
  """[(label, kind, x0, y0, x1, y1, area)] of one example, without what fills up."""
  target = source.target(index)
  n = int((target["box_labels"] >= 0).sum())
  assert not target["boxes"][n:].any()
  assert (target["box_labels"][n:] == -1).all()
  columns = (target["box_labels"], target["box_kinds"], *target["boxes"].T, target["box_areas"])
  return [tuple(row) for row in np.stack(columns, 1)[:n].tolist()]


def check_shapes(source):
  """Every target has the dtypes and the one k that `types.Source` promises."""
  k = source.target(0)["boxes"].shape[0]
  wanted = {"boxes": (k, 4), "box_labels": (k,), "box_areas": (k,), "box_kinds": (k,), "size": (2,)}
  dtypes = {"boxes": "f4", "box_labels": "i4", "box_areas": "f4", "box_kinds": "u1", "size": "i4"}
  for index in range(len(source)):
    target = source.target(index)
    assert {name: value.shape for name, value in target.items()} == wanted
    assert all(value.dtype == dtypes[name] for name, value in target.items())
    assert source.picture(index).clip.shape == (1, *target["size"], 3)
  return k


# ------------------------------------------------------------------------------------------------- COCO


def entry(id, image_id, bbox, category_id=3, **more):
  return {"id": id, "image_id": image_id, "category_id": category_id, "bbox": bbox, **more}


def coco_content():
  return {
    "images": [{"id": id, "file_name": f"{id}.png", "height": 12, "width": 16} for id in (7, 5, 6)],
    "categories": [{"id": 9, "name": "dog"}, {"id": 3, "name": "person"}],
    "annotations": [
      entry(1, 5, [2, 3, 4, 5.5], area=10.5, iscrowd=0),
      entry(2, 5, [0, 0, 16, 12], 9, area=150, iscrowd=1),
      entry(3, 7, [-3, 2, 5, 20], ignore=1),
      entry(4, 7, [4, 4, 0, 3]),
      entry(5, 7, [20, 1, 3, 3]),
    ],
  }


@pytest.fixture
def coco(tmp_path):
  """A function that lays out data/zoo as COCO is, with any content of its file."""
  for id in (5, 6, 7):
    picture(tmp_path / f"data/zoo/val/{id}.png", seed=id)

  def write(content):
    file = tmp_path / "data/zoo/annotations/instances_val.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path / "data"

  return write


def test_coco(coco):
  source = sources.open_source("coco(path=zoo):val", coco(coco_content()))
  assert source.classes == ("person", "dog")  # by the ids of categories
  assert [source.id(i) for i in range(3)] == ["5.png", "6.png", "7.png"]
  assert check_shapes(source) == 2
  assert objects(source, 0) == [(0, 0, 2, 3, 6, 8.5, 10.5), (1, 1, 0, 0, 16, 12, 150)]
  assert objects(source, 1) == []
  assert objects(source, 2) == [(0, 2, 0, 2, 2, 12, 20)]  # cut to the picture, and its area with it
  np.testing.assert_array_equal(source.picture(0).clip, photo(12, 16, 5))


def counts_of(source):
  """Of all its pictures."""
  return boxes.counts_of(source, [source.id(index) for index in range(len(source))])


def test_what_is_mended_is_counted(coco):
  data_dir = coco(coco_content())
  source = sources.open_source("coco(path=zoo):val", data_dir)
  wanted = {"pictures": 3, "without_objects": 1, "objects": 1, "crowds": 1, "difficult": 1, "without_picture": 0}
  wanted |= {"boxes_clipped": 1, "boxes_dropped": 2, "boxes_outside_view": 0}
  assert counts_of(source) == wanted
  assert counts_of(labels.RelabelledSource(source, labels.class_list("coco91"))) == wanted
  part = sources.open_source("coco(path=zoo):val[:2]", data_dir)
  assert counts_of(part) == wanted | {"pictures": 2, "difficult": 0, "boxes_clipped": 0, "boxes_dropped": 0}
  assert objects(part, 0) == objects(source, 0)
  assert part.read(1) == (data_dir / "zoo/val/6.png").read_bytes()
  assert counts_of(sources.open_source("scenes(n=1):val")) is None


def test_what_is_counted_is_what_the_view_leaves_of_the_pictures_that_were_measured(coco):
  source = sources.open_source("coco(path=zoo):val", coco(coco_content()))
  viewed = sources.ViewedSource(source, sources.View(crop=8))  # the box at the border of 7.png lies beyond
  whole = counts_of(source)
  assert counts_of(viewed) == whole | {"without_objects": 2, "difficult": 0, "boxes_outside_view": 1}
  read = boxes.counts_of(viewed, ["5.png", "7.png"])
  assert read == counts_of(viewed) | {"pictures": 2, "without_objects": 1}
  nothing = boxes.counts_of(viewed, [])
  assert (nothing["pictures"], nothing["objects"], nothing["boxes_dropped"]) == (0, 0, 0)


def test_fingerprints_follow_annotations_and_pictures(coco):
  def fingerprint(content):
    return sources.open_source("coco(path=zoo):val", coco(content)).fingerprint()

  first, moved, named = coco_content(), coco_content(), coco_content()
  moved["annotations"][0]["bbox"][0] = 2.5
  named["categories"][0]["name"] = "cat"
  prints = [fingerprint(content) for content in (first, moved, named, first)]
  picture(coco(first) / "zoo/val/6.png", seed=60)
  prints.append(fingerprint(first))
  assert len(set(prints)) == 4
  assert prints[0] == prints[3]


def test_coco_in_another_layout(coco):
  data_dir = coco(coco_content())
  (data_dir / "zoo/annotations/instances_val.json").rename(data_dir / "zoo/all.json")
  source = sources.open_source("coco(path=zoo,file=all.json,images=val):all", data_dir)
  assert len(source) == 3
  with pytest.raises(DataError, match=r"all\.json has the one split 'all', not 'val'"):
    sources.open_source("coco(path=zoo,file=all.json,images=val):val", data_dir)
  with pytest.raises(DataError, match=r"no file .*instances_train\.json"):
    sources.open_source("coco(path=zoo):train", data_dir)


def changed(key, **fields):
  """COCO's content with the last entry of a list changed."""
  content = coco_content()
  content[key][-1] |= fields
  return content


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("{", "not a JSON file"),
    ("[" * 100_000, "not a JSON file"),
    ('{"a":' * 100_000, "not a JSON file"),
    ("[]", "expected COCO's object"),
    ({"images": []}, "categories is 'None'; expected a list"),
    (changed("images", id=7), r"images\[2\] has the id 7, which stands before it"),
    (changed("annotations", id=1), r"annotations\[4\] has the id 1, which stands before"),
    (changed("categories", id=9), "has the id 9"),
    (changed("categories", name="dog"), "two categories have one name"),
    (changed("images", file_name="5.png"), r"images 5 and 6 are one file, 5\.png"),
    (changed("images", file_name="../secret.png"), r"image 6: file '\.\./secret\.png' leads out of"),
    (changed("images", width=0), "0x12 is no size"),
    (changed("images", width="16"), "image 6: width is '16'; expected a whole number"),
    (changed("annotations", image_id=8), "annotation 5 is of image 8, which the file does not have"),
    (changed("annotations", category_id=4), "annotation 5 is of category 4"),
    (changed("annotations", bbox=[1, 2, 3]), r"annotation 5: bbox is \[1, 2, 3\]; expected x, y"),
    (changed("annotations", bbox=[1, 2, 3, float("nan")]), "annotation 5: bbox"),
    (changed("annotations", bbox=[1, 2, 3, 10**300]), "annotation 5: bbox"),
    (changed("annotations", area=float("inf")), "annotation 5: area inf"),
  ],
)
def test_wrong_coco_files_are_named(coco, content, message):
  data_dir = coco(content)
  with pytest.raises(DataError, match=rf"instances_val\.json: .*{message}"):
    sources.open_source("coco(path=zoo):val", data_dir)


def test_a_file_that_is_too_large_is_not_parsed(coco, monkeypatch):
  monkeypatch.setattr(sources.coco_json, "MAX_BYTES", 100)
  with pytest.raises(DataError, match=r"instances_val\.json: \d+ bytes; at most 100"):
    sources.open_source("coco(path=zoo):val", coco(coco_content()))


def test_the_largest_file_that_is_parsed_fits_in_memory(coco):
  data_dir = coco(coco_content())
  with (data_dir / "zoo/annotations/instances_val.json").open("r+b") as stream:
    stream.truncate(600 << 20)  # a hole, which takes no space on the disk
  with pytest.raises(DataError, match=r"instances_val\.json: 629145600 bytes; at most 536870912"):
    sources.open_source("coco(path=zoo):val", data_dir)


def test_a_file_of_nothing_but_empty_lists_is_not_parsed(coco):
  """50 MB of which a gigabyte would be made, and 12 of the largest file that is read."""
  data_dir = coco('{"images":[' + "[]," * (1 << 24) + "[]]}")
  tracemalloc.start()
  try:
    with pytest.raises(DataError, match=r"instances_val\.json: 33554436 keys and values beside polygons; at most 335"):
      sources.open_source("coco(path=zoo):val", data_dir)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 200e6


def test_polygons_beyond_number_are_values(coco, monkeypatch):
  """Leaving one out takes memory too."""
  monkeypatch.setattr(sources.coco_json, "MAX_VALUES", 1000)
  monkeypatch.setattr(sources.coco_json, "_MAX_POLYGONS", 5)
  polygons = '"counts":[0,0,0],' * 400
  with pytest.raises(DataError, match=r"instances_val\.json: 19\d\d keys and values beside polygons"):
    sources.open_source("coco(path=zoo):val", coco("{" + polygons + '"images":[]}'))


def test_polygons_do_not_count_as_values(coco, monkeypatch):
  monkeypatch.setattr(sources.coco_json, "MAX_VALUES", 200)
  polygons = [[0.5, 1, 2e1] * 50, [-1, 2]]
  mask = {"counts": list(range(200)), "size": [12, 16]}
  content = coco_content()
  content["annotations"][0] |= {"segmentation": polygons}
  content["annotations"][1] |= {"segmentation": mask, "counts": []}
  content["annotations"][2] = {"segmentation": [], **content["annotations"][2]}
  expected = sources.open_source("coco(path=zoo):val", coco(coco_content()))
  for text in (json.dumps(content), json.dumps(content, indent=1), json.dumps(content, separators=(",", ":"))):
    source = sources.open_source("coco(path=zoo):val", coco(text))
    assert [objects(source, i) for i in range(3)] == [objects(expected, i) for i in range(3)]


def test_a_name_that_reads_like_polygons_stays_whole(coco):
  name = '"segmentation":[[1,2]].png'
  data_dir = coco(changed("images", file_name=name))
  picture(data_dir / "zoo/val" / name)
  assert sources.open_source("coco(path=zoo):val", data_dir).id(1) == name


def test_polygons_are_not_kept_while_a_file_is_parsed(coco):
  polygon = np.arange(2000).astype(float).tolist()
  content = coco_content()
  content["annotations"] = [entry(id, 5, [2, 3, 4, 5.5], segmentation=[polygon]) for id in range(40)]
  data_dir = coco(content)
  n_bytes = (data_dir / "zoo/annotations/instances_val.json").stat().st_size
  tracemalloc.start()
  try:
    source = sources.open_source("coco(path=zoo):val", data_dir)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert len(objects(source, 0)) == 40
  assert peak < 1.5 * n_bytes  # the file; with its polygons and its text six times as much


def test_a_picture_of_another_size_than_its_annotations(coco):
  source = sources.open_source("coco(path=zoo):val", coco(changed("images", width=20)))
  with pytest.raises(DataError, match=r"6\.png: the picture is 16x12, and what its annotations describe is of 20x12"):
    source.picture(1)


def test_links_of_coco_stay_inside(coco, tmp_path):
  picture(tmp_path / "secret/8.png")
  content = changed("images", file_name="8.png")
  link = coco(content) / "zoo/val/8.png"
  link.symlink_to(tmp_path / "secret/8.png")
  with pytest.raises(DataError, match="leads out of"):
    sources.open_source("coco(path=zoo):val", coco(content))
  link.unlink()
  (link.parent / "more").symlink_to(tmp_path / "data/zoo/val")
  content = changed("images", file_name="more/5.png")
  assert sources.open_source("coco(path=zoo):val", coco(content)).id(1) == "more/5.png"


# ------------------------------------------------------------------------------------------------- YOLO


@pytest.fixture
def yolo(tmp_path):
  """A function that writes data/toys/labels/train/NAME.txt, beside pictures a and b."""
  for seed, name in enumerate("ab"):
    picture(tmp_path / f"data/toys/images/train/{name}.png", 20, 40, seed)
  (tmp_path / "data/toys/names.txt").write_text("ball\nkite\n")

  def write(**texts):
    for name, text in texts.items():
      file = tmp_path / f"data/toys/labels/train/{name}.txt"
      file.parent.mkdir(parents=True, exist_ok=True)
      file.write_text(text)
    return tmp_path / "data"

  return write


def test_yolo(yolo):
  data_dir = yolo(a="1 0.5 0.5 0.25 0.5\n\n0 0.0 0.5 0.5 1\n0 0.5 0.5 0 0.2\n", gone="0 0 0 1 1\n", classes="ball\n")
  source = sources.open_source("yolo(path=toys,classes=names.txt):train", data_dir)
  assert (source.classes, [source.id(i) for i in range(2)]) == (("ball", "kite"), ["a.png", "b.png"])
  assert check_shapes(source) == 2
  assert objects(source, 0) == [(1, 0, 15, 5, 25, 15, 100), (0, 0, 0, 0, 10, 20, 200)]
  assert objects(source, 1) == []  # a picture without a text
  wanted = {"objects": 2, "boxes_clipped": 1, "boxes_dropped": 1, "without_objects": 1, "without_picture": 1}
  assert wanted.items() <= counts_of(source).items()


def test_yolo_where_nothing_has_objects(yolo):
  source = sources.open_source("yolo(path=toys,classes=coco80):train", yolo(a="", b=""))
  assert check_shapes(source) == 1
  assert objects(source, 0) == []


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("2 0.5 0.5 0.1 0.1", "class 2 is out of range; there are 2 classes"),
    ("-1 0.5 0.5 0.1 0.1", "class -1 is out of range"),
    ("0.0 0.5 0.5 0.1 0.1", "class 0.0 is out of range"),
    ("0 0.5 0.5 0.1", "expected a class and four numbers"),
    ("0 0.5 0.5 0.1 0.1 0.9", "expected a class and four numbers"),
    ("0 0.5 nan 0.1 0.1", "expected a class and four numbers"),
    ("0 12 5 4 4", "expected shares of the picture's width and height, not pixels"),
  ],
)
def test_wrong_lines_of_yolo_are_named(yolo, line, message):
  with pytest.raises(DataError, match=rf"labels/train/a\.txt, line 2: .*{message}"):
    sources.open_source("yolo(path=toys,classes=names.txt):train", yolo(a=f"0 0.5 0.5 0.1 0.1\n{line}\n"))


@pytest.mark.parametrize(("classes", "label"), [("coco91", 0), ("coco91", 12), ("gap.txt", 1)])
def test_an_object_of_a_class_without_a_name_is_refused(yolo, classes, label):
  """Texts that count from 0 with a list that counts from 1; a line of the list left empty."""
  data_dir = yolo(a=f"2 0.5 0.5 0.1 0.1\n{label} 0.5 0.5 0.1 0.1\n")
  (data_dir / "toys/gap.txt").write_text("ball\n\nkite\n")
  with pytest.raises(DataError, match=rf"train/a\.txt, line 2: class {label} has no name in .*: coco80 from 0"):
    sources.open_source(f"yolo(path=toys,classes={classes}):train", data_dir)


@pytest.mark.parametrize(
  ("data", "error", "message"),
  [
    ("yolo(path=toys):train", SpecError, "yolo needs class names: classes=coco80"),
    ("yolo(path=toys,classes=coco81):train", DataError, r"classes=coco81 is no file in .*has .*names\.txt.*coco80"),
    ("yolo(path=toys,classes=../names.txt):train", DataError, "leads out of"),
    ("yolo(path=toys,classes=coco80,labels=texts/split):train", DataError, "no folder .*texts/train"),
    ("yolo(path=toys,classes=coco80,images=images/train):train", DataError, "images/train has the one split 'all'"),
    ("yolo(path=toys,classes=coco80):test", DataError, "no folder .*images/test; .* has train"),
  ],
)
def test_what_yolo_lacks_is_said(yolo, data, error, message):
  with pytest.raises(error, match=message):
    sources.open_source(data, yolo(a="0 0.5 0.5 0.1 0.1"))


def test_yolo_whose_texts_have_other_names(yolo):
  with pytest.raises(DataError, match=r"c\.txt: neither this text nor another has the name of a picture"):
    sources.open_source("yolo(path=toys,classes=coco80):train", yolo(c=""))


def test_class_files(tmp_path):
  (tmp_path / "a.txt").write_text("\nball\n\nkite\n\n")
  assert layout.class_names("yolo", tmp_path, "a.txt") == ("", "ball", "", "kite")
  for text, message in (("ball\nkite\nball\n", "twice: ball"), ("\n", "it is empty")):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=rf"a\.txt: .*{message}"):
      layout.class_names("yolo", tmp_path, "a.txt")
  (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
  with pytest.raises(DataError, match=r"a\.txt: not a text in UTF-8"):
    layout.class_names("yolo", tmp_path, "a.txt")


# -------------------------------------------------------------------------------------------------- VOC

DOG = """<object><name>dog</name><difficult>{}</difficult><part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin>
<xmax>9</xmax><ymax>9</ymax></bndbox></part><bndbox><xmin>{}</xmin><ymin>3</ymin><xmax>8</xmax><ymax>7.5</ymax></bndbox>
</object>"""
SIZE = "<size><width>16</width><height>12</height><depth>3</depth></size>"


@pytest.fixture
def voc(tmp_path):
  """A function that writes the annotations of picture a of data/VOC; b has no objects."""
  root = tmp_path / "data/VOC"
  for seed, name in enumerate("ab"):
    picture(root / f"JPEGImages/{name}.png", seed=seed)
  (root / "Annotations").mkdir()
  (root / "Annotations/b.xml").write_text("<annotation></annotation>")
  (root / "ImageSets/Main").mkdir(parents=True)
  (root / "ImageSets/Main/test.txt").write_text("b\na\n")

  def write(text):
    (root / "Annotations/a.xml").write_text(text)
    return tmp_path / "data"

  return write


def test_voc(voc):
  xml = f"<?xml version='1.0'?><annotation><filename>x.jpg</filename>{SIZE}{DOG.format(0, 2)}{DOG.format(1, 1)}"
  data_dir = voc(f"{xml}</annotation>")
  source = sources.open_source("voc(path=VOC):test", data_dir)
  assert (source.classes, [source.id(i) for i in range(2)]) == (labels.class_list("voc20"), ["b", "a"])
  assert check_shapes(source) == 2
  assert objects(source, 0) == []
  assert objects(source, 1) == [(11, 0, 1, 2, 8, 7.5, 38.5), (11, 2, 0, 2, 8, 7.5, 44)]  # counted from 1, last inside
  assert [sources.open_source("voc(path=VOC):all", data_dir).id(i) for i in range(2)] == ["a", "b"]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("<annotation>", "not an XML file"),
    ("<?xml version='1.0' encoding='GBK'?><a/>", r"its encoding cannot be read \(multi-byte .*\); save it as UTF-8"),
    ("<?xml version='1.0' encoding='Shift_JIS'?><a/>", "its encoding cannot be read .*; save it as UTF-8"),
    ("<?xml version='1.0' encoding='nonsuch'?><a/>", "its encoding cannot be read .*nonsuch.*; save it as UTF-8"),
    ('<!DOCTYPE a [<!ENTITY e "dog">]><a><object><name>&e;</name></object></a>', "has a document type"),
    ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "has a document type"),
    (f"<a>{DOG.format(0, 2).replace('>dog<', '>newt<')}</a>", "object 1: class 'newt' is not among the 20"),
    ("<a><object></object></a>", "object 1: class '' is not among"),
    (f"<a>{DOG.format(0, 2)}{DOG.format(0, 'left')}</a>", r"object 2: its box is \['left', '3', '8', '7.5'\]"),
    (f"<a>{'<object>' * 70_000}</a>", "not an XML file"),
    (f"<a>{' ' * (1 << 20)}</a>", "bytes; at most 1048576"),
  ],
)
def test_wrong_annotations_of_voc_are_named(voc, text, message):
  with pytest.raises(DataError, match=rf"Annotations/a\.xml[:,] .*{message}"):
    sources.open_source("voc(path=VOC):test", voc(text))


@pytest.mark.parametrize(
  ("data", "where"),
  [
    ("coco(path=zoo):val", r"instances_val\.json: image 5"),
    ("yolo(path=toys,classes=names.txt):train", r"labels/train/a\.txt"),
    ("voc(path=VOC):test", r"Annotations/a\.xml"),
  ],
)
def test_a_picture_with_too_many_boxes_is_named(coco, yolo, voc, monkeypatch, data, where):
  monkeypatch.setattr(boxes, "MAX_BOXES", 1)
  coco(coco_content()), yolo(a="0 0.5 0.5 0.1 0.1\n" * 2)
  data_dir = voc(f"<a>{DOG.format(0, 2) * 2}</a>")
  with pytest.raises(DataError, match=rf"{where}: 2 boxes; at most 1 are taken.*Leave it out"):
    sources.open_source(data, data_dir)


def test_what_voc_lacks_is_said(voc):
  data_dir = voc("<annotation></annotation>")
  names = data_dir / "VOC/ImageSets/Main/test.txt"
  for text, message in (
    ("a\nc\n", "test names 'c', and there is no such picture"),
    ("a\nb\na\n", r"ImageSets/Main/test\.txt: ids must be unique; more than once stand a\. Leave one"),
    ("a  1\nb -1\n", r"test\.txt: 'a  1'; expected a name a line"),
  ):
    names.write_text(text)
    with pytest.raises(DataError, match=message):
      sources.open_source("voc(path=VOC):test", data_dir)
  names.write_text("a\n")
  (data_dir / "VOC/Annotations/a.xml").unlink()
  with pytest.raises(DataError, match=r"a\.xml: cannot be read"):
    sources.open_source("voc(path=VOC):test", data_dir)
  with pytest.raises(DataError, match=r"no split 'val' in .*has test\.txt"):
    sources.open_source("voc(path=VOC):val", data_dir)


def test_a_voc_file_of_another_size_is_found_with_its_picture(voc):
  source = sources.open_source("voc(path=VOC):test", voc(f"<a>{SIZE.replace('16', '17')}</a>"))
  with pytest.raises(DataError, match="a: the picture is 16x12, and what its annotations describe is of 17x12"):
    source.picture(1)


# ------------------------------------------------------------------------------------------------- masks

STREET = np.tile(np.array([0, 1, 2, 11], np.uint8), (12, 4))


@pytest.fixture
def street(tmp_path):
  """data/street/{train,trainannot}/a.png, as SegNet has CamVid."""
  picture(tmp_path / "data/street/train/a.png")
  mask(tmp_path / "data/street/trainannot/a.png", STREET)
  return tmp_path / "data"


CAMVID = "masks(path=street,images=split,masks=splitannot,classes=camvid11,ignore=11):train"


def test_masks(street):
  source = sources.open_source(CAMVID, street)
  assert (len(source), source.id(0), source.classes) == (1, "a.png", labels.class_list("camvid11"))
  target = source.target(0)
  np.testing.assert_array_equal(target["segmentation"], np.where(STREET == 11, IGNORED, STREET))
  assert (target["segmentation"].dtype, target["size"].tolist()) == (np.uint8, [12, 16])
  np.testing.assert_array_equal(source.picture(0).clip, photo(12, 16))
  assert source.read(0) == (street / "street/train/a.png").read_bytes()
  part = sources.open_source(f"{CAMVID}[:1]", street)
  assert part.fingerprint() == source.fingerprint()


def test_fingerprints_follow_masks_and_what_their_values_mean(street):
  prints = [sources.open_source(data, street).fingerprint() for data in (CAMVID, CAMVID.replace("=11", "=12"))]
  mask(street / "street/trainannot/a.png", np.roll(STREET, 1, 1))
  prints.append(sources.open_source(CAMVID, street).fingerprint())
  assert len(set(prints)) == 3


def test_palettes_shifts_and_wide_masks(street):
  """ADE20K counts from 1, its 0 being none; a palette's colours are not looked at; 16 bits are read whole."""
  file, shifted = street / "street/trainannot/a.png", CAMVID.replace("ignore=11", "shift=1")
  wanted = np.where(STREET == 0, IGNORED, STREET - 1)
  image = Image.fromarray(STREET).convert("P")
  image.putpalette([255 - i % 251 for i in range(768)])
  image.save(file)
  np.testing.assert_array_equal(sources.open_source(shifted, street).target(0)["segmentation"], wanted)
  mask(file, STREET.astype(np.uint16))
  np.testing.assert_array_equal(sources.open_source(shifted, street).target(0)["segmentation"], wanted)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    (np.where(STREET == 2, 57, STREET).astype(np.uint8), r"the value 57 at x=2, y=0 is no class; there are 11"),
    (np.where(STREET == 2, 300, STREET.astype(np.uint16)), "the value 300 at x=2, y=0 is no class"),
    (np.zeros((12, 16, 3), np.uint8), "a mask of RGB pixels; expected one number a pixel"),
    (STREET[:, :8], r"train/a\.png is 16x12, and its mask .*trainannot/a\.png is of 8x12"),
  ],
)
def test_wrong_masks_are_named(street, values, message):
  mask(street / "street/trainannot/a.png", values)
  with pytest.raises(DataError, match=rf"a\.png.*{message}" if "is 16x12" not in message else message):
    sources.open_source(CAMVID, street).target(0)


def test_pixels_of_a_class_without_a_name_are_refused(street):
  (street / "street/names.txt").write_text("sky\n\nroad\n")
  source = sources.open_source(CAMVID.replace("camvid11", "names.txt"), street)
  with pytest.raises(DataError, match=r"a\.png: label 1 is of a class without a name, one of 3; .*by ignore="):
    labels.RelabelledSource(source, ("road", "sky")).target(0)
  ignored = sources.open_source(CAMVID.replace("camvid11", "names.txt").replace("=11", "=1"), street)
  mask(street / "street/trainannot/a.png", STREET % 3)
  found = labels.RelabelledSource(ignored, ("road", "sky")).target(0)["segmentation"]
  np.testing.assert_array_equal(found, np.array([1, IGNORED, 0])[STREET % 3])


def test_a_damaged_mask_is_named(street):
  file = street / "street/trainannot/a.png"
  file.write_bytes(file.read_bytes()[:50])
  with pytest.raises(DataError, match=r"trainannot/a\.png: unreadable or truncated mask"):
    sources.open_source(CAMVID, street).target(0)


@pytest.mark.parametrize(("lone", "lacks"), [("train/b.png", "mask"), ("trainannot/b.png", "picture")])
def test_pictures_and_masks_come_in_pairs(street, lone, lacks):
  picture(street / "street" / lone)
  with pytest.raises(DataError, match=rf"{lone}: without a {lacks} of its name in .*Expected one each"):
    sources.open_source(CAMVID, street)


def test_two_masks_of_one_name(street):
  mask(street / "street/trainannot/a.bmp", STREET)
  with pytest.raises(DataError, match=r"a\.png: has the name of .*a\.bmp"):
    sources.open_source(CAMVID, street)


@pytest.mark.parametrize("data", ["masks(path=street,naming=city):train", CAMVID.replace("ignore=11", "shift=300")])
def test_options_of_masks_that_mean_nothing(street, data):
  with pytest.raises(SpecError, match=r"did you mean .cityscapes.|values below 256"):
    sources.open_source(data, street)


IDS = np.array([[0, 7, 8, 33, 34 - 1, 23], [26, 24, 31, 1, 255, 11]], np.uint8)
TRAIN_IDS = np.array([[255, 0, 1, 18, 18, 10], [13, 11, 16, 255, 255, 2]], np.uint8)


def test_cityscapes(tmp_path):
  picture(tmp_path / "city/leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png", 2, 6)
  mask(tmp_path / "city/gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png", IDS)
  mask(tmp_path / "city/gtFine/val/ulm/ulm_000000_000019_gtFine_instanceIds.png", IDS)
  source = sources.open_source("masks(path=city,naming=cityscapes):val", tmp_path)
  assert (source.id(0), len(source.classes)) == ("ulm/ulm_000000_000019_leftImg8bit.png", 19)
  np.testing.assert_array_equal(source.target(0)["segmentation"], TRAIN_IDS)
  table = sources.mask_folders.CITYSCAPES_VALUES
  with pytest.raises(DataError, match="a: the value 40 at x=0, y=0 is no class"):
    segmentations.read_mask(encoded(np.full((1, 1), 40, np.uint8)), "a", table)


def encoded(values):
  stream = io.BytesIO()
  Image.fromarray(values).save(stream, "PNG")
  return stream.getvalue()


def test_the_labelled_frames_of_clips(tmp_path):
  folder = tmp_path / "leftImg8bit_sequence/val/ulm"
  for number in range(30):
    picture(folder / f"ulm_000000_{number:06d}_leftImg8bit.png", 2, 6, number)
  mask(tmp_path / "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png", IDS)
  data = "frames(path=leftImg8bit_sequence,naming=cityscapes,masks=gtFine,length=8,stride=3):val"
  source = sources.open_source(data, tmp_path)
  assert (source.id(0), source.classes[0]) == ("ulm/ulm_000000_000019", "road")
  np.testing.assert_array_equal(source.target(0)["segmentation"], TRAIN_IDS)
  np.testing.assert_array_equal(
    sources.ViewedSource(source, sources.View(length=8, stride=3)).picture(0).clip.shape, (8, 2, 6, 3)
  )
  assert source.picture(0).clip.shape == (30, 2, 6, 3)
  assert not hasattr(source, "read")  # of pictures that are files, which clips are not
  mask(tmp_path / "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png", IDS[:, :3])
  with pytest.raises(DataError, match=r"000019_leftImg8bit\.png is 6x2, and its mask .* is of 3x2"):
    source.target(0)
  (tmp_path / "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
  with pytest.raises(DataError, match=r"its mask .*labelIds\.png is not there"):
    sources.open_source(data, tmp_path)
  with pytest.raises(SpecError, match="expected naming=cityscapes"):
    sources.open_source("frames(path=leftImg8bit_sequence,masks=gtFine):val", tmp_path)


PICTURES, CLIPS = InputSpec((2, 6), None), InputSpec((2, 6), None, clips=True)


@pytest.mark.parametrize(
  ("view", "input", "complaint"),
  [
    ("length=8,stride=3,frames=5", PICTURES, None),
    ("frames=19", PICTURES, None),
    ("length=8,stride=3", CLIPS, None),
    ("length=8,stride=3,frames=4", PICTURES, "frames=4 feeds frame 16 .* labels are of frame 19; use frames=5"),
    ("frames=30", PICTURES, "frames=30 feeds 0 frames .* use frames=19"),
    ("length=8,stride=3", PICTURES, "frames=all feeds 8 frames .* use frames=5.* relative .* without"),
    ("length=1", PICTURES, "frames=all feeds frame 14 .* length and stride leave that out; .* frames=19"),
    ("length=4", CLIPS, "leave that out"),
  ],
)
def test_no_other_frame_is_scored_by_the_mask_of_the_labelled_one(tmp_path, view, input, complaint):
  """As a study opens it: a slice, under a view, with other labels."""
  for number in range(30):
    picture(tmp_path / f"clips/val/ulm/ulm_000000_{number:06d}_leftImg8bit.png", 2, 6, number)
  mask(tmp_path / "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png", IDS)
  data = parse_data(f"frames(path=clips,naming=cityscapes,masks=gtFine,input=asis,{view}):val[:1]")
  viewed = sources.ViewedSource(sources.open_source(data, tmp_path), data.view)
  source = labels.RelabelledSource(viewed, labels.class_list("cityscapes19"))
  if complaint is None:
    [batch] = pipeline.eval_batches(source, input, data.view, 1)
    labelled = batch["image"][0] if not input.clips else batch["image"][0, 5]
    np.testing.assert_array_equal(labelled, photo(2, 6, 19)[0])
    return
  with pytest.raises(SpecError, match=complaint):
    pipeline.eval_batches(source, input, data.view, 1)
  with pytest.raises(SpecError, match=complaint):
    pipeline.train_batches([source], input, data.view, Recipe(steps=1), 0)


# ------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("place", ["street/train/b.png", "street/trainannot/b.png", "street/trainannot"])
def test_links_stay_inside(street, tmp_path, place):
  outside = tmp_path / "outside"
  picture(outside / "b.png")
  link = street / place
  if link.is_dir():
    link.rename(tmp_path / "moved")
  link.symlink_to(outside / "b.png" if place.endswith("png") else outside)
  with pytest.raises(DataError, match="leads out of"):
    sources.open_source(CAMVID, street)


# -------------------------------------------------------------------------------------------------- TFDS


def made_sets(features, box):
  """{name: (config and version, features, examples)} with the features of coco, voc, cityscapes and scene_parse150."""
  boxed = {"bbox": features.BBoxFeature(), "label": features.ClassLabel(names=["cat", "dog"])}
  thing = {"bbox": box(0.25, 0.125, 0.5, 0.5), "label": "dog"}
  animals = {"image": features.Image(), "objects": features.Sequence(boxed | {"is_crowd": np.bool_, "area": np.int64})}
  names = features.ClassLabel(names=labels.class_list("voc20"))
  of_voc = {"label": names, "bbox": boxed["bbox"], "is_truncated": np.bool_, "is_difficult": np.bool_}
  of_voc["pose"] = features.ClassLabel(names=["frontal", "rear", "left", "right", "unspecified"])
  voc = {"image": features.Image(), "image/filename": features.Text(), "objects": features.Sequence(of_voc)}
  voc |= {key: features.Sequence(names) for key in ("labels", "labels_no_difficult")}
  cityscapes = {"image_id": features.Text(), "image_left": features.Image(shape=(2, 6, 3))}
  cityscapes["segmentation_label"] = features.Image(shape=(2, 6, 1))
  place = {"image": features.Image(), "annotation": features.Image()}
  dog = {"bbox": box(3 / 12, 2 / 16, 7 / 12, 8 / 16), "label": "dog", "pose": "left"}
  dog |= {"is_truncated": False, "is_difficult": True}
  scene, street = encoded(photo(12, 16)[0]), encoded(photo(2, 6)[0])
  crowds = [{**thing, "is_crowd": crowd, "area": 6} for crowd in (True, False)]
  return {
    "Animals": (("", "1.0.0"), animals, [
      {"image": scene, "objects": [{**thing, "is_crowd": False, "area": 5}]},
      {"image": encoded(photo(8, 8)[0]), "objects": []},
      {"image": scene, "objects": crowds},
    ]),
    "Voc": (("2007", "5.0.0"), voc, [
      {"image": scene, "image/filename": "a", "objects": [dog], "labels": ["dog"], "labels_no_difficult": []}
    ]),
    "Cityscapes": (("semantic_segmentation", "1.0.0"), cityscapes, [
      {"image_id": "a", "image_left": street, "segmentation_label": encoded(IDS)}
    ]),
    "SceneParse150": (("", "1.0.0"), place, [{"image": street, "annotation": street}]),
  }  # fmt: skip


@pytest.fixture(scope="module", params=["array_record", "tfrecord"])
def prepared(request, tmp_path_factory):
  """TFDS sets of our own, in a format with random access and in one without."""
  import tensorflow_datasets as tfds

  class Base(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    made: dict
    examples: tuple

    def _info(self):
      return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.made))

    def _split_generators(self, dl_manager):
      return {"validation": self._generate_examples()}

    def _generate_examples(self):
      for n, example in enumerate(self.examples):
        yield n, {key: io.BytesIO(value) if isinstance(value, bytes) else value for key, value in example.items()}

  data_dir = tmp_path_factory.mktemp(request.param)
  for name, ((config, version), made, examples) in made_sets(tfds.features, tfds.features.BBox).items():
    fields = {"made": made, "examples": tuple(examples), "VERSION": tfds.core.Version(version)}
    if config:
      fields["BUILDER_CONFIGS"] = [tfds.core.BuilderConfig(name=config, version=version)]
    builder = type(name, (Base,), fields, skip_registration=True)
    builder(data_dir=data_dir, file_format=request.param).download_and_prepare()
  return data_dir


def test_tfds_boxes(prepared):
  source = sources.open_source("animals:validation", prepared)
  assert (len(source), source.classes) == (3, ("cat", "dog"))
  assert check_shapes(source) == 2
  found = sorted(objects(source, i) for i in range(3))
  corners = (2, 3, 8, 6)
  assert found == [[], [(1, 0, *corners, 5)], [(1, 1, *corners, 6), (1, 0, *corners, 6)]]
  assert counts_of(source)["crowds"] == 1
  part = sources.open_source("animals:validation[1:3]", prepared)
  assert [part.id(i) for i in range(2)] == ["validation-00000001", "validation-00000002"]
  assert objects(part, 1) == objects(source, 2)
  again = sources.open_source("animals:validation", prepared)
  assert part.fingerprint() != source.fingerprint() == again.fingerprint()


def test_tfds_boxes_of_voc_count_from_1(prepared):
  source = sources.open_source("voc/2007:validation", prepared)
  [found] = objects(source, 0)
  assert found == pytest.approx((11, 2, 1, 2, 8, 7, 35), abs=1e-4)
  assert source.classes == labels.class_list("voc20")


def test_tfds_masks(prepared):
  source = sources.open_source("cityscapes:validation", prepared)
  np.testing.assert_array_equal(source.target(0)["segmentation"], TRAIN_IDS)
  assert (source.classes, source.picture(0).clip.shape) == (labels.class_list("cityscapes19"), (1, 2, 6, 3))
  assert source.fingerprint() == sources.open_source("cityscapes:validation", prepared).fingerprint()


def test_tfds_instances_are_no_masks(prepared):
  with pytest.raises(DataError, match=r"scene_parse150.*instances of 100 classes.*masks\(path=ADEChallengeData2016"):
    sources.open_source("scene_parse150:validation", prepared)


# --------------------------------------------------------------------------------------------------- kit


@pytest.mark.skipif(not (KIT / "coco128x").is_dir(), reason=f"the reality kit is not at {KIT}")
def test_coco128x_of_the_kit():
  data = "yolo(path=coco128x,labels=object_detection/labels/split,classes=coco80):train2017"
  source = sources.open_source(data, KIT)
  wanted = {"pictures": 128, "without_objects": 2, "objects": 929, "boxes_dropped": 0, "without_picture": 2}
  assert wanted.items() <= counts_of(source).items()
  assert source.target(0)["boxes"].shape == (42, 4)
  named = labels.RelabelledSource(source, labels.class_list("coco91"))
  given, mapped = (np.concatenate([s.target(i)["box_labels"] for i in range(128)]) for s in (source, named))
  assert np.bincount(given[given >= 0])[:3].tolist() == [254, 6, 46]
  assert set(mapped[given == 79]) == {90}  # toothbrushes, by the name
  assert source.picture(5).clip.shape[1:3] == tuple(source.target(5)["size"])


@pytest.mark.skipif(not (KIT / "camvid").is_dir(), reason=f"the reality kit is not at {KIT}")
@pytest.mark.parametrize(("split", "n", "road"), [("train", 62, 0.3144), ("val", 26, 0.2891)])
def test_camvid_of_the_kit(split, n, road):
  source = sources.open_source(CAMVID.replace("street", "camvid").replace(":train", f":{split}"), KIT)
  total = sum(np.bincount(source.target(i)["segmentation"].ravel(), minlength=256) for i in range(len(source)))
  shares = total / total.sum()
  assert len(source) == n
  assert not shares[11:IGNORED].any()
  assert shares[source.classes.index("road")] == pytest.approx(road, abs=1e-4)
  assert source.picture(0).clip.shape == (1, 360, 480, 3)
