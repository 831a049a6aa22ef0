"""Reports from invented rows: a world in which what each number must be is known."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import re

import numpy as np
import pytest

from robust_compress import protocols, specs, statistics
from robust_compress.codecs import CODECS
from robust_compress.protocols import Grid
from robust_compress.report import (
  DecodedExample,
  Example,
  compare,
  csv_files,
  curves,
  failures,
  load_examples,
  markup,
  names,
  plots,
  published,
  report,
  save_examples,
  tables,
)
from robust_compress.report.against_jpeg import Comparison, folder_of, save_comparison
from robust_compress.report.paired import Paired
from robust_compress.store import Store
from robust_compress.types import NONE, Cell, DataError, Point, Recipe, Row, Weights

DATA = "imagenet2012(crop=224,resize=256):validation[:400]"
N = 400
POINTS = tuple(map(specs.parse_point, [
  "jpeg@5", "jpeg@10", "jpeg@20", "jpeg@50", "jpeg@90", "webp@1", "webp@10", "webp@30", "webp@60", "webp@95",
]))  # fmt: skip
TUNED = tuple(map(specs.parse_point, ["jpeg@5", "jpeg@10", "jpeg@20", "webp@1", "webp@10"]))
IDS = [f"picture-{i:04d}" for i in range(N)]
EASE = np.random.default_rng(7).normal(size=N)  # how much a picture can lose before it is misread


def grid(**changes) -> Grid:
  fields = {"task": "classification", "model": "resnet18.toy", "base": Weights("file:0123"), "test_data": DATA}
  fields |= {"train_data": "imagenet2012:train[:5000]", "points": POINTS, "finetune_points": TUNED}
  return Grid(**fields | {"recipe": Recipe(epochs=3).canonical()} | changes)


def rate_of(point: Point) -> float:
  if point.bpp is not None:
    return point.bpp
  return {"jpeg": 0.065, "webp": 0.05, "avif": 0.03}[point.codec] * point.level**0.78 + 0.12


def harm(cell: Cell) -> float:
  """How hard a cell's pictures are for its weights; finetuning halves what compression does."""
  lost = 0.0 if cell.test == NONE else 0.62 / rate_of(cell.test) * (0.8 if cell.test.codec == "webp" else 1.0) - 0.42
  share = {"control": 0.95, "mixed": 0.6, "C": 0.42, "matrix": 0.7}.get(protocols.role(cell), 1.0)
  return max(lost, 0) * share - 0.9 + 0.04 * cell.weights.seed + (0.02 if cell.weights.points else 0.0)


def correct(cell: Cell) -> np.ndarray:
  """bool[n]: against the labels, or against the same weights on originals."""
  noise = np.random.default_rng(int(specs.cell_key(cell), 16)).normal(size=N)
  right = EASE + (0.04 if cell.test != NONE else 0) * noise > harm(cell)
  if cell.target == "labels":
    return right
  return right == correct(dataclasses.replace(cell, test=NONE, target="labels"))


def compute(records, weights=None):
  return {name.replace("correct", "top"): float(np.average(records[name], weights=weights)) for name in records}


def measure(store: Store | None, cell: Cell) -> Row:
  records = {"correct1": correct(cell).astype(np.uint8)}
  records["correct5"] = (correct(cell) | (harm(cell) - 0.8 < EASE)).astype(np.uint8)
  drawn = statistics.replicates(compute, records, IDS, n_replicates=200)
  known = cell.test != NONE
  bpp = rate_of(cell.test) if known else None
  n_pixels = N * 224 * 224
  provenance = {"time": "2026-01-02T03:04:05", "versions": {"numpy": "2.4.0", "pillow": "13.0"}, "command": "run"}
  provenance["hardware"] = {"cpu": "invented", "n_cpu": 2}
  n_bytes = int(bpp * n_pixels / 8) if known else None
  intervals = {name: statistics.interval(values) for name, values in drawn.items()}
  fingerprint = {"codec": f"invented {cell.test.codec}", "metric": "1"}
  mean = bpp and bpp * 1.03
  row = Row(cell, N, compute(records), intervals, n_bytes, n_pixels, bpp, mean, fingerprint, provenance, 1.5)
  if store is not None:
    store.put_records(cell, IDS, records, drawn)
    store.put(row)
  return row


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
  """A study of one model by all seven protocols, three of its cells not measured yet."""
  store = Store(tmp_path_factory.mktemp("study"))
  for cell in plan()[:-3]:
    measure(store, cell)
  return store


