"""Local files in runs: sent once, named when they are missing or too large."""

from __future__ import annotations

import os

from support.product import Product


def test_files_that_are_missing_or_too_large_are_named_with_their_line(dstack: Product):
    (dstack.folder / "large.bin").write_bytes(os.urandom(3 * 1024 * 1024))
    missing = dstack.cli("apply", "-y", "-f", dstack.task("missing", "true", more="files:\n  - ./nowhere.py"))
    assert missing.code == 1
    assert "missing.dstack.yml:6:5: files: ./nowhere.py does not exist" in missing.err
    large = dstack.cli("apply", "-y", "-f", dstack.task("large", "true", more="files:\n  - large.bin"))
    assert large.code == 1
    assert "large.dstack.yml:6:5: files: large.bin is larger than 2MB" in large.err
    assert "large.bin (3.0MB)" in large.err and ".dstackignore" in large.err


def test_unchanged_files_are_not_sent_again(product: Product):
    product.env["DSTACK_SERVER_CODE_UPLOAD_LIMIT"] = str(16 * 1024 * 1024)
    product.start()
    product.fleet()
    data = product.folder / "data"
    data.mkdir()
    (data / "part").write_bytes(os.urandom(5 * 1024 * 1024))
    (data / ".dstackignore").write_text("*.tmp\n")
    file = product.task("sender", "wc -c < data/part; ls data", more="files: [data]")

    first = product.cli("apply", "-y", "-f", file).ok()
    (data / "scratch.tmp").write_text("ignored\n")
    second = product.cli("apply", "-y", "-f", file).ok()
    (data / "new").write_text("more\n")
    third = product.cli("plan", "-f", file).ok()

    assert "Uploading data (5.0MB)" in first.err and first.out.endswith("5242880\npart\n")
    assert "Uploading" not in second.err and second.out.endswith("5242880\npart\n")
    assert "Uploading data (5.0MB)" in third.err
