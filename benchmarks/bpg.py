"""BPG against bare libx265 and the bare hevc decoder, and what its container costs.

    python benchmarks/bpg.py [--small] [--pictures=8] [--rounds=5]

Pictures are 768x512, 4:2:0, QP 32, preset veryslow.

- `file / stream`: writing the file of a coded picture, or reading one back into a stream, over what libx265 and the
  decoder take for that picture. Target: at most 1 %.
- `ours / bare`: `encode` and `decode` from arrays to files and back, over a loop of PyAV calls that make and read bare
  HEVC streams with the same settings, colours converted by FFmpeg. Target: at most 1.1.

Ways are measured in turn and the best of the rounds counts, as other work on the machine only ever slows one down.
"""

import argparse

import av
import numpy as np
from av.video.reformatter import ColorRange
from result import Figure, finish
from video_codecs import best_of, clip_of

from robust_compress.codecs import bpg, bpg_container, load_codec, video_frames
from robust_compress.codecs.colour import Layout

QP, PRESET, LAYOUT = 32, "veryslow", Layout(chroma=420)
FULL = ColorRange.JPEG  # as BPG has it; of limited range there would be less to code


def bare_encode(frame: np.ndarray) -> bytes:
  height, width, _ = frame.shape
  options = bpg.encoder_settings(QP, PRESET)
  encoder = video_frames.open_encoder("bpg", "libx265", (height, width), "yuv420p", options)
  coded = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p", dst_color_range=FULL, threads=1)
  return b"".join(bytes(packet) for packet in [*encoder.encode(coded), *encoder.encode(None)])


def bare_decode(stream: bytes) -> np.ndarray:
  decoder = av.CodecContext.create("hevc", "r")
  decoder.thread_count = 1
  [frame] = [*decoder.decode(av.Packet(stream)), *decoder.decode(None)]
  return frame.reformat(format="rgb24", src_color_range=FULL, threads=1).to_ndarray()


def container(clips: list[np.ndarray], rounds: int) -> dict[str, float]:
  """Seconds of the container, and of what it is laid around, over all pictures."""
  planes = [bpg.to_planes(clip[0], LAYOUT.chroma, LAYOUT.depth)[1] for clip in clips]
  streams = [bpg.encode_planes(each, LAYOUT, QP, PRESET) for each in planes]
  files = [bpg_container.write(stream, *clip.shape[1:3], LAYOUT) for stream, clip in zip(streams, clips)]
  read = [bpg_container.read(file) for file in files]
  ways = {
    "write": lambda: [bpg_container.write(stream, *clip.shape[1:3], LAYOUT) for stream, clip in zip(streams, clips)],
    "read": lambda: [bpg_container.annex_b(bpg_container.read(file)) for file in files],
    "encode": lambda: [bpg.encode_planes(each, LAYOUT, QP, PRESET) for each in planes],
    "decode": lambda: [bpg.decode_planes(contents) for contents in read],
  }
  return best_of(rounds, ways)


def whole(clips: list[np.ndarray], rounds: int) -> dict[str, float]:
  """Seconds of the codec and of the bare loop, over all pictures."""
  codec = load_codec("bpg")
  blobs = [coded.blob for coded in codec.encode(clips, [QP] * len(clips))]
  streams = [bare_encode(clip[0]) for clip in clips]
  ways = {
    "our encode": lambda: codec.encode(clips, [QP] * len(clips)),
    "bare encode": lambda: [bare_encode(clip[0]) for clip in clips],
    "our decode": lambda: codec.decode(blobs),
    "bare decode": lambda: [bare_decode(stream) for stream in streams],
  }
  return best_of(rounds, ways)


def main(n_pictures: int, rounds: int, small: bool) -> None:
  clips = [clip_of(768, 1, seed)[:, :512] for seed in range(n_pictures)]
  parts, ways = container(clips, rounds), whole(clips, rounds)
  figures = [
    Figure("bpg file / stream, encode", parts["write"] / parts["encode"], "<=", 0.01),
    Figure("bpg file / stream, decode", parts["read"] / parts["decode"]),
    Figure("bpg encode, ours / bare", ways["our encode"] / ways["bare encode"], "<=", 1.1),
    Figure("bpg decode, ours / bare", ways["our decode"] / ways["bare decode"]),
    Figure("bpg encode and decode, ours / bare", _sum(ways, "our") / _sum(ways, "bare"), "<=", 1.1),
  ]
  milliseconds = {name: round(1000 * value / n_pictures, 2) for name, value in {**parts, **ways}.items()}
  finish("bpg", figures, small, pictures=n_pictures, milliseconds=milliseconds)


def _sum(ways: dict[str, float], whose: str) -> float:
  return sum(value for name, value in ways.items() if name.startswith(whose))


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--small", action="store_true", help="a smoke test of seconds")
  parser.add_argument("--pictures", type=int, default=8)
  parser.add_argument("--rounds", type=int, default=5)
  arguments = parser.parse_args()
  main(1 if arguments.small else arguments.pictures, 1 if arguments.small else arguments.rounds, arguments.small)
