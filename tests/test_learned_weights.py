"""Weights of learned codecs: what a file says is what a network gets, whatever kind of file; and nothing else loads."""

import functools
import hashlib
import pickle
import types

import jax
import numpy as np
import pytest
from golden import seeded

from robust_compress import convert
from robust_compress.codecs.learned import container, weights
from robust_compress.codecs.learned.networks import NETWORKS, keys, load_network
from robust_compress.models import export
from robust_compress.types import InputSpec, LevelError, ModelSpec, SpecError, Weights, WeightsError

NARROW = {name: {"n": 4, "m": 6} for name in NETWORKS}
NARROW["cheng2020-gmm"]["hidden"] = 10
MODEL = ModelSpec("a codec", "codec", None, InputSpec((64, 64), None), Weights("random"), keys.RULES)  # to export


@functools.cache
def variables_of(name, levels=0):
  """Seeded numbers for every parameter."""
  template = weights.template(load_network(name).build(**NARROW[name], levels=levels))
  leaves = {path: seeded.normal(path, leaf.shape) for path, leaf in convert.flatten(template).items()}
  return convert.unflatten(leaves)


@functools.cache
def arrays_of(name):
  return weights._foreign(variables_of(name), name)


def saved(path, arrays):
  convert.write_safetensors(path, arrays)
  return path


def assert_same(loaded, expected):
  assert jax.tree.all(jax.tree.map(np.array_equal, loaded.variables, expected))


# ------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_written_is_read(name, levels, tmp_path):
  loaded = weights.from_variables(name, variables_of(name, levels))
  assert_same(loaded, variables_of(name, levels))
  assert loaded._asdict() | NARROW[name] | {"levels": levels} == loaded._asdict()
  export(MODEL, loaded.variables, tmp_path / "w.safetensors")
  again = weights.load(name, tmp_path / "w.safetensors")
  assert_same(again, loaded.variables)
  assert again[2:] == loaded[2:]
  assert weights.module(again) == load_network(name).build(**NARROW[name], levels=levels)


def test_half_precision_is_read_as_float32_and_is_other_weights(tmp_path):
  loaded = weights.from_variables("mbt2018-mean", variables_of("mbt2018-mean"))
  export(MODEL, loaded.variables, tmp_path / "half.safetensors", half=True)
  half = weights.load("mbt2018-mean", tmp_path / "half.safetensors")
  assert {leaf.dtype for leaf in jax.tree.leaves(half.variables)} == {np.dtype(np.float32)}
  assert half.key != loaded.key
  export(MODEL, half.variables, tmp_path / "whole.safetensors")
  assert weights.load("mbt2018-mean", tmp_path / "whole.safetensors").key == half.key


def test_numbers_over_the_range_of_float16_are_refused(tmp_path):
  arrays = {**arrays_of("mbt2018-mean"), "g_a.0.bias": np.full(4, 1e5, np.float32)}
  loaded = weights.load("mbt2018-mean", saved(tmp_path / "w.safetensors", arrays))
  with pytest.raises(WeightsError, match=r"half.safetensors: g_a.0.bias is not finite in float16"):
    export(MODEL, loaded.variables, tmp_path / "half.safetensors", half=True)


def test_numbers_that_are_not_finite_are_not_exported(tmp_path):
  variables = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), variables_of("mbt2018-mean"))
  with pytest.raises(WeightsError, match=r"w.safetensors: .* holds numbers that are not finite; train"):
    export(MODEL, variables, tmp_path / "w.safetensors")
  assert not list(tmp_path.iterdir())


def test_the_key_is_of_the_numbers():
  variables = variables_of("mbt2018")
  key = weights.from_variables("mbt2018", variables).key
  assert key == weights.from_variables("mbt2018", jax.tree.map(jax.numpy.asarray, variables)).key
  container.write(container.Header("mbt2018", key, 1, 1, 0.0), [b""], [])
  leaves = convert.flatten(variables)
  for path in ("params/g_a/layers_0/bias", "params/entropy_bottleneck/quantiles"):
    changed = {**leaves, path: np.nextafter(leaves[path], np.float32(np.inf))}
    assert weights.from_variables("mbt2018", convert.unflatten(changed)).key != key


