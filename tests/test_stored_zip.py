"""Our zip files as others read them: Python's zipfile and, where there is one, unzip."""

import io
import shutil
import subprocess
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_compress.data import stored_zip
from robust_compress.data.stored_zip import StoredZip


def written(members):
  file = io.BytesIO()
  archive = StoredZip(file)
  spans = [archive.add(name, data) for name, data in members.items()]
  archive.close()
  return file.getvalue(), spans


def check(members):
  blob, spans = written(members)
  with zipfile.ZipFile(io.BytesIO(blob)) as archive:
    assert archive.testzip() is None
    assert {name: archive.read(name) for name in archive.namelist()} == members
    assert [info.CRC for info in archive.infolist()] == [span.crc for span in spans]
  assert [blob[span.offset : span.offset + span.n_bytes] for span in spans] == list(members.values())


@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9._-]{1,80}", fullmatch=True), st.binary(max_size=50), max_size=9))
def test_zipfile_reads_back_what_was_added(members):
  check(members)


def test_a_file_beyond_4_gib_has_zip64_offsets(tmp_path):
  with open(tmp_path / "sparse.zip", "w+b") as file:
    archive = StoredZip(file)
    archive._end = file.seek(5 << 30)  # a hole, which takes no room
    span = archive.add("a.bin", b"abc")
    archive.close()
    file.seek(span.offset)
    assert file.read(3) == b"abc"
  with zipfile.ZipFile(tmp_path / "sparse.zip") as reader:
    assert reader.infolist()[0].header_offset == 5 << 30
    assert reader.read("a.bin") == b"abc"


def test_more_members_than_the_old_count_holds():
  members = {str(i): b"" for i in range(66_000)}
  with zipfile.ZipFile(io.BytesIO(written(members)[0])) as reader:
    assert reader.namelist() == list(members)


def test_members_over_4_gib_are_refused(monkeypatch):
  monkeypatch.setattr(stored_zip, "_MAX_32", 10)
  with pytest.raises(ValueError, match=r"big\.bin: 10 bytes"):
    StoredZip(io.BytesIO()).add("big.bin", b"0123456789")


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip on this machine")
def test_unzip_finds_no_fault(tmp_path):
  (tmp_path / "a.zip").write_bytes(written({"a.txt": b"a" * 1000, "b.txt": b""})[0])
  result = subprocess.run(["unzip", "-t", str(tmp_path / "a.zip")], capture_output=True, text=True)
  assert result.returncode == 0, result.stdout
