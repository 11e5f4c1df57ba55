"""One folder of each family, and the pipelines of both libraries on it."""

import pytest

from tests.parity import peer
from tests.support import sd


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A folder of each family, saved by diffusers."""
    root = tmp_path_factory.mktemp("parity")
    return {f: sd.make(root / f, f) for f in sd.SHAPES}


@pytest.fixture(scope="session")
def both(folders):
    """The pipelines of one folder, theirs and ours, and the config of its scheduler."""
    opened = {f: (peer.open_theirs(folder), peer.open_ours(folder)) for f, folder in folders.items()}
    return {f: (theirs, ours, dict(theirs.scheduler.config)) for f, (theirs, ours) in opened.items()}