def plan(names=("baseline", "control", "relative", "matrix", "mixed", "finetuned", "shifted"), **changes) -> list[Cell]:
  cells = protocols.plan(grid(**changes), names)
  gaps = {"jpeg@90", "webp@95", "webp@60"}  # of scenario B; moved last
  return sorted(cells, key=lambda c: str(c.test) in gaps and protocols.role(c) == "B")


def text_of(path) -> str:
  return path.read_text(encoding="utf-8")


class Page(html.parser.HTMLParser):
  """Checks that elements close in order; keeps ids, links to files and the text."""

  def __init__(self, page: str):
    super().__init__()
    self.open, self.ids, self.files, self.text = [], [], [], []
    self.feed(page)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    attributes = dict(attrs)
    if tag not in ("meta", "img", "br"):
      self.open.append(tag)
    self.ids += [attributes["id"]] if "id" in attributes else []
    self.files += [attributes["href"]] if tag == "a" and not attributes["href"].startswith("#") else []
    assert tag != "script"
    assert tag != "img" or attributes["src"].startswith("data:image/png;base64,")
    assert tag not in ("img", "svg") or attributes.get("alt") or attributes.get("aria-label")

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_startendtag(self, tag, attrs):
    pass

  def handle_data(self, data):
    self.text.append(data)


# ------------------------------------------------------------------------------------------------- the page


def test_a_whole_study_is_one_self_contained_page(store, tmp_path):
  path = report(store.rows(), tmp_path, results=store, planned=plan(), command="robust-compress report")
  page = Page(text_of(path))
  assert not re.search(r'(src|href|url)\s*[=(]\s*["\']?(https?:)?//', text_of(path).replace("http://www.w3.org", ""))
  assert len(page.ids) == len(set(page.ids)), "two figures share an id"
  assert "cells.csv" in page.files
  assert all((tmp_path / file).exists() for file in page.files)
  said = " ".join(page.text)
  for part in ("recovers", "BD-rate", "Cheapest setting", "3 of", "test-sampling error only", "resnet18.toy"):
    assert part in said


def test_the_same_rows_make_the_same_page(store, tmp_path):
  rows = [row for row in store.rows() if protocols.role(row.cell) in "ABC"]
  once, again = (text_of(report(rows, tmp_path / str(i), planned=plan(("shifted",)))) for i in range(2))
  assert once == again


@pytest.mark.parametrize(
  "names",
  [
    ("baseline",),
    ("shifted",),
    ("relative",),
    ("finetuned",),
    ("baseline", "shifted"),
    ("shifted", "finetuned"),
    ("matrix",),
  ],
)
def test_any_part_of_a_study_makes_a_page(names, tmp_path):
  rows = [measure(None, cell) for cell in plan(names, points=POINTS[:3], finetune_points=POINTS[:2])]
  Page(text_of(report(rows, tmp_path)))
  Page(text_of(report(rows[:1], tmp_path, planned=[row.cell for row in rows])))


def test_nothing_measured_says_so(tmp_path):
  assert "nothing to report" in text_of(report([], tmp_path / "empty"))
  assert "Nothing is measured yet; 10 cells are planned" in text_of(report([], tmp_path, planned=plan(("shifted",))))


