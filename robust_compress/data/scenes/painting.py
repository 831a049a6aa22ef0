"""Pixels of scenes: backdrop, shadows, surfaces, sensor.

    noise ──camera──▶ backdrop ──for each object, far to near: shadow, surface──▶ lens, sensor ──▶ uint8[h w 3]

Colours are mixed as displayed. Every operation is elementwise and one that IEEE 754 rounds in one way only (sums,
products, quotients, square roots, comparisons), so a picture has the same bits on every machine.
"""

from __future__ import annotations

import numpy as np

from robust_compress.data.scenes.camera import View, pixel_centres
from robust_compress.data.scenes.draws import Draws, turn
from robust_compress.data.scenes.layers import REACH, Layer, Pose
from robust_compress.data.scenes.scene import Object, Scene
from robust_compress.data.scenes.textures import TEXTURES, grain, natural_noise, noise_period, period, sample

_CANVAS = 1.2  # picture sides, before the noise repeats


def noise_fields(scene: Scene, size: int) -> list[np.ndarray]:
  """The canvas of a scene, float32[n n] each: luminance, patches of ground, chroma (coarser each)."""
  n_octaves, gain = octaves(size), scene.backdrop.gain
  return [natural_noise(Draws(scene.key, 4 + i), n_octaves - coarser, gain) for i, coarser in enumerate((0, 1, 2))]


def octaves(size: int) -> int:
  """Octaves of a canvas whose samples lie about as close as the pixels of a picture of `size` a side."""
  n = 3
  while noise_period(n) * 1.42 < _CANVAS * size:
    n += 1
  return n


