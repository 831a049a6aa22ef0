"""Latents to strings and back: what is coded, by which prior, in which order.

    z ──round from medians──▶ symbols ──tables of the channels──▶ string
    y ──round from means────▶ symbols ──Gaussians: rows of `tables.gaussian`, or a mixture for each──▶ string

A network without a hyperprior codes y as the others code z. With context, y goes front by front (`wavefront.py`) and in
as many portions; without, at once. Everything here is numpy on the host, the same for both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from robust_compress.codecs.learned import coder as constriction
from robust_compress.codecs.learned import mixture, tables, wavefront
from robust_compress.codecs.learned.networks.gaussian import Gaussian, Mixture
from robust_compress.codecs.learned.programs import Programs
from robust_compress.types import CodecError

VERSION = 3  # of tables, of the sizes and portions that are foretold and coded at once, and of the way that networks
# are computed: all that a string hangs on
PORTION = 1 << 14  # positions
_SLACK = 16  # bytes that a string may be shorter by chance, its zeros at the end being left out


class Latents(NamedTuple):
  """What both sides know when a picture is coded."""

  symbols: list[np.ndarray]  # int32[n c] behind each string, in the order in which they are coded
  y_hat: np.ndarray  # float32[h w m]


def write(programs: Programs, y: np.ndarray, level: float, coder: ModuleType) -> tuple[list[bytes], Latents]:
  """y, float32[h w m], to strings. Raises CodecError for numbers that cannot be coded."""
  if not programs.has_hyperprior:
    string, symbols, y_hat = _write_factorized(programs, y, coder)
    return [string], Latents([symbols], y_hat)
  hyper_string, hyper_symbols, z_hat = _write_factorized(programs, programs.hyper_analysis(y, level), coder)
  height, width, m = y.shape
  values = y.reshape(-1, m)
  if programs.has_context:
    values = values[wavefront.order(height, width).positions]
  encoder, symbols = coder.Encoder(), np.empty(values.shape, np.int32)

  def decide(which: slice, prior: Gaussian | Mixture) -> np.ndarray:
    symbols[which] = chosen = constriction.to_symbols(values[which] - prior.centre)
    _put(encoder, chosen, prior)
    return chosen.astype(np.float32) + np.float32(prior.centre)

  y_hat = _foretold(programs, z_hat, level, decide)
  return [hyper_string, encoder.string()], Latents([hyper_symbols, symbols], y_hat)


def read(
  programs: Programs, strings: Sequence[bytes], size: tuple[int, int], level: float, coder: ModuleType
) -> Latents:
  """The inverse of `write`, for y of a size [h w]. Raises CodecError for strings that no latents are coded as.

  Strings too short for the size are refused before they are decoded. Mixtures have no such bound: what they are surest
  of leaves no trace in a string. There z alone is bounded, and few bytes may take as long as a picture of that size.
  """
  height, width = size
  m, n_strings = programs.loaded.m, 2 if programs.has_hyperprior else 1
  if len(strings) != n_strings:
    raise CodecError(f"{len(strings)} strings where the network has {n_strings}; the blob is damaged")
  if not programs.has_hyperprior:
    symbols, y_hat = _read_factorized(programs, strings[0], (height, width, m), coder)
    return Latents([symbols], y_hat)
  if not programs.is_mixture:
    _check_length(strings[1], np.full(m, tables.gaussian().least_bits[0]), height * width)
  hyper_shape = height // 4, width // 4, programs.loaded.n
  hyper_symbols, z_hat = _read_factorized(programs, strings[0], hyper_shape, coder)
  decoder, symbols = coder.Decoder(strings[1]), np.empty((height * width, m), np.int32)

  def decide(which: slice, prior: Gaussian | Mixture) -> np.ndarray:
    symbols[which] = chosen = _get(decoder, prior)
    return chosen.astype(np.float32) + np.float32(prior.centre)

  return Latents([hyper_symbols, symbols], _foretold(programs, z_hat, level, decide))


def _foretold(programs: Programs, z_hat: np.ndarray, level: float, decide: wavefront.Decide) -> np.ndarray:
  """ŷ as `decide` makes it of the priors: all at once, or with context, front by front."""
  features = programs.features(z_hat, level)
  if programs.has_context:
    return wavefront.walk(programs.foretell, features, decide, programs.loaded.m)
  flat = features.reshape(-1, features.shape[2])
  y_hat = [decide(which, programs.prior(flat[which])) for which in _portions(len(flat))]
  return np.concatenate(y_hat).reshape(*features.shape[:2], -1)


def _portions(n: int) -> Iterator[slice]:
  """Of n positions that are coded at once: as many as bound the memory for what is worked out of them."""
  return (slice(start, min(start + PORTION, n)) for start in range(0, n, PORTION))


def _check_length(string: bytes, least_bits: np.ndarray, n: int) -> None:
  """Raises CodecError for a string too short for n positions, were all symbols the likeliest ones.

  So a few bytes that declare an enormous picture cost no time.

  Args:
    string: of an entropy coder.
    least_bits: float64[c], of the symbols of a position; for Gaussians those of the narrowest.
    n: positions.
  """
  if n * least_bits.sum() > 8 * (len(string) + _SLACK):
    raise CodecError(
      f"{len(string)} bytes cannot hold {n * len(least_bits)} symbols; the blob is damaged, or its size is false"
    )


# ------------------------------------------------------------------------------------------- one set of symbols


def _write_factorized(
  programs: Programs, values: np.ndarray, coder: ModuleType
) -> tuple[bytes, np.ndarray, np.ndarray]:
  """float32[h w c] by the tables of its channels: (string, symbols, values as the decoder has them)."""
  symbols = constriction.to_symbols(values - programs.medians).reshape(-1, values.shape[2])
  encoder = coder.Encoder()
  for which in _portions(len(symbols)):
    encoder.put(symbols[which].reshape(-1), _channels(symbols[which].shape), programs.tables)
  return encoder.string(), symbols, (symbols.astype(np.float32) + programs.medians).reshape(values.shape)


def _read_factorized(
  programs: Programs, string: bytes, shape: tuple[int, int, int], coder: ModuleType
) -> tuple[np.ndarray, np.ndarray]:
  """(symbols, values [h w c]). Raises CodecError for a string too short for the shape."""
  _check_length(string, programs.tables.least_bits, shape[0] * shape[1])
  decoder, symbols = coder.Decoder(string), np.empty((shape[0] * shape[1], shape[2]), np.int32)
  for which in _portions(len(symbols)):
    part = symbols[which]
    part[:] = decoder.get(_channels(part.shape), programs.tables).reshape(part.shape)
  return symbols, (symbols.astype(np.float32) + programs.medians).reshape(shape)


def _channels(shape: tuple[int, int]) -> np.ndarray:
  """int32[n·c], the row of each symbol."""
  return np.tile(np.arange(shape[1], dtype=np.int32), shape[0])


def _put(encoder: Any, symbols: np.ndarray, prior: Gaussian | Mixture) -> None:
  """Appends int32[n m]."""
  if isinstance(prior, Mixture):
    mixture.put(encoder, symbols.reshape(-1), _mixtures(prior))
  else:
    encoder.put(symbols.reshape(-1), _rows(prior), tables.gaussian())


def _get(decoder: Any, prior: Gaussian | Mixture) -> np.ndarray:
  """The next int32[n m]."""
  if isinstance(prior, Mixture):
    return mixture.get(decoder, _mixtures(prior)).reshape(prior.means.shape[:-1])
  return decoder.get(_rows(prior), tables.gaussian()).reshape(prior.means.shape)


def _rows(prior: Gaussian) -> np.ndarray:
  """int32[n·m], of `tables.gaussian`. What is not finite stays so, and is refused."""
  return tables.gaussian_indexes(np.maximum(prior.scales, tables.SCALE_BOUND).reshape(-1))


def _mixtures(prior: Mixture) -> mixture.Mixture:
  k = prior.means.shape[-1]
  scales = np.maximum(prior.scales, tables.SCALE_BOUND)
  return mixture.Mixture(*(part.reshape(-1, k) for part in (prior.weights, prior.means, scales)))
