"""Everything is said in pyproject.toml but this: recipes/ and lab/, which lie at the top of the repository,
go into the wheel too.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

TOP = Path(__file__).parent
BESIDE = ("recipes", "lab")


class Build(build_py):
    """Copies them into the built package; an editable install finds them where they are."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for name in BESIDE:
            target = Path(self.build_lib) / "unnoise" / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(TOP / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))


setup(cmdclass={"build_py": Build})
