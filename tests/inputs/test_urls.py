"""URLs through fsspec: one image, a folder, an archive; what is not there, and what is not installed."""

from __future__ import annotations

import contextlib
import http.server
import io
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations
from PIL import Image

from tests.conftest import draw, save
from tokenizer.errors import ImageError, InputError, UsageError
from tokenizer.images import read_image
from tokenizer.inputs import Inputs, gather_inputs
from tokenizer.inputs.urls import is_url, path_of


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(12, 9, seed)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    """fsspec's files in memory, emptied afterwards."""
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    """An archive of three images, one of them in a folder."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for number, name in enumerate(["b.png", "a/c.png", "d.png", "note.txt"]):
            archive.writestr(name, png(number))
    return tmp_path / "all.zip"


def names(inputs: Inputs) -> list[str]:
    return [source.name for source in inputs.sources]


def test_one_image(memory: MemoryFileSystem) -> None:
    memory.pipe("/photos/a.png", png(3))
    inputs = gather_inputs(["memory://photos/a.png"])
    assert inputs.count == 1
    (source,) = inputs.sources
    assert source.name == "a.png"
    for _ in range(2):
        np.testing.assert_array_equal(read_image(source.file), draw(12, 9, 3))


@pytest.mark.parametrize("folder", ["memory://photos", "memory://photos/", "memory:///photos"])
def test_a_folder_is_searched_like_one_on_disk(memory: MemoryFileSystem, folder: str) -> None:
    for number, name in enumerate(["b/2.jpg", "b/10.PNG", "a-c/x.png", "a/z.png", "a/t.txt", ".h/x.png", "a/.x.png"]):
        memory.pipe(f"/photos/{name}", png(number))
    memory.pipe("/photos2/other.png", png())
    inputs = gather_inputs([folder])
    assert names(inputs) == ["a/z.png", "a-c/x.png", "b/10.PNG", "b/2.jpg"]
    assert inputs.count == 4
    np.testing.assert_array_equal([read_image(source.file) for source in inputs.sources][2], draw(12, 9, 1))


def test_a_file_of_another_suffix_is_taken(memory: MemoryFileSystem) -> None:
    memory.pipe("/scans/raw.dat", png(4))
    (source,) = gather_inputs(["memory://scans/raw.dat"]).sources
    assert source.name == "raw.dat"
    np.testing.assert_array_equal(read_image(source.file), draw(12, 9, 4))


def test_names_among_several(memory: MemoryFileSystem, tmp_path: Path) -> None:
    memory.pipe("/x/a/1.png", png())
    memory.pipe("/x/b/1.png", png())
    assert names(gather_inputs(["memory://x/b", "memory://x/a/1.png", "memory://x/b/1.png"])) == ["b/1.png", "a/1.png"]
    save(tmp_path / "1.png", draw(8, 8))
    assert names(gather_inputs([str(tmp_path), "memory://x/a"])) == ["1.png", "memory/x/a/1.png"]
    assert names(gather_inputs(["memory://x/a", f"file://{tmp_path}"])) == ["memory/x/a/1.png", f"file{tmp_path}/1.png"]


def test_files_and_zips(zipped: Path) -> None:
    save(zipped.parent / "photos/é [x].png", draw(8, 8))
    inputs = gather_inputs([f"file://{zipped.parent}/photos"])
    assert names(inputs) == ["é [x].png"]
    assert [read_image(source.file).shape for source in inputs.sources] == [(8, 8, 3)]
    for url in (f"zip://::file://{zipped}", f"zip::file://{zipped}", f"zip://::{zipped}"):
        inputs = gather_inputs([url])
        assert names(inputs) == ["a/c.png", "b.png", "d.png"]
        np.testing.assert_array_equal([read_image(source.file) for source in inputs.sources][1], draw(12, 9, 0))
    assert names(gather_inputs([f"zip://a::file://{zipped}"])) == ["c.png"]
    assert names(gather_inputs([f"zip://d.png::file://{zipped}", f"zip://a::file://{zipped}"])) == ["d.png", "a/c.png"]


def test_through_a_cache(memory: MemoryFileSystem) -> None:
    memory.pipe("/x/a/1.png", png(6))
    inputs = gather_inputs(["simplecache::memory://x"])
    assert names(inputs) == ["a/1.png"]
    np.testing.assert_array_equal(next(read_image(source.file) for source in inputs.sources), draw(12, 9, 6))


def test_what_cannot_be_fetched_is_an_unreadable_image(memory: MemoryFileSystem) -> None:
    (source,) = gather_inputs(["memory://photos/gone.png"]).sources
    with pytest.raises(ImageError, match="it does not exist"):
        read_image(source.file)
    memory.pipe("/photos/text.png", b"text")
    (source,) = gather_inputs(["memory://photos/text.png"]).sources
    with pytest.raises(ImageError, match="not an image"):
        read_image(source.file)


def test_a_network_error_is_told_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, path: str, **_: object) -> bytes:
        raise RuntimeError("503\nService Unavailable")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    (source,) = gather_inputs(["memory://a.png"]).sources
    with pytest.raises(ImageError, match=r"^503 Service Unavailable$"):
        read_image(source.file)


def test_more_bytes_than_an_image_may_have(memory: MemoryFileSystem, max_bytes: Callable[[int], None]) -> None:
    max_bytes(100)
    memory.pipe("/photos/large.png", bytes(101))
    (source,) = gather_inputs(["memory://photos/large.png"]).sources
    with pytest.raises(ImageError, match=r"^it goes on after 100 bytes: expected one image$"):
        read_image(source.file)


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("memory://nowhere", InputError, "^memory://nowhere does not exist$"),
        ("memory://bare", InputError, r"^no images in memory://bare: looked for \.avif .*\.webp$"),
        ("memry://x", UsageError, "^unknown scheme memry://, did you mean 'memory'\\?$"),
        ("zip://a.png::nothing://b", UsageError, "^unknown scheme nothing://"),
        ("zip://::file:///nowhere.zip", InputError, "^cannot list zip://::file:///nowhere.zip: no such file"),
    ],
)
def test_wrong_urls(memory: MemoryFileSystem, url: str, error: type[Exception], said: str) -> None:
    memory.pipe("/bare/note.txt", b"text")
    with pytest.raises(error, match=said):
        gather_inputs([url])
    with pytest.raises(error, match=said):
        gather_inputs([], [url])


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"class": "no_such_package.FileSystem", "err": "Install no_such_package to access it"}
    monkeypatch.setitem(known_implementations, "nosuch", spec)
    with pytest.raises(InputError, match=r"^nosuch:// needs a package .* pip: Install no_such_package to access it$"):
        gather_inputs(["nosuch://bucket/a.png"])


def test_an_archive_is_read_as_a_stream(memory: MemoryFileSystem) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("1.png")
        member.size = len(png(5))
        archive.addfile(member, io.BytesIO(png(5)))
    inputs = gather_inputs(["memory://shards/x-000.tar.gz"])
    assert inputs.count is None
    assert [archive.name for archive in inputs.archives] == ["x-000"]
    (missing,) = inputs.sources
    with pytest.raises(ImageError, match=r"^the archive cannot be read: no such file$"):
        read_image(missing.file)
    memory.pipe("/shards/x-000.tar.gz", buffer.getvalue())
    (source,) = inputs.archives[0].sources()
    assert source.name == "1.png"
    np.testing.assert_array_equal(read_image(source.file), draw(12, 9, 5))


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, silently."""

    asked: ClassVar[list[str]] = []

    def log_message(self, *_: object) -> None:
        self.asked.append(f"{self.command} {self.path}")