def test_undefined_metrics_and_unknown_codecs_are_drawn_around(tmp_path):
  points = [Point("my.codec:Codec", (("q", 2),), level) for level in (1.0, 2.0, 3.0)]
  base = measure(None, plan(("baseline",))[0])
  rows = [dataclasses.replace(base, cell=dataclasses.replace(base.cell, test=p), bpp=p.level) for p in points]
  rows[1] = dataclasses.replace(rows[1], metrics={"top1": None, "top5": 0.5}, intervals={"top1": (None, None)})
  assert "my.codec" in text_of(report([base, *rows], tmp_path))


def test_text_from_data_is_escaped_everywhere(tmp_path):
  evil = '<script>alert("&")</script>'
  cell = dataclasses.replace(plan(("baseline",))[0], model=evil, weights=Weights(f"file:{evil}"))
  row = dataclasses.replace(measure(None, cell), provenance={"command": evil}, fingerprint={evil: evil})
  picture = np.zeros((8, 8, 3), np.uint8)
  example = Example(evil, picture, None, evil, [DecodedExample(POINTS[0], picture, 12, evil)])
  save_examples(tmp_path / "examples", DATA, [example])
  rows = [row, dataclasses.replace(row, cell=dataclasses.replace(cell, test=POINTS[0]), bpp=1.0)]
  page = Page(text_of(report(rows, tmp_path, examples=tmp_path / "examples", title=evil, command=evil)))
  assert evil in "".join(page.text)
  assert markup.element("p", evil) == "<p>&lt;script&gt;alert(&quot;&amp;&quot;)&lt;/script&gt;</p>"


# ----------------------------------------------------------------------------------------------- the numbers


def one_panel(rows, **kwargs) -> curves.Panel:
  [panel] = curves.panels(rows, **kwargs)
  return panel


def test_roles_gaps_and_order_of_curves(store):
  unreachable = dataclasses.replace(plan(("shifted",))[0], test=Point("webp", bpp=0.05))
  panel = one_panel(store.rows(), planned=plan(), unreachable=[unreachable])
  jpeg, webp = panel.codecs(("B",))
  assert [str(s.test) for s in panel.curve("B", jpeg)] == ["jpeg@5", "jpeg@10", "jpeg@20", "jpeg@50"]
  [gap] = panel.curve("B", jpeg, "missing")
  assert gap.bpp == pytest.approx(rate_of(gap.test)), "its rate is known from another cell on the same pictures"
  assert [s.bpp for s in panel.curve("B", webp, "unreachable")] == [0.05]
  trained, tests = panel.matrix()
  assert trained[:2] == [(), (NONE,)]
  assert tests[-1] == NONE
  assert len(trained) == 2 + len(TUNED)


def test_recovered_share_and_gain_are_the_paired_ones(store):
  panel, paired = one_panel(store.rows()), Paired(store)
  gain = next(g for g in compare.gains(panel, paired) if str(g.test) == "jpeg@10")
  a, b, c = (sample.value("top1") for sample in (gain.a, gain.b, gain.c))
  assert gain.recovered.value == pytest.approx((c - b) / (a - b))
  assert gain.difference.value == pytest.approx(c - b)
  drawn = [store.replicates(sample.rows[0].cell)["top1"] for sample in (gain.b, gain.c)]
  assert gain.difference.interval == pytest.approx(statistics.interval(drawn[1] - drawn[0]))
  apart = sum(high - low for low, high in (gain.b.interval("top1"), gain.c.interval("top1")))
  assert gain.difference.interval[1] - gain.difference.interval[0] < apart
  assert gain.p_value < 1e-3


