from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    for line in (ROOT / "recbole_cdsr" / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError("recbole_cdsr/__init__.py states no __version__")


def requirements(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


# RecBole requires `ray<=2.6.3`, which has no build for Python >= 3.12 and which nothing here uses, and old versions of
# colorlog and colorama. So pip may take RecBole with all it asks for where it can; elsewhere, and always by the
# Makefile, it is installed with `pip install --no-deps`, and what it does need stands in requirements.txt.
RECBOLE = 'recbole==1.2.1; python_version < "3.12"'
# The client of OpenAI-compatible services; what is older has no raw responses of the kind that is read here.
OPENAI = ["openai>=1.98"]

setup(
    name="recbole-cdsr",
    version=version(),
    description="Cross-domain sequential recommendation with LLMs, on RecBole",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.11,<3.14",
    packages=[*find_packages(include=["recbole_cdsr", "recbole_cdsr.*"]), "recbole_cdsr.props"],
    # props/ stands at the top level of the checkout, as in RecBole's plugins, and travels inside the wheel.
    package_dir={"recbole_cdsr.props": "props"},
    package_data={
        "recbole_cdsr": ["py.typed", "llm/prompt_files/*.yaml", "benchmark/report/page_files/*"],
        "recbole_cdsr.props": ["*.yaml", "model/*.yaml", "dataset/*.yaml", "tune/*.yaml"],
    },
    install_requires=[RECBOLE, *requirements("requirements.txt")],
    extras_require={
        # OpenAI-compatible services: generators, embeddings, batch files.
        "openai": OPENAI,
        # llm_device_map: local models over several devices.
        "local-llm": ["accelerate>=1.1"],
        # `recbole-cdsr tune`; servers need a driver of their own, such as psycopg.
        "tune": ["optuna>=5.0"],
        "test": requirements("requirements-test.txt"),
    },
    entry_points={"console_scripts": ["recbole-cdsr=recbole_cdsr.cli:main"]},
)
