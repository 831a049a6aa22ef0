"""Rule tables work both ways, name every misfit, and no file can run code."""

import os
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_compress import convert
from robust_compress.convert import Rule
from robust_compress.types import SpecError, StoreError, WeightsError

RULES = (
  *convert.conv("stem.{i}", bias=True),
  *convert.batch_norm("layer{s}.{b}.bn", "layer{s}_{b}/bn"),
  *convert.linear("head.fc", "head"),
  Rule("position", "params/position"),
  Rule("table_index", "", "ignored"),
)


def arrays(n_stems=2, n_blocks=2, width=3):
  """A state_dict that RULES translate, every number different."""
  shapes = {f"stem.{i}.weight": (4, width, 2, 5) for i in range(n_stems)}
  shapes |= {f"stem.{i}.bias": (4,) for i in range(n_stems)}
  for block in range(n_blocks):
    shapes |= {f"layer1.{block}.bn.{kind}": (4,) for kind in ("weight", "bias", "running_mean", "running_var")}
  shapes |= {"head.fc.weight": (7, 4), "head.fc.bias": (7,), "position": (1, 2, 4)}
  rng = np.random.default_rng(0)
  found = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
  return found | {f"layer1.{block}.bn.num_batches_tracked": np.zeros((), np.int64) for block in range(n_blocks)}


def variables(foreign):
  """The tree for those arrays, written out by hand: what `to_variables` must find."""
  leaves = {}
  for key, value in foreign.items():
    path = key.replace(".weight", ".kernel" if value.ndim > 1 else ".scale").replace("head.fc", "head")
    path = path.replace("layer1.", "layer1_").replace("running_", "").replace(".", "/")
    kind = "batch_stats" if "running" in key else "params"
    if "num_batches" not in key:
      axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim, tuple(range(value.ndim)))
      leaves[f"{kind}/{path}"] = value.transpose(axes)
  return convert.unflatten(leaves)


def assert_same(tree, expected):
  tree, expected = convert.flatten(tree), convert.flatten(expected)
  assert tree.keys() == expected.keys()
  for path, value in expected.items():
    np.testing.assert_array_equal(tree[path], value, err_msg=path)
    assert tree[path].dtype == value.dtype, path


def test_state_of_training_is_in_no_file_and_starts_as_zeros():
  rules = (*convert.linear("fc"), Rule("", "counters/level{i}", "state"))
  template = {"params": {"fc": {"kernel": np.zeros((4, 7)), "bias": np.zeros(7)}}, "counters": {"level0": np.ones(5)}}
  foreign = {"fc.weight": np.ones((7, 4), np.float32), "fc.bias": np.ones(7, np.float32)}
  found = convert.to_variables(foreign, rules, template)
  np.testing.assert_array_equal(found["counters"]["level0"], np.zeros(5))
  assert convert.to_foreign(found, rules).keys() == foreign.keys()


@given(st.integers(1, 12), st.integers(1, 11), st.integers(1, 4))
def test_rules_work_both_ways(n_stems, n_blocks, width):
  foreign = arrays(n_stems, n_blocks, width)
  tree = variables(foreign)
  assert_same(convert.to_variables(foreign, RULES, tree), tree)
  assert_same(convert.to_foreign(tree, RULES), foreign)


@pytest.mark.parametrize(("name", "shape"), [("linear", (2, 3)), ("conv", (2, 3, 4, 5)), ("conv3d", (2, 3, 4, 5, 6))])
def test_layouts_invert(name, shape):
  array = np.arange(np.prod(shape)).reshape(shape)
  ours, foreign = convert.TRANSFORMS[name]
  assert ours(array).shape == {2: (3, 2), 4: (4, 5, 3, 2), 5: (4, 5, 6, 3, 2)}[len(shape)]
  np.testing.assert_array_equal(foreign(ours(array)), array)


def test_merged_pixels_are_taken_in_another_order():
  """`Unfold` has channels outermost and then rows; ours has columns, rows and then channels."""
  weight = np.random.default_rng(0).normal(size=(5, 4 * 3))
  unfolded = weight.reshape(5, 3, 2, 2)  # o c y x
  to, back = convert.TRANSFORMS["unfold_linear"]
  np.testing.assert_array_equal(to(weight).reshape(2, 2, 3, 5)[1, 0, 2], unfolded[:, 2, 0, 1])
  np.testing.assert_array_equal(back(to(weight)), weight)
  to, back = convert.TRANSFORMS["unfold"]
  np.testing.assert_array_equal(to(weight[0]), convert.TRANSFORMS["unfold_linear"][0](weight)[:, 0])
  np.testing.assert_array_equal(back(to(weight[0])), weight[0])


def test_the_order_of_colours_turns_both_ways():
  kernel = np.arange(24).reshape(2, 3, 2, 2)
  to, back = convert.TRANSFORMS["conv_bgr"]
  np.testing.assert_array_equal(to(kernel)[1, 0, 0, 1], kernel[1, 2, 1, 0])
  np.testing.assert_array_equal(back(to(kernel)), kernel)


