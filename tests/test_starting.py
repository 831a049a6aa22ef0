"""Transforms to start from: an autoencoder that has learned nothing yet gives pictures back."""

import jax
import numpy as np
import pytest
from fakes import photo
from PIL import Image

from robust_compress import convert, starting
from robust_compress.codecs.learned import weights
from robust_compress.codecs.learned.networks import keys
from robust_compress.codecs.learned.training import trainee
from robust_compress.models import load_weights

N, M = 12, 32


@pytest.fixture(scope="module")
def started():
  """(network, its variables) that start from components of smooth pictures."""
  pictures = np.concatenate([photo(64, 64, seed) for seed in range(40)]).astype(np.float32) / 255
  model = trainee("mbt2018-mean", n=N, m=M, levels=3, side=64)
  found = convert.flatten(load_weights(model))
  arrays = convert.to_foreign(convert.unflatten(starting.start(pictures, N, M)), keys.RULES)
  given = convert.matching(arrays, keys.RULES, found)
  assert len(given) == len(arrays)  # every array has its place
  return model.module(), convert.unflatten({**found, **given})


def error(a, b):
  return float(np.square(np.asarray(a) - b).mean())


def test_it_keeps_more_than_the_colour_of_blocks(started):
  module, variables = started
  x, level = photo(64, 64, 77).astype(np.float32) / 255, np.full(1, 1, np.float32)
  back = module.apply(variables, module.apply(variables, x, level, method="analysis"), level, method="synthesis")
  blocks = x.reshape(1, 4, 16, 4, 16, 3).mean((2, 4)).repeat(16, 1).repeat(16, 2)
  assert error(back, x) < 0.5 * error(blocks, x)


def test_finer_levels_round_less(started):
  module, variables = started
  x = photo(64, 64, 78).astype(np.float32) / 255
  through = jax.jit(lambda level: module.apply(variables, x, "round", level))
  coarse, fine = (through(np.full(1, level, np.float32)) for level in (0, 2))
  assert error(fine.x_hat, x) < error(coarse.x_hat, x)
  assert float(fine.bits()[0]) > float(coarse.bits()[0])


def test_the_hyperprior_knows_how_large_each_channel_is(started):
  """Scales are foretold before anything is learned; at the usual start they are all nothing."""
  module, variables = started
  x = photo(64, 64, 79).astype(np.float32) / 255
  coding = module.apply(variables, x, "round", np.full(1, 1, np.float32))
  size, foretold = (np.abs(np.asarray(part)).mean((0, 1, 2)) for part in (coding.latents["y"], coding.prior.scales))
  assert np.corrcoef(size, foretold)[0, 1] > 0.8


def test_a_network_with_context_starts_as_the_one_without(started):
  _, variables = started
  mean = weights.from_variables("mbt2018-mean", jax.tree.map(np.asarray, variables))
  pictures = np.concatenate([photo(64, 64, seed) for seed in range(20)]).astype(np.float32) / 255
  model = trainee("mbt2018", n=N, m=M, levels=3, side=64)
  context = convert.flatten(load_weights(model))
  given = starting.with_context(mean, pictures)
  assert {path: context[path].shape for path in given} == {path: array.shape for path, array in given.items()}
  both = {**context, **given}
  x, level = photo(64, 64, 80).astype(np.float32) / 255, np.full(1, 1, np.float32)
  expected = weights.module(mean).apply(variables, x, "round", level)
  made = model.module().apply(convert.unflatten(both), x, "round", level)
  assert float(made.bits()[0]) == pytest.approx(float(expected.bits()[0]), rel=0.1)  # the context says something yet
  assert error(made.x_hat, expected.x_hat) < 1e-5


def test_the_command_writes_a_file_that_training_takes(tmp_path, monkeypatch, capsys):
  for seed in range(3):
    Image.fromarray(photo(70, 80, seed)[0]).save(tmp_path / f"{seed}.png")
  output = tmp_path / "start.safetensors"
  monkeypatch.setattr("sys.argv", ["starting", str(tmp_path), "--n=12", "--m=16", f"--output={output}"])
  starting.main()
  assert capsys.readouterr().out.strip() == str(output)
  arrays = convert.read(output)
  assert arrays["g_a.0.weight"].shape == (12, 3, 5, 5)
  assert arrays["g_s.0.weight"].shape == (16, 12, 5, 5)
