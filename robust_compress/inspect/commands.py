"""The commands `rd`, `audit` and `codec` on the command line. What they need is imported when one of them runs."""

from __future__ import annotations

import argparse

_RAW = argparse.RawDescriptionHelpFormatter
RD = """\
rd: PSNR, MS-SSIM and bits per pixel of codecs on a folder of pictures or clips, of any size and number.

Writes DIR/rd.png, DIR/rd.csv and DIR/bd_rate.csv, and keeps every measurement in DIR/measured: run again after any
interruption, or with more codecs or levels, it measures what is missing. MS-SSIM needs sides of at least 161 pixels."""
RD_EXAMPLES = """\
--codecs  with commas between them; each may name its levels, else its usual ladder is measured:
            jpeg,webp(method=6)@[10..90:20],bpg(chroma=444)@[22..47]     (quote it: shells read brackets)
--anchor  one of them as written there without levels, or a published curve, as in kodak:vtm"""
AUDIT = """\
audit: how compressed the originals of a data set already are: formats, bits per pixel, JPEG quality by the tables
in the files, chroma subsampling, and traces of earlier JPEG compression in the pixels."""
CODEC = "codec: one picture or clip to a file and back, and what a file's header says."
ENCODE = """\
codec encode: codes PICTURE into FILE, and decodes it again to say how near it came.

PICTURE may be a picture, a video, or a folder of frames; FILE holds what the codec writes and nothing else."""
DECODE = """\
codec decode: decodes FILE, in a process with limits of time and memory, and writes PICTURE without loss.

PICTURE ends in .png, .ppm, .bmp or .tif, for a clip in .mkv or .avi (FFV1), or is a folder for frames."""


def add_parsers(commands: argparse._SubParsersAction) -> None:
  """Adds the three to those of the program."""
  rd = commands.add_parser(
    "rd", help="PSNR, MS-SSIM and bpp of codecs on pictures", description=RD, epilog=RD_EXAMPLES, formatter_class=_RAW
  )
  rd.add_argument("--codecs", required=True, metavar="LIST", help="what to measure, see below")
  rd.add_argument("--pictures", required=True, metavar="FOLDER", help="searched to any depth; or a data set's name")
  rd.add_argument("--output", required=True, metavar="DIR", help="where measurements, tables and figure go")
  rd.add_argument("--levels", default="", metavar="LIST", help="for codecs that name none: 30, or 10,30..90:20")
  rd.add_argument("--anchor", default="", metavar="CODEC", help="what BD-rates compare with; the first codec")
  rd.add_argument(
    "--published", default="auto", metavar="CURVES",
    help="curves for Kodak's pictures to lay over: all, none, names with commas; auto: where the pictures are Kodak's",
  )  # fmt: skip
  rd.add_argument("--on-bad", default="error", choices=("error", "skip"), help="at a picture that cannot be coded")
  _add_common(rd)
  rd.set_defaults(function=_rd)

  audit = commands.add_parser(
    "audit", help="how compressed originals already are", description=AUDIT, formatter_class=_RAW
  )
  audit.add_argument(
    "--data", required=True, action="append", metavar="FOLDER",
    help="searched to any depth; or a data set, as in 'imagenet2012:validation'; may be given several times",
  )  # fmt: skip
  audit.add_argument("--output", metavar="DIR", help="writes audit.json, and audit.csv with a line a file")
  audit.add_argument("--sample", type=int, default=2000, metavar="N", help="files to look at, 0 for all; 2000")
  audit.add_argument("--traced", type=int, default=200, metavar="N", help="of these, how many to decode; 200")
  _add_common(audit)
  audit.set_defaults(function=_audit)
  _add_codec(commands.add_parser("codec", help="one picture or clip to a file and back", description=CODEC))


def _add_common(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("--data-dir", default="data", metavar="DIR", help="where data sets with a name are; data")
  parser.add_argument("--workers", type=int, default=0, metavar="N", help="threads; as many as there are cores")


def _add_codec(parser: argparse.ArgumentParser) -> None:
  verbs = parser.add_subparsers(dest="verb", required=True, metavar="encode|decode|info", help="what to do")
  encode = verbs.add_parser("encode", help="PICTURE to FILE", description=ENCODE, formatter_class=_RAW)
  encode.add_argument("picture", metavar="PICTURE", help="a picture, a video, or a folder of frames")
  encode.add_argument("file", metavar="FILE", help="to write")
  encode.add_argument("--codec", required=True, metavar="CODEC@LEVEL", help="bpg@37, or at a rate: webp@0.5bpp")
  encode.set_defaults(function=_encode)
  decode = verbs.add_parser("decode", help="FILE to PICTURE", description=DECODE, formatter_class=_RAW)
  decode.add_argument("file", metavar="FILE", help="of any codec")
  decode.add_argument("picture", metavar="PICTURE", help="to write")
  decode.add_argument("--codec", default="", metavar="CODEC", help="where the first bytes do not tell")
  decode.set_defaults(function=_decode)
  info = verbs.add_parser("info", help="what the header of FILE says", description="codec info: decodes nothing.")
  info.add_argument("file", metavar="FILE", help="of any codec")
  info.add_argument("--codec", default="", metavar="CODEC", help="where the first bytes do not tell")
  info.set_defaults(function=_info)


def _rd(args: argparse.Namespace, _: list[str]) -> None:
  from robust_compress.inspect.rd_report import rate_distortion

  text = rate_distortion(
    args.codecs, args.pictures, args.output, levels=args.levels, anchor=args.anchor, published=args.published,
    on_bad=args.on_bad, data_dir=args.data_dir, n_workers=args.workers or None,
  )  # fmt: skip
  print(text)


def _audit(args: argparse.Namespace, _: list[str]) -> None:
  from robust_compress.inspect.audit_report import audit_all

  options = {"sample": args.sample, "traced": args.traced, "data_dir": args.data_dir, "n_workers": args.workers or None}
  print(audit_all(args.data, args.output, **options))


def _encode(args: argparse.Namespace, _: list[str]) -> None:
  from robust_compress.inspect import codec

  print(codec.text(codec.encode(args.picture, args.file, args.codec)))


def _decode(args: argparse.Namespace, _: list[str]) -> None:
  from robust_compress.inspect import codec

  print(codec.text(codec.decode(args.file, args.picture, args.codec)))


def _info(args: argparse.Namespace, _: list[str]) -> None:
  from robust_compress.inspect import codec

  print(codec.text(codec.info(args.file, args.codec)))