# ------------------------------------------------------------------------------------------------ PyTorch files


def test_pytorch_files_give_the_same_key(tmp_path):
  torch = pytest.importorskip("torch")
  arrays = arrays_of("cheng2020-attn")
  key = weights.load("cheng2020-attn", saved(tmp_path / "w.safetensors", arrays)).key
  state = {f"module.{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
  for file, content in (("w.pth.tar", {"state_dict": state, "epoch": 3}), ("w.pth", state)):
    torch.save(content, tmp_path / file)
    assert weights.load("cheng2020-attn", tmp_path / file).key == key


def test_a_pickle_that_runs_something_is_refused(tmp_path):
  torch = pytest.importorskip("torch")

  class Touch:
    def __reduce__(self):
      return open, (str(tmp_path / "touched"), "w")

  torch.save({"state_dict": {"g_a.0.weight": Touch()}}, tmp_path / "zip.pth.tar")
  (tmp_path / "plain.pth").write_bytes(pickle.dumps(Touch()))
  for file in ("zip.pth.tar", "plain.pth"):
    with pytest.raises(WeightsError, match=f"{file}: refused, its pickle is not plain tensors"):
      weights.load("mbt2018", tmp_path / file)
  assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("ending", [".safetensors", ".pth.tar"])
def test_damaged_files_are_errors_or_other_numbers(ending, tmp_path):
  name, path, rng = "bmshj2018-factorized", tmp_path / f"w{ending}", np.random.default_rng(0)
  if ending == ".safetensors":
    saved(path, arrays_of(name))
  else:
    torch = pytest.importorskip("torch")
    torch.save({key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in arrays_of(name).items()}, path)
  whole, key, n_errors = path.read_bytes(), weights.load(name, path).key, 0
  for _ in range(60):
    damaged = bytearray(whole)
    for at in rng.integers(0, 4000 if rng.random() < 0.8 else len(whole), rng.integers(1, 4)):
      damaged[at] ^= rng.integers(1, 256)
    del damaged[len(whole) if rng.random() < 0.8 else rng.integers(len(whole)) :]
    path.write_bytes(damaged)
    try:
      weights.load(name, path)
    except WeightsError:
      n_errors += 1
  assert n_errors > 30
  path.write_bytes(whole)
  assert weights.load(name, path).key == key


# ---------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"g_a.9.weight": np.zeros(1)}, r"1 of \d+ arrays are left over \(g_a.9.weight\)"),
    ({"h_s.4.bias": None}, r"1 of the model's \d+ are unfilled \(params/h_s/layers_4/bias\)"),
    ({"g_a.0.weight": None}, "no array g_a.0.weight among .*another network"),
    ({"g_a.0.weight": np.zeros((0, 3, 5, 5))}, "g_a.0.weight has no first axis of 2 to"),
    ({"g_a.6.weight": np.zeros(())}, "g_a.6.weight has no first axis"),
    ({"g_a.2.weight": np.zeros((4, 4))}, r"1 differ in shape \(g_a.2.weight \(4, 4\) for"),
    ({"h_a.0.bias": np.full(4, np.nan, np.float32)}, "params/h_a/layers_0/bias holds numbers that are not finite"),
    ({"h_a.0.bias": np.zeros(4, np.int32)}, "params/h_a/layers_0/bias is int32; expected floating point"),
    ({"gain_y.log_gain": np.zeros((2, 6))}, r"are unfilled \(.*params/gain_y/log_inverse"),
  ],
)
def test_arrays_that_do_not_fit_are_named(change, message, tmp_path):
  arrays = {key: array for key, array in {**arrays_of("mbt2018-mean"), **change}.items() if array is not None}
  with pytest.raises(WeightsError, match=rf"weights mbt2018-mean from .*w\.safetensors: .*{message}"):
    weights.load("mbt2018-mean", saved(tmp_path / "w.safetensors", arrays))


