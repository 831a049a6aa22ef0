"""Weights to start from: a codec that has learned nothing yet gives pictures back, and knows what that costs."""

import functools
import sys

import jax
import numpy as np
import pytest
from fakes import photo
from PIL import Image

from robust_compress import convert
from robust_compress.codecs.learned import weights
from robust_compress.codecs.learned.networks import keys
from robust_compress.codecs.learned.training import trainee
from robust_compress.starting import __main__ as command
from robust_compress.starting import context, residual, strided
from robust_compress.starting.layers import noise
from robust_compress.types import SpecError

N, M, LEVELS = 12, 32, 3
STARTS = {  # (n, m, what makes the arrays)
  "mbt2018-mean": (N, M, lambda x: strided.start(x, N, M)),
  "cheng2020-gmm": (N, M, lambda x: residual.start(x, N, M)),
}
each_network = pytest.mark.parametrize("network", STARTS)


def photos(seeds):
  return np.concatenate([photo(64, 64, seed) for seed in seeds]).astype(np.float32) / 255


def at_random(model):
  """Arrays as training starts with them. Kernels are drawn by numpy, since compiling how jax draws them takes long."""
  shapes, rng = convert.flatten(jax.eval_shape(model.init, jax.random.key(0))), np.random.default_rng(0)
  kernels = {path: leaf.shape for path, leaf in shapes.items() if path.endswith(("kernel", "transposed"))}

  @jax.jit
  def others(key):
    return {path: array for path, array in convert.flatten(model.init(key)).items() if path not in kernels}

  drawn = {path: noise(rng, shape, 1).astype(np.float32) for path, shape in kernels.items()}
  return jax.tree.map(np.asarray, others(jax.random.key(0))) | drawn


@functools.cache
def started(network):
  """(module, its variables) that start from components of smooth pictures."""
  n, m, start = STARTS[network]
  model = trainee(network, n=n, m=m, levels=LEVELS, side=64)
  found = at_random(model)
  arrays = convert.to_foreign(convert.unflatten(start(photos(range(40)))), keys.RULES)
  given = convert.matching(arrays, keys.RULES, found)
  assert len(given) == len(arrays)  # every array has its place
  return model.module(), convert.unflatten({**found, **given})


@functools.cache
def through(network):
  """What codes float32[1 64 64 3] pictures at float32[1] levels."""
  module, variables = started(network)
  return jax.jit(lambda x, level: module.apply(variables, x, "round", level))


def at(level):
  return np.full(1, level, np.float32)


def error(a, b):
  return float(np.square(np.asarray(a) - b).mean())


@each_network
def test_it_keeps_more_than_the_colour_of_blocks(network):
  x = photos([77])
  blocks = x.reshape(1, 4, 16, 4, 16, 3).mean((2, 4)).repeat(16, 1).repeat(16, 2)
  assert error(through(network)(x, at(1)).x_hat, x) < 0.5 * error(blocks, x)


@each_network
def test_finer_levels_round_less(network):
  x = photos([78])
  coarse, fine = (through(network)(x, at(level)) for level in (0, LEVELS - 1))
  assert error(fine.x_hat, x) < error(coarse.x_hat, x)
  assert float(fine.bits()[0]) > float(coarse.bits()[0])


@each_network
def test_the_hyperprior_knows_how_large_each_channel_is(network):
  """Scales are foretold before anything is learned; at the usual start they are all nothing."""
  coding = through(network)(photos([79]), at(1))
  scales = coding.prior.scales
  scales = scales[..., residual.SPREADS.index(1)] if network == "cheng2020-gmm" else scales
  size, foretold = (np.abs(np.asarray(part)).mean((0, 1, 2)) for part in (coding.latents["y"], scales))
  assert np.corrcoef(size, foretold)[0, 1] > 0.8


def test_a_mixture_starts_as_gaussians_about_one_mean():
  """Of like weights, narrower, as wide and wider than foretold."""
  prior = jax.tree.map(np.asarray, through("cheng2020-gmm")(photos([80]), at(1)).prior)
  foretold = prior.scales[..., residual.SPREADS.index(1), None]
  np.testing.assert_allclose(prior.weights.sum(-1), 1, rtol=1e-6)
  np.testing.assert_allclose(prior.weights, 1 / len(residual.SPREADS), atol=0.05)
  np.testing.assert_allclose((prior.scales / foretold).mean((0, 1, 2, 3)), residual.SPREADS, rtol=0.1)
  assert (np.ptp(prior.means, axis=-1, keepdims=True) / foretold).max() < 0.2


def test_a_mixture_that_has_no_room_is_an_error():
  with pytest.raises(SpecError, match=r"m=321\): expected 2 to 320"):
    residual.start(photos([0]), N, 321)


def test_a_network_with_context_starts_as_the_one_without():
  _, variables = started("mbt2018-mean")
  mean = weights.from_variables("mbt2018-mean", jax.tree.map(np.asarray, variables))
  model = trainee("mbt2018", n=N, m=M, levels=LEVELS, side=64)
  plain = at_random(model)
  given = context.with_context(mean, photos(range(20)))
  assert {path: plain[path].shape for path in given} == {path: array.shape for path, array in given.items()}
  x = photos([80])
  expected = through("mbt2018-mean")(x, at(1))
  both = convert.unflatten({**plain, **given})
  made = jax.jit(lambda x: model.module().apply(both, x, "round", at(1)))(x)
  assert float(made.bits()[0]) == pytest.approx(float(expected.bits()[0]), rel=0.1)  # the context says something yet
  assert error(made.x_hat, expected.x_hat) < 1e-5


# --------------------------------------------------------------------------------------------- the command


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
  """Runs the command on a folder of pictures, and gives the shapes that it wrote."""

  def run(*options, side=70):
    for seed in range(3):
      Image.fromarray(photo(side, 80, seed)[0]).save(tmp_path / f"{seed}.png")
    output = tmp_path / "start.safetensors"
    monkeypatch.setattr(command, "N_WINDOWS", 100)
    monkeypatch.setattr(sys, "argv", ["starting", str(tmp_path), *options, f"--output={output}"])
    command.main()
    assert capsys.readouterr().out.strip() == str(output)
    return {key: array.shape for key, array in convert.read(output).items()}

  return run


def test_the_command_writes_a_file_that_training_takes(run):
  shapes = run("--n=12", "--m=16")
  assert shapes["g_a.0.weight"] == (12, 3, 5, 5)
  assert shapes["g_s.0.weight"] == (16, 12, 5, 5)


def test_the_command_writes_one_for_a_mixture(run):
  shapes = run("--network=cheng2020-gmm", "--n=8", "--m=12")
  assert shapes["g_a.0.conv1.weight"] == (8, 3, 3, 3)
  assert shapes["g_a.7.weight"] == (12, 8, 3, 3)
  assert shapes["entropy_parameters.4.weight"] == (3 * 3 * 12, 640, 1, 1)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (("--n=0",), "0: expected a whole number from 2"),
    (("--m=-3",), "-3: expected a whole number from 2"),
    (("--mean=mean.safetensors", "--m=12"), "--mean gives the widths"),
  ],
)
def test_widths_that_cannot_be_are_errors(run, options, message, capsys):
  with pytest.raises(SystemExit) as raised:
    run(*options)
  assert message in f"{raised.value} {capsys.readouterr().err}"


def test_pictures_too_small_for_a_window_are_an_error(run):
  with pytest.raises(SystemExit, match="expected pictures of 64×64 or more"):
    run(side=60)