def test_other_pictures_are_not_paired(store, tmp_path):
  other = Store(tmp_path)
  rows = [row for row in store.rows() if str(row.cell.test) in ("jpeg@10", "none")]
  for row in rows:
    ids, records = store.records(row.cell)
    renamed = [*ids[:-1], "another"] if protocols.role(row.cell) == "C" else ids
    other.put_records(row.cell, renamed, records, store.replicates(row.cell))
  panel = one_panel(rows)
  gains = compare.gains(panel, Paired(other))
  assert {(g.difference, g.recovered, g.p_value) for g in gains} == {(None, None, None)}
  table = tables.gain_table(gains, panel)
  assert ("other pictures", "missing") in table.body[0]
  assert "not compared" in table.notes[0]
  assert {one.role for one in compare.cheapest(panel, Paired(other))} == {"B", "relative"}
  assert "other pictures" in text_of(report(rows, tmp_path / "report", results=other))


def test_rows_of_other_numbers_of_pictures_are_not_compared_either():
  cells = plan(("baseline", "shifted", "finetuned"))
  rows = [measure(None, cell) for cell in cells if str(cell.test) in ("jpeg@10", "jpeg@20", "none")]
  rows = [dataclasses.replace(row, n=N - (str(row.cell.test) == "jpeg@10")) for row in rows]
  panel = one_panel(rows)
  found = {str(gain.test): gain for gain in compare.gains(panel, Paired())}
  assert found["jpeg@10"].difference is not None
  assert found["jpeg@10"].recovered is None
  assert found["jpeg@20"].recovered is not None
  assert [one.lowest.test for one in compare.cheapest(panel, Paired())] == [POINTS[2]] * 2
  assert all(one.rate is None and one.accuracy is None for one in compare.bjontegaard(panel, Paired()))


def test_the_order_of_ids_is_not_of_the_pictures(store, tmp_path):
  other = Store(tmp_path)
  rows = [row for row in store.rows() if str(row.cell.test) in ("jpeg@10", "none")]
  for row in rows:
    ids, records = store.records(row.cell)
    step = -1 if protocols.role(row.cell) == "C" else 1
    other.put_records(
      row.cell, ids[::step], {name: values[::step] for name, values in records.items()}, store.replicates(row.cell)
    )
  whole, turned = (compare.gains(one_panel(rows), Paired(results)) for results in (store, other))
  assert [(g.difference, g.p_value) for g in turned] == [(g.difference, g.p_value) for g in whole]


def test_both_bases_where_control_is_better(tmp_path):
  cells = plan(("baseline", "shifted", "finetuned", "control"))
  rows = [measure(None, cell) for cell in cells]
  rows = [
    dataclasses.replace(row, metrics={"top1": 0.95})
    if protocols.role(row.cell) == "control" and row.cell.test == NONE
    else row
    for row in rows
  ]
  assert {g.choice for g in compare.gains(one_panel(rows), Paired())} == {"base", "control"}
  assert "selected on test" in text_of(report(rows, tmp_path))
  held_out = "imagenet2012:train[5000:]"
  more = [dataclasses.replace(r, cell=dataclasses.replace(r.cell, data=held_out)) for r in rows if r.cell.test == NONE]
  panels = curves.panels([*rows, *more])
  assert compare.selected_on(panels[0], panels) == ("control", held_out)


def test_seeds_widen_intervals(tmp_path):
  store = Store(tmp_path)
  rows = [measure(store, cell) for cell in plan(("baseline", "shifted", "finetuned"), seeds=(0, 4, 8))]
  panel = one_panel(rows)
  assert panel.n_seeds == 3
  sample = Paired(store).with_seeds(panel).find("C", POINTS[0])
  assert len(sample.rows) == 3
  low, high = sample.interval("top1")
  single = sample.rows[0].intervals["top1"]
  assert high - low > single[1] - single[0]
  assert "3 seeds" in text_of(report(rows, tmp_path / "report", results=store))


def test_cheapest_ignores_a_lucky_outlier_and_says_what_is_certain():
  cells = plan(("baseline", "shifted"), points=POINTS[:5])
  scores = {"none": 0.8, "jpeg@5": 0.798, "jpeg@10": 0.7, "jpeg@20": 0.76, "jpeg@50": 0.795, "jpeg@90": 0.8}
  rows = [dataclasses.replace(measure(None, c), metrics={"top1": scores[str(c.test)]}, intervals={}) for c in cells]
  [found] = compare.cheapest(one_panel(rows), Paired())
  assert str(found.sample.test) == "jpeg@50"
  assert rate_of(POINTS[2]) < found.bpp_interpolated < found.sample.bpp
  assert found.certain is None


