"""The networks of learned codecs: CompressAI's numbers on the same weights, and what their distributions promise."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import learned_cases, seeded
from golden.learned_cases import CASES, STEP
from scipy import special

from robust_compress import convert
from robust_compress.codecs.learned import tables
from robust_compress.codecs.learned.networks import (
  LAMBDAS,
  METRICS,
  NETWORKS,
  context,
  factorized,
  keys,
  layers,
  load_network,
)
from robust_compress.codecs.learned.networks.gaussian import Gaussian, Mixture, quantise
from robust_compress.types import LevelError, SpecError, WeightsError

GOLDEN = Path(__file__).parent / "golden" / "learned"
STATE_DICTS = json.loads((GOLDEN / "state_dicts.json").read_text())
HYPER = [name for name, case in CASES.items() if case.foretells]
CONTEXT = [name for name, case in CASES.items() if case.has_context]
GMM = {"n": 8, "m": 8, "hidden": 20}

# These networks are compiled once and run once: half the compiler's work is enough.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(autouse=True)
def _exact_products():
  with jax.default_matmul_precision("highest"):
    yield


def template_of(network, stride=64):
  return jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, stride, stride, 3), jnp.float32))


def foreign_shapes(network):
  zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), template_of(network))
  return {key: array.shape for key, array in convert.to_foreign(zeros, keys.RULES).items()}


@functools.cache
def golden(name):
  return dict(np.load(GOLDEN / f"{name}.npz"))


@functools.cache
def narrow(name):
  """(network, its variables, as the golden has them, in CompressAI's names)."""
  case = CASES[name]
  network = load_network(name).build(n=case.n, m=case.m)
  arrays = {
    key: golden(name)["quantiles"] if key.endswith("quantiles") else learned_cases.weight(case, key, shape)
    for key, shape in foreign_shapes(network).items()
  }
  return network, convert.to_variables(arrays, keys.READING, template_of(network), name), arrays


@functools.cache
def coding(name):
  network, variables, _ = narrow(name)
  return compiled(network.apply)(variables, learned_cases.picture())


def bottleneck(name="mbt2018-mean"):
  return narrow(name)[1]["params"]["entropy_bottleneck"]


# --------------------------------------------------------------------------------------------------- the table


def test_table_names_what_was_published():
  for network in NETWORKS.values():
    assert len(network.widths) == (6 if network.name.startswith("cheng") else 8)
    for metric in network.files:
      files = [network.file(quality, metric) for quality in range(1, len(network.widths) + 1)]
      assert len(set(files)) == len(network.widths)
  assert load_network("mbt2018").file(5, "ms-ssim") == "mbt2018-ms-ssim-5-9b30e3b7.pth.tar"
  assert [len(LAMBDAS[metric]) for metric in METRICS] == [8, 8]
  assert {network.builder.split(":")[1] for network in NETWORKS.values()} == {
    type(network.build(1)).__name__ for network in NETWORKS.values()
  }


def test_what_was_not_published_is_told():
  with pytest.raises(SpecError, match=r"no network 'mbt2018-means'; did you mean 'mbt2018-mean'\?"):
    load_network("mbt2018-means")
  with pytest.raises(LevelError, match="cheng2020-attn: quality runs from 1 to 6, not 7"):
    load_network("cheng2020-attn").build(7)
  with pytest.raises(SpecError, match="metric of cheng2020-gmm"):
    load_network("cheng2020-gmm").file(1)


@pytest.mark.parametrize("name", CASES)
def test_published_widths_have_the_published_keys_and_shapes(name):
  found = {}
  for quality, width in enumerate(load_network(name).widths, start=1):
    if width not in found:
      shapes = foreign_shapes(load_network(name).build(quality))
      found[width] = [len(shapes), seeded.digest(shapes)]
    assert found[width] == STATE_DICTS[name][str(quality)]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_trace_in_bfloat16(name):
  options = GMM if name == "cheng2020-gmm" else {"n": 8, "m": 8}
  network = load_network(name).build(**options, dtype=jnp.bfloat16)
  picture = jax.ShapeDtypeStruct((2, 64, 128, 3), jnp.float32)
  done = jax.eval_shape(network.apply, template_of(network), picture)
  assert {leaf.dtype for leaf in jax.tree.leaves(done)} == {jnp.dtype(jnp.float32)}
  assert done.x_hat.shape == picture.shape
  assert done.latents["y_hat"].shape == (2, 4, 8, 8)
  assert jax.eval_shape(type(done).bits, done).shape == (2,)


# ------------------------------------------------------------------------------------------ CompressAI's numbers


@pytest.mark.parametrize("name", CASES)
def test_reconstruction_is_compressai_s(name):
  np.testing.assert_allclose(coding(name).x_hat[:, ::STEP, ::STEP], golden(name)["x_hat"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_latents_and_likelihoods_are_compressai_s(name):
  done, expected = coding(name), golden(name)
  for part, likelihood in done.likelihoods.items():
    np.testing.assert_allclose(done.latents[part], expected[part], rtol=0, atol=2e-5)
    np.testing.assert_allclose(likelihood, expected[f"likelihood_{part}"], rtol=1e-4, atol=2e-6)
  if name in HYPER:
    np.testing.assert_allclose(done.prior.scales, expected["scales"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(done.prior.means, expected.get("means", 0), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", [name for name in CASES if name not in CONTEXT])
def test_forward_is_what_compressai_decodes(name):
  decoded = np.clip(coding(name).x_hat[:, ::STEP, ::STEP], 0, 1)
  np.testing.assert_allclose(decoded, golden(name)["decoded"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CONTEXT)
def test_coding_position_by_position_is_what_compressai_decodes(name):
  network, variables, _ = narrow(name)
  y, z_hat = (coding(name).latents[part] for part in ("y", "z_hat"))
  features = compiled(functools.partial(network.apply, method="hyper_synthesis"))(variables, z_hat)
  y_hat = compiled(functools.partial(in_raster_order, network))(variables, y, features)
  x_hat = compiled(functools.partial(network.apply, method="synthesis"))(variables, y_hat)
  decoded = np.clip(x_hat[:, ::STEP, ::STEP], 0, 1)
  np.testing.assert_allclose(decoded, golden(name)["decoded"], rtol=0, atol=1e-5)


def in_raster_order(network, variables, y, features):
  """ŷ[1 h w m], each position rounded from the mean that those before it foretell."""
  _, h, w, m = y.shape
  rows, columns = (np.array(part) for part in zip(*context.NEIGHBOURS))
  begun = network.apply(variables, features, method="begun")

  def step(t, y_hat):
    i, j = t // w, t % w
    neighbours = y_hat[0, i + 2 + rows, j + 2 + columns]
    prior = network.apply(variables, begun[0, i, j], neighbours, method="prior_at")
    return y_hat.at[0, i + 2, j + 2].set(jnp.round(y[0, i, j] - prior.centre) + prior.centre)

  y_hat = jax.lax.fori_loop(0, h * w, step, jnp.zeros((1, h + 4, w + 4, m)))
  return y_hat[:, 2:-2, 2:-2]


def test_estimated_bits_are_the_bytes_of_compressai_s_coder():
  name = "bmshj2018-factorized"  # with a hyperprior, these random weights foretell badly and most bytes are escapes
  assert float(coding(name).bits()[0]) / 8 == pytest.approx(golden(name)["n_bytes"][0], rel=0.02)


# ----------------------------------------------------------------------------------------------- names of arrays


@pytest.mark.parametrize("name", CASES)
def test_older_names_load_too(name):
  network, variables, arrays = narrow(name)
  for matrix, skip in (("_matrix", "downsample"), ("_matrices.", "skip")):
    singular = not matrix.endswith(".")
    older = {
      key.replace("matrices.", matrix)
      .replace("biases.", "_bias" if singular else "_biases.")
      .replace("factors.", "_factor" if singular else "_factors.")
      .replace(".skip.", f".{skip}."): array
      for key, array in arrays.items()
    }
    assert older.keys() != arrays.keys()
    found = convert.to_variables(older, keys.READING, template_of(network), name)
    assert jax.tree.all(jax.tree.map(np.array_equal, found, variables))


def test_constants_are_left_out_and_strangers_refused():
  network, _, arrays = narrow("mbt2018")
  constants = ("g_a.1.beta_reparam.pedestal", "entropy_bottleneck._quantized_cdf", "gaussian_conditional.scale_table")
  more = {**arrays, **dict.fromkeys((*constants, "context_prediction.mask"), np.zeros(1, np.float32))}
  convert.to_variables(more, keys.READING, template_of(network), "mbt2018")
  with pytest.raises(WeightsError, match=r"1 of \d+ arrays are left over \(g_a.9.weight\)"):
    convert.to_variables({**arrays, "g_a.9.weight": np.zeros(1)}, keys.READING, template_of(network), "mbt2018")
  arrays = {key: array for key, array in arrays.items() if key != "context_prediction.bias"}
  with pytest.raises(WeightsError, match=r"1 of the model's \d+ are unfilled \(params/context_prediction/bias\)"):
    convert.to_variables(arrays, keys.READING, template_of(network), "mbt2018")


# ----------------------------------------------------------------------------------------------------- context


def test_context_sees_only_what_was_decoded_before():
  network, variables, _ = narrow("mbt2018")
  y_hat = jnp.asarray(seeded.normal("y_hat", (1, 7, 9, 12)))
  see = compiled(lambda y_hat: network.apply(variables, y_hat, method="context"))
  changed = np.abs(see(y_hat) - see(y_hat.at[0, 3, 4].add(1))).max(-1)[0] > 0
  assert sorted((i - 3, j - 4) for i, j in zip(*np.nonzero(changed))) == sorted((-i, -j) for i, j in context.NEIGHBOURS)


# -------------------------------------------------------------------------------------------- factorised prior


def test_distributions_are_the_likelihoods_of_symbols():
  params = bottleneck()
  found, width = factorized.distributions(params), params["quantiles"].shape[0]
  layer = factorized.EntropyBottleneck(width)
  for step in (0, 5, 11):
    symbols = found.offsets + step
    places = (params["quantiles"][:, 0, 1] + symbols).astype(np.float32)[None, None, None]
    likelihood = layer.apply({"params": params}, places, method="likelihood")
    np.testing.assert_allclose(np.maximum(found.pmf[:, step], 1e-9), likelihood[0, 0, 0], rtol=1e-4, atol=1e-8)


def test_distributions_lack_no_more_than_the_tail_mass():
  found = factorized.distributions(bottleneck())
  sums = [pmf[:n].sum() for pmf, n in zip(found.pmf, found.lengths)]
  np.testing.assert_allclose(sums, 1, atol=1e-8)
  assert len(tables.from_pmf(*found)) == len(found.lengths)


def test_quantiles_are_solved():
  params = bottleneck()
  np.testing.assert_allclose(factorized.solved_quantiles(params), params["quantiles"], rtol=2e-4, atol=2e-3)
  solved = {**params, "quantiles": factorized.solved_quantiles(params)}
  layer = factorized.EntropyBottleneck(len(solved["quantiles"]))

  def loss(params):
    return layer.apply({"params": params}, method="auxiliary_loss")

  assert loss(solved) < 1e-2
  moved = {**solved, "quantiles": solved["quantiles"] + np.float32(0.5)}
  grad = compiled(jax.grad(loss))(moved)
  assert (grad.pop("quantiles")[:, 0, 1] > 0).all()
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(grad))


@pytest.mark.parametrize(
  ("quantiles", "message"),
  [([3, 2, 1], "not finite and in order"), ([0, np.nan, 1], "not finite"), ([-1e6, 0, 1e6], "2000000 apart")],
)
def test_damaged_quantiles_are_told(quantiles, message):
  params = {**bottleneck(), "quantiles": np.full((8, 1, 3), quantiles)}
  with pytest.raises(WeightsError, match=message):
    factorized.distributions(params)


# ------------------------------------------------------------------------------------------------------ layers


@pytest.mark.parametrize("inverse", [False, True])
def test_a_large_picture_is_normalised_strip_by_strip_as_at_once(inverse, monkeypatch):
  gdn, x = layers.GDN(inverse), seeded.normal("x", (2, 48, 5, 4))
  params = {"beta": 1 + np.abs(seeded.normal("beta", (4,))), "gamma": seeded.normal("gamma", (4, 4))}
  at_once = gdn.apply({"params": params}, x)
  monkeypatch.setattr(layers, "_LARGE", 1)
  by_strips = jax.jit(lambda x: gdn.apply({"params": params}, x))
  assert "while" in by_strips.lower(x[:1]).as_text()
  for one, expected in zip(x, at_once):
    np.testing.assert_allclose(by_strips(one[None])[0], expected, rtol=1e-6)


# -------------------------------------------------------------------------------------- Gaussians and mixtures


def test_a_gaussian_is_its_definition():
  means, scales = np.float32([0.3, -4.2, 0]), np.float32([0.5, 7, 0.01])
  values = np.float32([[0], [1], [-3]]) + means
  scale = np.maximum(scales, 0.11).astype(np.float64)
  exact = special.ndtr((values - means + 0.5) / scale) - special.ndtr((values - means - 0.5) / scale)
  found = Gaussian(means, scales).likelihood(values)
  np.testing.assert_allclose(found, np.maximum(exact, 1e-9), rtol=1e-4, atol=1e-9)


def test_a_mixture_of_one_is_the_gaussian():
  means, scales = (jnp.asarray(seeded.normal(part, (50,))) for part in ("means", "scales"))
  values = jnp.round(4 * seeded.normal("values", (50,)))
  one = Mixture(jnp.ones((50, 1)), means[:, None], scales[:, None])
  np.testing.assert_array_equal(one.likelihood(values), Gaussian(means, scales).likelihood(values))
  same = Mixture(jnp.full((50, 3), 1 / 3), *(jnp.repeat(x[:, None], 3, 1) for x in (means, scales)))
  np.testing.assert_allclose(same.likelihood(values), one.likelihood(values), rtol=1e-5)
  first = Mixture(jnp.asarray([[1.0, 0, 0]] * 50), *(jnp.stack([x, x + 3, x - 9], -1) for x in (means, scales)))
  np.testing.assert_allclose(first.likelihood(values), one.likelihood(values), rtol=1e-5)


def test_the_mixture_network_gives_distributions():
  network = load_network("cheng2020-gmm").build(**GMM)
  variables = network.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
  features, neighbours = (3 * seeded.normal(part, shape) for part, shape in (("f", (20, 16)), ("n", (20, 12, 8))))
  begun = network.apply(variables, features, method="begun")
  prior = network.apply(variables, begun, neighbours, method="prior_at")
  assert {part.shape for part in prior} == {(20, 8, 3)}
  np.testing.assert_allclose(prior.weights.sum(-1), 1, rtol=1e-6)
  assert (np.asarray(prior.scales) >= 0).all()
  symbols = np.arange(-60, 61, dtype=np.float32)[:, None, None]
  np.testing.assert_allclose(prior.likelihood(jnp.broadcast_to(symbols, (121, 20, 8))).sum(0), 1, atol=1e-5)


def test_scales_below_the_bound_learn_only_to_grow():
  grad = jax.grad(lambda x: (layers.lower_bound(x, 1.0) * jnp.asarray([1.0, -1.0, 1.0])).sum())
  np.testing.assert_array_equal(grad(jnp.asarray([0.5, 0.5, 2.0])), [0, -1, 1])


# ------------------------------------------------------------------------------------------ training, many rates


def test_modes_of_quantisation():
  x = jnp.asarray(seeded.normal("x", (1000,))) * 5
  hat, rate = quantise(x, "noise", 0.25, lambda: jax.random.key(0))
  assert hat is rate
  assert 0.45 < float(jnp.abs(rate - x).max()) <= 0.5
  hat, rate = quantise(x, "ste", 0.25, lambda: jax.random.key(0))
  np.testing.assert_allclose(hat, jnp.round(x - 0.25) + 0.25, atol=1e-6)
  assert float(jnp.abs(rate - hat).max()) > 0.1
  assert (jax.grad(lambda x: quantise(x, "ste", 0.0, lambda: jax.random.key(0))[0].sum())(x) == 1).all()
  with pytest.raises(SpecError, match=r"did you mean 'noise'"):
    quantise(x, "nois", 0.0, lambda: jax.random.key(0))


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018-mean", "cheng2020-gmm"])
def test_every_parameter_but_quantiles_learns(name):
  network = load_network(name).build(**(GMM if name == "cheng2020-gmm" else {"n": 4, "m": 6}))
  x = jnp.asarray(learned_cases.picture())[:, :64, :64]
  variables = compiled(network.init)(jax.random.key(0), x)

  def loss(variables):
    done = network.apply(variables, x, "noise", rngs={"noise": jax.random.key(1)})
    return done.bits().sum() / x[..., 0].size + 100 * jnp.square(done.x_hat - x).mean()

  grads = convert.flatten(compiled(jax.grad(loss))(variables))
  still = {path for path, grad in grads.items() if not np.abs(grad).max() > 0}
  assert still == {"params/entropy_bottleneck/quantiles"}
  assert all(np.isfinite(grad).all() for grad in grads.values())


@functools.cache
def gained():
  """(network, variables, gains) of the narrow mbt2018-mean with three levels, the last of them fine."""
  network, steps = load_network("mbt2018-mean").build(n=8, m=12, levels=3), np.float32([[-1], [0], [3]])
  gains = 0.3 * seeded.normal("gains", (3, 12)) + steps
  own = {"gain_y.log_gain": gains, "gain_y.log_inverse": -gains}
  own |= dict.fromkeys(("gain_z.log_gain", "gain_z.log_inverse"), np.zeros((3, 8), np.float32))
  picture = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  template = jax.eval_shape(network.init, jax.random.key(0), picture, level=jax.ShapeDtypeStruct((1,), jnp.float32))
  return network, convert.to_variables({**narrow("mbt2018-mean")[2], **own}, keys.RULES, template), gains


def test_levels_are_rates_and_a_level_between_lies_between():
  network, variables, gains = gained()
  x, level = np.repeat(learned_cases.picture()[:, :64, :64], 4, 0), jnp.asarray([0.0, 1.0, 1.5, 2.0])
  done = compiled(network.apply)(variables, x, level=level)
  plain = done.latents["y"][1] * np.exp(-gains[1])
  factors = np.exp(np.stack([gains[0], gains[1], (gains[1] + gains[2]) / 2, gains[2]]))
  np.testing.assert_allclose(done.latents["y"], plain * factors[:, None, None], rtol=1e-4, atol=1e-4)
  whole = compiled(functools.partial(network.apply, method="synthesis"))(variables, done.latents["y"], level)
  np.testing.assert_allclose(whole[1:], whole[:-1], atol=1e-4)  # not rounded, all are the same picture
  assert (np.diff(np.square(done.x_hat - whole).mean((1, 2, 3))) < 0).all()


def test_a_level_goes_with_levels():
  network, variables, _ = gained()
  with pytest.raises(SpecError, match="MeanScaleHyperprior: built with levels=3, and none was given"):
    jax.eval_shape(network.apply, variables, learned_cases.picture())
  with pytest.raises(SpecError, match="levels=0, and one was given"):
    jax.eval_shape(narrow("mbt2018")[0].apply, narrow("mbt2018")[1], learned_cases.picture(), level=jnp.zeros(1))