class Endless(Handler):
    """Sends bytes until nobody takes them."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(bytes(2**16))


def test_over_http(tmp_path: Path) -> None:
    save(tmp_path / "photos/1.png", draw(12, 9))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = f"http://127.0.0.1:{server.server_port}"
        for given in (f"{site}/photos/1.png?key=1", f"{site}/photos/"):
            (source,) = gather_inputs([given]).sources
            assert source.name == "1.png"
            np.testing.assert_array_equal(read_image(source.file), draw(12, 9))
        (gone,) = gather_inputs([f"{site}/gone.png"]).sources
        with pytest.raises(ImageError):
            read_image(gone.file)
        Handler.asked.clear()
        (source,) = gather_inputs([], [f"{site}/photos/1.png"]).sources
        read_image(source.file)
        assert Handler.asked == ["GET /photos/1.png"]
        server.shutdown()


def test_http_without_an_end(max_bytes: Callable[[int], None]) -> None:
    max_bytes(2**22)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (source,) = gather_inputs([f"http://127.0.0.1:{server.server_port}/a.png"]).sources
        with pytest.raises(ImageError, match=r"^it goes on after 4194304 bytes: expected one image$"):
            read_image(source.file)
        server.shutdown()


def test_http_without_its_package() -> None:
    script = "import sys; sys.modules['aiohttp'] = None; import tokenizer.inputs as i; i.gather_inputs(['https://host/1.png'])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    said = r"InputError: https:// needs a package that is not installed, use pip: .*aiohttp"
    assert re.search(said, ended.stderr), ended.stderr


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://host/a/b.png", "https/host/a/b.png"),
        ("https://host/a/b.png?key=1#x", "https/host/a/b.png"),
        ("s3://bucket/a?b.png", "s3/bucket/a?b.png"),
        ("memory:///a//b.png", "memory/a/b.png"),
        ("memory://../../b.png", "b.png"),
        ("zip://b/c.png::https://host/a.zip", "https/host/a.zip/b/c.png"),
        ("zip::/data/a.zip", "data/a.zip"),
        ("simplecache::s3://bucket/a.png", "s3/bucket/a.png"),
    ],
)
def test_where_urls_point_to(url: str, path: str) -> None:
    assert is_url(url) == ("://" in url)
    assert path_of(url) == path


@pytest.mark.parametrize("text", ["a.png", "C:/x.png", "C://x.png", "a:b", "://x", "/data/x://y", "", "a/b://c.png"])
def test_what_is_no_url(text: str) -> None:
    assert not is_url(text)


def test_fsspec_is_loaded_when_a_url_is_named(tmp_path: Path) -> None:
    save(tmp_path / "1.png", draw(8, 8))
    code = (
        "import sys; from tokenizer.inputs import gather_inputs; "
        "gather_inputs([sys.argv[1]]); print('fsspec' in sys.modules); "
        "gather_inputs(['file://' + sys.argv[1]]); print('fsspec' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert (done.stdout.split(), done.stderr) == (["False", "True"], "")


@pytest.mark.slow
def test_torch_is_loaded_for_data_sets_alone(tmp_path: Path) -> None:
    save(tmp_path / "1.png", draw(8, 8))
    code = (
        "import sys; from PIL import Image; from tokenizer.images import read_image; "
        "from tokenizer.inputs import dataset_sources, gather_inputs; "
        "[read_image(source.file) for source in gather_inputs([sys.argv[1]]).sources]; print('torch' in sys.modules); "
        "dataset_sources([Image.new('RGB', (8, 8))]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (["False", "True"], "")