def test_errors_are_turned_so_that_less_is_a_gain(tmp_path):
  rows = [measure(None, cell) for cell in plan(("baseline", "shifted", "finetuned"))]
  rows = [dataclasses.replace(row, metrics={"EPE": 9 * (1.1 - row.metrics["top1"])}, intervals={}) for row in rows]
  panel = one_panel(rows)
  assert all(g.difference.value > 0 and 0 < g.recovered.value < 1 for g in compare.gains(panel, Paired()))
  assert all(r.rate.value < 0 for r in compare.bjontegaard(panel, Paired()) if (r.role, r.against_role) == ("C", "B"))
  assert "1 % of the error" in text_of(report(rows, tmp_path))


def test_bd_against_jpeg_and_against_b(store):
  results = compare.bjontegaard(one_panel(store.rows()), Paired(store))
  pairs = {(r.role, r.codec.codec, r.against_role, r.against_codec.codec): r for r in results}
  assert pairs["B", "webp", "B", "jpeg"].rate.value < 0, "the better codec needs fewer bits"
  assert pairs["C", "jpeg", "B", "jpeg"].accuracy.excludes(0)
  low, high = pairs["C", "jpeg", "B", "jpeg"].rate.interval
  assert low < pairs["C", "jpeg", "B", "jpeg"].rate.value < high < 0


def test_csv_has_a_line_a_row_and_a_line_a_point(store, tmp_path):
  (tmp_path / "cells.csv").write_text(csv_files.cells_csv(store.rows()))
  (tmp_path / "curves.csv").write_text(csv_files.curves_csv(curves.panels(store.rows(), plan())))
  cells = list(csv.DictReader((tmp_path / "cells.csv").open()))
  assert {line["key"]: float(line["top1"]) for line in cells} == {
    specs.cell_key(row.cell): row.metrics["top1"] for row in store.rows()
  }
  points = list(csv.DictReader((tmp_path / "curves.csv").open()))
  assert {line["state"] for line in points} == {"measured", "missing"}
  assert all((line["value"] == "") == (line["state"] == "missing") for line in points)


# ------------------------------------------------------------------------------------ published, pictures


def test_published_points_are_found_by_architecture_and_data_set():
  swin = published.published("classification", "swin_tiny_patch4_window7_224.ms_in1k", DATA)
  assert ("C", "bpg@0.1bpp", 0.73) in [(p.role, str(p.test), p.value) for p in swin]
  assert not published.published("classification", "swin_tiny_patch4_window7_224.ms_in1k", "imagenette:validation")
  assert not published.published("classification", "resnet500", DATA)
  assert all(p.place and p.paper for p in published.PUBLISHED)


DATA_SETS = {
  "masks(path=ADEChallengeData2016,masks=annotations/split,classes=ade150,shift=1):validation": "ade20k",
  "masks(path=a,naming=cityscapes,crop=769):val": "cityscapes",
  "frames(path=b,naming=cityscapes,masks=c):val": "cityscapes",
  "masks(path=mine,classes=names.txt):val": "masks",
  "coco/2017(resize=480x640):validation": "coco/2017",
  "coco(path=coco):val2017": "coco/2017",
  "coco(path=mine):val": "coco",
  "voc(path=VOCdevkit/VOC2007):test": "voc/2007",
  "voc(path=mine):test": "voc",
}


@pytest.mark.parametrize("data", DATA_SETS)
def test_data_sets_are_known_in_whatever_layout_they_are_read(data):
  assert published.data_set(data) == DATA_SETS[data]