def test_parts_are_joined_and_taken_apart():
  rules = [Rule(f"{name}.weight", "params/qkv/kernel", "linear", (i, 3)) for i, name in enumerate("qkv")]
  foreign = {f"{name}.weight": np.full((2, 4), i, np.float32) for i, name in enumerate("qkv")}
  tree = {"params": {"qkv": {"kernel": np.repeat(np.float32([[0, 1, 2]] * 4), 2, axis=1)}}}
  assert_same(convert.to_variables(foreign, rules, tree), tree)
  assert_same(convert.to_foreign(tree, rules), foreign)
  assert_same(convert.matching(foreign, rules, convert.flatten(tree)), convert.flatten(tree))
  lacking = {key: value for key, value in foreign.items() if key[0] != "k"}
  with pytest.raises(WeightsError, match="unfilled"):
    convert.to_variables(lacking, rules, tree)
  assert convert.matching(lacking, rules, convert.flatten(tree)) == {}
  with pytest.raises(WeightsError, match="differ in shape"):
    convert.to_variables({**foreign, "k.weight": np.zeros((6, 4))}, rules, tree)


def test_other_types_become_float32_and_constants_are_dropped():
  foreign = {key: value.astype(np.float64) for key, value in arrays().items()} | {"table_index": np.arange(3)}
  foreign["position"] = foreign["position"].astype(np.float16)
  tree = convert.to_variables(foreign, RULES, variables(arrays()))
  assert {leaf.dtype for leaf in convert.flatten(tree).values()} == {np.dtype(np.float32)}


def test_every_misfit_is_listed():
  foreign, tree = arrays(), variables(arrays())
  foreign["head.weight"] = foreign.pop("head.fc.weight")
  foreign["stem.0.weight"] = foreign["stem.0.weight"][:, :1]
  foreign["stem.7.bias"] = foreign["stem.0.bias"]
  foreign["position"] = foreign["position"][0, 0]
  foreign["stem.1.weight"] = foreign["stem.1.weight"][0]  # no transposition fits three axes
  with pytest.raises(WeightsError) as error:
    convert.to_variables(foreign, RULES, tree, "mine")
  message = str(error.value)
  assert "2 of 18 arrays are left over (head.weight, stem.7.bias)" in message
  assert "1 of the model's 15 are unfilled (params/head/kernel)" in message
  assert "3 differ in shape" in message
  assert "position (4,) for params/position (1, 2, 4)" in message


def test_variables_without_a_rule_are_listed():
  with pytest.raises(WeightsError, match="params/other of the model have no rule"):
    convert.to_foreign({"params": {"other": np.zeros(3)}}, RULES)


def test_bad_rules_are_refused():
  with pytest.raises(WeightsError, match="placeholders differ"):
    Rule("a{i}.weight", "params/a/kernel")
  with pytest.raises(SpecError, match="did you mean 'conv'"):
    Rule("a", "params/a", "convv")


# ------------------------------------------------------------------------------------------------- files