def on_canvas(field: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """A noise field at picture coordinates."""
  density = np.float32(period(field) / _CANVAS)
  return sample(field, x * density, y * density)


def paint_backdrop(scene: Scene, fields: list[np.ndarray], view: View, size: int) -> np.ndarray:
  """float32[3 h w]: ground with patches, what is beyond, and noise with natural colour correlation over both."""
  backdrop = scene.backdrop
  x, y, _ = backdrop_coordinates(scene, view, size)
  luminance, patches, chroma = (on_canvas(field, x, y) for field in fields)
  beyond, ground, patch = (np.array(c, np.float32)[:, None, None] for c in backdrop.place)
  near = np.clip((y - np.float32(backdrop.horizon)) * np.float32(1 / backdrop.haze), 0, 1)
  mixed = np.clip(patches * np.float32(backdrop.edge * 0.5) + np.float32(0.3), 0, 1) * near
  pixels = beyond + (ground - beyond) * near + (patch - ground) * mixed
  pixels *= 1 + luminance * ((np.float32(0.45) + np.float32(0.55) * near) * np.float32(backdrop.roughness))
  chroma *= np.float32(backdrop.roughness * 0.2)
  pixels[0] -= chroma
  pixels[2] += chroma
  return pixels


def backdrop_coordinates(scene: Scene, view: View, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """x[h w] (or [w]) and y[h 1], where a resting camera sees what each pixel of backdrop shows; its 1/m, [h 1]."""
  backdrop, centres = scene.backdrop, pixel_centres(0, size, size)
  y = view.unproject_row(centres)[:, None]
  inverse_depth = np.maximum(np.float32(backdrop.far), (y - np.float32(backdrop.horizon)) * np.float32(backdrop.slope))
  return view.unproject_column(centres, inverse_depth), y, inverse_depth


def cast_shadow(pixels: np.ndarray, layer: Layer, scene: Scene) -> None:
  """Darkens what lies behind an object, softly, away from the light."""
  size = pixels.shape[-1]
  reach = REACH * layer.pose.scale
  right, down = (round(-d * reach * 0.7 * size) for d in scene.light.direction[:2])
  frame, own = layer.inside(size, down, right)
  depth = np.clip(np.float32(0.5) - layer.distance[own] * np.float32(1 / reach), 0, 1)
  strength = np.float32(0.55 * (1 - scene.light.ambient))
  pixels[:, *frame] *= 1 - strength * depth * depth


def paint_object(pixels: np.ndarray, layer: Layer, scene: Scene, luminance: np.ndarray) -> None:
  """Lays an object's lit surface over what is behind it, mottled by the scene's `luminance` noise."""
  size = pixels.shape[-1]
  frame, own = layer.inside(size)
  thing, u, v = layer.thing, layer.u[own], layer.v[own]
  draws, scale = Draws(scene.key, 2048 + thing.stream), np.float32(thing.scale)
  mottle = on_canvas(luminance, u * scale + np.float32(draws.uniform()), v * scale + np.float32(draws.uniform()))
  relief = 1 + mottle * np.float32(0.05)
  if thing.texture:
    relief += fine_texture(thing, layer.pose, u, v, size, grain(draws))
  shading = _shading(layer, scene)[own] * relief
  blend = np.clip(mottle * np.float32(0.12) + np.float32(0.2), 0, 0.6)
  coverage = layer.coverage[own]
  for channel, skin, shade in zip(pixels, thing.skin, thing.shade, strict=True):
    behind = channel[frame]
    behind += coverage * ((np.float32(skin) + np.float32(shade - skin) * blend) * shading - behind)


def fine_texture(thing: Object, pose: Pose, u: np.ndarray, v: np.ndarray, size: int, lattice: np.ndarray) -> np.ndarray:
  """The class texture, fixed to the surface; it fades where a wave would be shorter than about two pixels."""
  pixels_per_wave = thing.wavelength * size * pose.scale / thing.scale
  visible = min(max((pixels_per_wave - 1.8) / 0.7, 0.0), 1.0)
  cosine, sine = (np.float32(x * thing.scale / thing.wavelength) for x in turn(thing.texture_angle))
  pattern = TEXTURES[thing.texture](cosine * u + sine * v, cosine * v - sine * u, lattice)
  return pattern * np.float32(thing.contrast * visible)


def _shading(layer: Layer, scene: Scene) -> np.ndarray:
  """Display brightness of a surface that bulges towards the camera, with a soft highlight."""
  light, bulge = scene.light, layer.thing.shape.bulge * layer.pose.scale
  lean = 1 - np.clip(layer.distance * np.float32(-1 / bulge), 0, 1)  # 1 at the outline, 0 where the surface faces us
  dy, dx = _slopes(layer.distance)
  over = lean * np.float32(0.92) / np.sqrt(dx * dx + dy * dy + np.float32(1e-12))
  facing = np.sqrt(1 - np.float32(0.8464) * lean * lean)
  right, down, front = (np.float32(d) for d in light.direction)
  lit = np.maximum(dx * over * right + dy * over * down + facing * front, 0)
  shine = lit * lit
  shine = shine * shine
  shine = shine * shine
  share = np.float32(light.ambient)
  return np.sqrt(share + (1 - share) * np.float32(1.5) * lit) + shine * shine * np.float32(0.12)


def _slopes(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Central differences along rows and columns, 0 at the edges, twice the slope per pixel."""
  down, right = np.zeros_like(field), np.zeros_like(field)
  np.subtract(field[2:], field[:-2], out=down[1:-1])
  np.subtract(field[:, 2:], field[:, :-2], out=right[:, 1:-1])
  return down, right


def expose(pixels: np.ndarray, scene: Scene, time: float) -> np.ndarray:
  """float32[3 h w] to uint8[h w 3]: tint and vignette, the blur of lens and sensor, noise, rounding."""
  light, size = scene.light, pixels.shape[-1]
  square = pixel_centres(0, size, size) ** 2
  fall = 1 - np.float32(light.vignette) * (square + square[:, None])
  pixels *= fall * np.array([light.exposure * 255 * t for t in light.tint], np.float32)[:, None, None]
  middle, beside = np.float32(1 - 2 * light.blur), np.float32(light.blur)
  for axis in (1, 2):
    padded = np.concatenate([pixels.take([0], axis), pixels, pixels.take([-1], axis)], axis)
    before, after = (padded[:, :-2], padded[:, 2:]) if axis == 1 else (padded[:, :, :-2], padded[:, :, 2:])
    pixels = pixels * middle + (before + after) * beside
  draws = Draws(scene.key, (1 << 32) + round(time * 1024))
  pixels += draws.white(3, size, size) * np.float32(light.noise)
  pixels += np.float32(0.5)
  return np.ascontiguousarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8).transpose(1, 2, 0))