def test_published_points_of_detection_and_segmentation():
  def of(task, model, data):
    return {(p.role, str(p.test), p.metric): p.value for p in published.published(task, model, data)}

  ddod = of("detection", "ddod_r50_fpn.mmdet_coco", "coco(path=coco):val2017")
  assert ddod == {("A", "none", "AP"): 0.425, ("C", "cheng2020-attn@0.4bpp", "AP"): 0.42}
  ade = next(iter(DATA_SETS))
  upernet = of("segmentation", "upernet_swin_tiny.mmseg_ade20k", ade)
  assert [upernet[role, f"cheng2020-attn@{bpp}bpp", "mIoU"] for role, bpp in (("B", 0.1), ("C", 0.1), ("C", 0.6))] == [
    0.305, 0.42, 0.445,
  ]  # fmt: skip
  assert not of("segmentation", "upernet_r50.mmseg_cityscapes769", ade), "another backbone"
  voc = of("detection", "fasterrcnn_resnet50_fpn.tv_coco(n_classes=21)", "voc(path=VOCdevkit/VOC2007):test")
  assert voc["C", "jpeg@5", "AP"] == voc["C", "jpeg@5", "AP50"] == 0.559, "as printed, and as it reads"
  segnet = of("segmentation", "segnet_cityscapes.vgg16_bn", "masks(path=cityscapes,naming=cityscapes):val")
  assert [segnet[role, "jpeg@15", "global_accuracy"] for role in "BC"] == [0.814, 0.902]
  assert not of("segmentation", "segnet.vgg16_bn", "masks(path=camvid,classes=camvid11):test")


def test_published_points_are_drawn(store):
  panel = one_panel(store.rows())
  points = [p for p in published.PUBLISHED if p.paper == published.REICH]
  figure = plots.level_figure(panel, curves.CURVE_ROLES, points)
  tips = [line.get_gid() for axis in figure.axes for line in axis.lines]
  assert sum("Reich 2024, section 2.1" in (tip or "") for tip in tips) == 2