@pytest.mark.parametrize("theirs", NETWORKS)
def test_weights_of_another_network_are_refused(theirs, tmp_path):
  path = saved(tmp_path / "w.safetensors", arrays_of(theirs))
  for name in NETWORKS:
    if name != theirs:
      with pytest.raises(WeightsError, match=f"weights {name} from .*another (network|architecture)"):
        weights.load(name, path)


def test_variables_that_do_not_fit_are_named():
  leaves = convert.flatten(variables_of("mbt2018"))
  cut = {path: leaf[0] if path.endswith("transposed") else leaf for path, leaf in leaves.items()}
  with pytest.raises(WeightsError, match="has not the axes of its layer"):
    weights.from_variables("mbt2018", convert.unflatten(cut))
  with pytest.raises(WeightsError, match="batch_stats/mean of the model have no rule"):
    weights.from_variables("mbt2018", {**variables_of("mbt2018"), "batch_stats": {"mean": np.zeros(1)}})


def test_unknown_networks_and_files(tmp_path):
  path = saved(tmp_path / "w.safetensors", arrays_of("mbt2018"))
  with pytest.raises(SpecError, match="did you mean 'mbt2018'"):
    weights.load("mbt2019", path)
  with pytest.raises(WeightsError, match="no such file"):
    weights.load("mbt2018", tmp_path / "none.pth.tar")


# ------------------------------------------------------------------------------------------ files with known names


def test_shipped_files_are_found_by_network_and_checked_by_key(tmp_path, monkeypatch):
  monkeypatch.setattr(weights, "SHIPPED", tmp_path)
  assert weights.shipped("mbt2018") is None
  saved(tmp_path / "mbt2018-mean-0123abcd.safetensors", arrays_of("mbt2018-mean"))
  assert weights.shipped("mbt2018") is None
  key = weights.from_variables("mbt2018-mean", variables_of("mbt2018-mean")).key
  with pytest.raises(WeightsError, match=f"its numbers have the key {key}; it is damaged"):
    weights.load("mbt2018-mean", weights.shipped("mbt2018-mean"))
  (tmp_path / "mbt2018-mean-0123abcd.safetensors").rename(tmp_path / f"mbt2018-mean-{key}.safetensors")
  assert weights.load("mbt2018-mean", weights.shipped("mbt2018-mean")).key == key


def test_published_files_are_wanted_by_name_and_checked_by_hash(tmp_path, monkeypatch):
  wanted = "mbt2018-mean-ms-ssim-2-e2a1bf3f.pth.tar"
  with pytest.raises(WeightsError, match=f"mbt2018-mean: no file {wanted} in .*; fetch https://.*/{wanted}"):
    weights.published("mbt2018-mean", "ms-ssim", 2, tmp_path)
  (tmp_path / wanted).write_bytes(b"cut short")
  with pytest.raises(WeightsError, match=f"{wanted}: SHA-256 is .*, expected e2a1bf3f…; it is damaged"):
    weights.published("mbt2018-mean", "ms-ssim", 2, tmp_path)
  name = f"x-{hashlib.sha256(b'whole').hexdigest()[:8]}.pth.tar"
  (tmp_path / name).write_bytes(b"whole")
  monkeypatch.setattr(weights, "load_network", lambda _: types.SimpleNamespace(file=lambda quality, metric: name))
  assert weights.published("mbt2018-mean", "mse", 1, tmp_path) == tmp_path / name
  monkeypatch.undo()
  with pytest.raises(LevelError, match="quality runs from 1 to 6"):
    weights.published("cheng2020-attn", "mse", 7, tmp_path)
