import shutil
import tempfile
from pathlib import Path

import pytest

from stale_export.scratch import require_room
from stale_runtime.errors import ExportError


def test_a_full_temporary_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    free = shutil.disk_usage(tmp_path).free
    require_room(free // 2)
    with pytest.raises(ExportError, match=rf"{tmp_path}: .* MB needed; make room, or name another folder in TMPDIR"):
        require_room(free * 2)