def test_examples_round_trip_and_stay_in_their_folder(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
  decoded = [DecodedExample(POINTS[0], pixels // 2, 100, "cat"), DecodedExample(POINTS[5], pixels, 200)]
  folder = save_examples(tmp_path, DATA, [Example("../id", pixels, None, "dog", decoded)])
  [entry] = load_examples(tmp_path, DATA)
  assert entry["id"] == "../id"
  assert entry["original"].parent == folder
  assert [d["psnr"] is None for d in entry["decoded"]] == [False, True], "equal pictures have no PSNR"
  assert load_examples(tmp_path, "other:all") == []
  index = folder / "index.json"
  index.write_text(index.read_text().replace("000.png", "../../secret.png"))
  with pytest.raises(DataError, match="not a plain file name"):
    load_examples(tmp_path, DATA)


# --------------------------------------------------------------------------------------- learned against JPEG

LEARNED = tuple(Point("my.codec:Codec", (), level) for level in (1.0, 2.0))


def compared(directory, row: Row, n_beaten: int, *, answers: bool = True, n_bytes_jpeg: int = 1010) -> Row:
  """Keeps a comparison of 40 pictures for a row: JPEG is 2 dB ahead on the first few, 3 dB behind on the others."""
  difference = np.where(np.arange(40) < n_beaten, -2.0, 3.0)
  columns = {
    "id": np.array(IDS[:40]),
    "n_pixels": np.full(40, 5000),
    "n_bytes": np.linspace(1000, 1020, 40).astype(int),
  }
  columns |= {"n_bytes_jpeg": np.full(40, n_bytes_jpeg), "level_jpeg": np.full(40, 30.0)}
  columns |= {"psnr": 30 + difference, "psnr_jpeg": np.full(40, 30.0)}
  if answers:
    columns |= {"right": np.arange(40) % 2 == 0, "right_jpeg": np.arange(40) < 15}
  save_comparison(directory, Comparison(row.cell, {**row.fingerprint, "equal bytes": "1"}, 400, columns))
  picture = np.zeros((8, 8, 3), np.uint8)
  decoded = [DecodedExample(row.cell.test, picture, 12, "cat"), DecodedExample(POINTS[0], picture, 12, "dog", 31.25)]
  save_examples(folder_of(directory, row.cell), row.cell.data, [Example("id", picture, None, "dog", decoded, "bird")])
  return row


def learned_rows() -> list[Row]:
  base = measure(None, plan(("baseline",))[0])
  cells = [dataclasses.replace(base.cell, test=point) for point in LEARNED]
  return [base, *(dataclasses.replace(base, cell=cell, bpp=cell.test.level) for cell in cells)]


def test_failures_of_a_learned_codec_are_a_section(tmp_path):
  base, low, high = learned_rows()
  rows = [base, compared(tmp_path / "failures", high, 3), compared(tmp_path / "failures", low, 10)]
  path = report(rows, tmp_path, failures=tmp_path / "failures")
  page = Page(text_of(path))
  said = " ".join(page.text)
  assert "JPEG has the higher PSNR on 10 of 40 pictures (25 %) at my.codec:Codec, level 1" in said
  assert "on 7 the model is right about JPEG's picture only" in said
  assert "A sample of 40 of 400 pictures" in said
  for part in ("read as: bird", "read as: cat", "31.2 dB", "level 1, 1.00 bpp: the worst 1 of 12"):
    assert part in said
  assert [file for file in page.files if "failures" in file]
  [group] = failures.groups(rows, tmp_path / "failures")
  one = failures.table(group)
  assert [line[:8] for line in one.body] == [
    ("level 1", "1.00", "40", "0", "10 (25 %)", "+3.0 dB", "8", "12"),
    ("level 2", "2.00", "40", "0", "3 (8 %)", "+3.0 dB", "8", "12"),
  ]
  assert one.body[0][8:] == ("7", "13", "0.359")
  assert text_of(path) == text_of(report(rows, tmp_path / "again", failures=tmp_path / "failures"))


def test_failures_without_answers_and_without_pictures_to_compare(tmp_path):
  base, low, high = learned_rows()
  rows = [base, compared(tmp_path / "failures", low, 0, answers=False)]
  said = " ".join(Page(text_of(report(rows, tmp_path, failures=tmp_path / "failures"))).text)
  assert "none of the pictures compared, at one setting" in said
  assert "McNemar" not in said
  rows = [base, compared(tmp_path / "failures", high, 9, n_bytes_jpeg=2000)]
  said = " ".join(Page(text_of(report(rows, tmp_path, failures=tmp_path / "failures"))).text)
  assert "No picture could be compared" in said


def test_failures_found_under_other_conditions_are_not_shown(tmp_path):
  base, low, _ = learned_rows()
  compared(tmp_path / "failures", dataclasses.replace(low, fingerprint={"codec": "of yesterday", "metric": "1"}), 9)
  assert failures.groups([base, low], tmp_path / "failures") == []
  assert "equal bytes" not in text_of(report([base, low], tmp_path, failures=tmp_path / "failures"))
  assert "equal bytes" not in text_of(report([base], tmp_path, failures=tmp_path / "nowhere"))


# ----------------------------------------------------------------------------------------------- the package


def test_report_needs_neither_jax_nor_tensorflow():
  import subprocess
  import sys

  code = "import sys, robust_compress.report; print({'jax', 'tensorflow'} & set(sys.modules))"
  assert (
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
  )


def test_every_codec_has_a_title_and_a_name_for_its_levels():
  assert set(names.CODEC_TITLES) == {*CODECS, "none"}
  assert set(names.LEVEL_NAMES) == set(CODECS)
  assert names.point_title(specs.parse_point("h264(mode=crf)@30")) == "H.264 (mode crf), CRF 30"
  assert names.setting_text(specs.parse_point("av1@40")) == "QP 40"