def test_safetensors_round_trip(tmp_path):
  foreign = arrays()
  convert.write_safetensors(tmp_path / "deep" / "w.safetensors", foreign)
  assert_same(convert.read(tmp_path / "deep" / "w.safetensors"), foreign)
  assert [path.name for path in (tmp_path / "deep").iterdir()] == ["w.safetensors"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "w.safetensors"
  convert.write_safetensors(path, {"a": np.ones(3)})
  assert path.stat().st_mode & 0o444 == 0o444 & ~_umask()  # others may read it where new files let them
  monkeypatch.setattr(convert.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
  with pytest.raises(StoreError, match=r"w\.safetensors: no space left .* free some space"):
    convert.write_safetensors(path, {"a": np.zeros(3)})
  assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
  np.testing.assert_array_equal(convert.read(path)["a"], np.ones(3))


def _umask():
  mask = os.umask(0)
  os.umask(mask)
  return mask


def test_npz_reads_and_data_parallel_prefix_is_taken_off(tmp_path):
  np.savez(tmp_path / "w.npz", **{"module.a": np.ones(3), "module.b": np.zeros(2)})
  assert set(convert.read(tmp_path / "w.npz")) == {"a", "b"}


class Payload:
  """A pickle that would create a file when executed."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (str(self.path), "w")


def test_npz_with_a_pickle_is_refused(tmp_path):
  np.savez(tmp_path / "w.npz", a=np.array([Payload(tmp_path / "ran")], dtype=object))
  with pytest.raises(WeightsError, match="pickled objects are not read"):
    convert.read(tmp_path / "w.npz")
  assert not (tmp_path / "ran").exists()


def test_pytorch_pickles_are_refused(tmp_path):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra 'torch')")
  path = tmp_path / "w.pth"
  torch.save({"state_dict": {"a": torch.ones(3)}, "payload": Payload(tmp_path / "ran")}, path)
  with pytest.raises(WeightsError, match="refused"):
    convert.read(path)
  assert not (tmp_path / "ran").exists()


def test_pytorch_checkpoints_are_unwrapped(tmp_path):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra 'torch')")
  torch.save({"epoch": 3, "model": {"module.a": torch.ones(3, dtype=torch.bfloat16)}}, tmp_path / "w.pth.tar")
  [(key, value)] = convert.read(tmp_path / "w.pth.tar").items()
  assert (key, value.dtype) == ("a", np.float32)
  torch.save({"epoch": 3, "state_dict": {"a": torch.ones(3), "b": 4}}, tmp_path / "w.pt")
  with pytest.raises(WeightsError, match="holds no state_dict"):
    convert.read(tmp_path / "w.pt")


def test_what_pytorch_refuses_is_refused_by_name(tmp_path, monkeypatch):
  """The same without PyTorch: its loader must be asked for plain tensors only, and its refusal passed on."""
  (tmp_path / "w.pth").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
  asked = {}

  def load(path, **options):
    asked.update(options)
    raise pickle.UnpicklingError("Weights only load failed")

  monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load))
  with pytest.raises(WeightsError, match=r"w\.pth: refused, its pickle is not plain tensors"):
    convert.read(tmp_path / "w.pth")
  assert asked["weights_only"] is True


def test_pytorch_missing_names_the_extra(tmp_path, monkeypatch):
  (tmp_path / "w.pth").write_bytes(b"")
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(WeightsError, match=r"pip install 'robust-compress\[torch\]'"):
    convert.read(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz"])
def test_cut_files_are_named(tmp_path, name):
  path = tmp_path / name
  convert.write_safetensors(path, arrays()) if "safe" in name else np.savez(path, **arrays())
  path.write_bytes(path.read_bytes()[:-40])
  with pytest.raises(WeightsError, match=name):
    convert.read(path)


def test_damaged_npz_members_are_named(tmp_path):
  path = tmp_path / "w.npz"
  np.savez(path, a=np.ones(1000))
  content = bytearray(path.read_bytes())
  content[500] ^= 255
  path.write_bytes(content)
  assert zipfile.is_zipfile(path)
  with pytest.raises(WeightsError, match="not a whole"):
    convert.read(path)


@pytest.mark.parametrize(
  ("name", "loader"), [("w.npz", "numpy.load"), ("w.safetensors", "safetensors.numpy.load_file")]
)
def test_a_lack_of_memory_is_no_damage(tmp_path, monkeypatch, name, loader):
  def exhausted(*args, **options):
    raise MemoryError("of 9 bytes")

  (tmp_path / name).write_bytes(b"")
  monkeypatch.setattr(loader, exhausted)
  with pytest.raises(MemoryError, match="of 9 bytes"):
    convert.read(tmp_path / name)


def test_numbers_that_numpy_has_not_are_told(tmp_path):
  header = b'{"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}'
  (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
  with pytest.raises(WeightsError, match=r"not a whole safetensors file of plain numbers .*float8"):
    convert.read(tmp_path / "w.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_pytorch_files_are_named(tmp_path, zipped):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra 'torch')")
  path, rng, n_errors = tmp_path / "w.pth", np.random.default_rng(0), 0
  content = {f"layer{i}.weight": torch.ones(2, 3) for i in range(8)}
  torch.save(content, path, _use_new_zipfile_serialization=zipped)
  whole = path.read_bytes()
  for _ in range(300):
    damaged = bytearray(whole)
    damaged[rng.integers(1000)] ^= rng.integers(1, 256)
    path.write_bytes(damaged)
    try:
      convert.read(path)
    except WeightsError:
      n_errors += 1
  assert n_errors > 100


def test_tensors_that_are_not_arrays_are_named(tmp_path):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra 'torch')")
  for content in ({"a": torch.eye(3).to_sparse()}, {3: torch.ones(1)}, [torch.ones(1)]):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth: holds (tensors that are not plain|no state_dict)"):
      convert.read(tmp_path / "w.pth")
  torch.save({"a": torch.nn.Parameter(torch.ones(1))}, tmp_path / "w.pth")
  assert convert.read(tmp_path / "w.pth")["a"] == 1


def test_missing_and_unknown_files():
  with pytest.raises(WeightsError, match="no such file"):
    convert.read("/nowhere/w.npz")
  with pytest.raises(WeightsError, match=r"weights are read from \.safetensors, \.npz"):
    convert.read("/nowhere/w.h5")


def test_halves_are_told_where_they_overflow():
  made = convert.halved({"w": np.float32([0.1, -65504])}, "file")
  np.testing.assert_array_equal(made["w"], np.float16([0.1, -65504]))
  with pytest.raises(WeightsError, match="file: w is not finite in float16"):
    convert.halved({"w": np.float32([70000])}, "file")
