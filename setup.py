"""Packaging of fal_hf and all that describes it; what belongs to tools (ruff, pytest, ...) is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

REPOSITORY = "https://github.com/svector-corporation/fal"
EXTRAS = {
    "training": [
        "accelerate>=1.10",
        "datasets>=4.0",
        "evaluate>=0.4.5",
        "scikit-learn>=1.5",
        "scipy>=1.11",
        "opencv-python-headless>=4.10",
        "peft>=0.20",
        "tensorboard>=2.18",
    ],
    "files": ["pyarrow>=15"],
    "similar": ["scikit-learn>=1.5"],
    "remote": ["fsspec"],
    "ray": ["ray[data]>=2.40"],
    "export": [
        "torch>=2.12",
        "transformers>=5.23",
        "onnx>=1.21",
        "onnxruntime>=1.29",
        "onnxscript>=0.7",
        "openvino>=2026.3",
        "nncf>=3.4",
    ],
    "studies": ["matplotlib>=3.9", "pandas>=2.2"],
    "docs": ["mkdocs-material>=9.7,<10", "mkdocstrings[python]>=1.0"],
}
# What `make test` needs, and what the other commands of the Makefile need.
EXTRAS["test"] = [*EXTRAS["training"], *EXTRAS["files"], *EXTRAS["remote"], *EXTRAS["studies"], "psutil>=5.9"]
EXTRAS["test"] += ["hypothesis>=6.100", "ipykernel>=6.29", "nbclient>=0.10"]
EXTRAS["test"] += ["transformers>=5.23", "onnx>=1.21", "onnxruntime>=1.29", "onnxscript>=0.7"]
EXTRAS["test"] += ["pytest>=8", "pytest-cov>=6", "pytest-xdist>=3.6"]
EXTRAS["dev"] = sorted({name for extra in EXTRAS.values() for name in extra})
EXTRAS["dev"] += [
    "build>=1.2",
    "import-linter>=2.3",
    "parameterized>=0.9",
    "playwright>=1.50",  # drives the Chromium of the system: no `playwright install`
    "pre-commit>=4",
    "pyright[nodejs]>=1.1.400",
]
EXTRAS["dev"] += ["ruff>=0.13", "setuptools>=77", "transformers-mlinter==0.1.5", "twine>=6"]


def read_me() -> str:
    """The README for a page elsewhere: what it links to and shows is in the repository."""
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    text = text.replace("](docs/", f"]({REPOSITORY}/blob/main/docs/").replace(
        'src="docs/', f'src="{REPOSITORY}/raw/main/docs/'
    )
    for name in ("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "SECURITY.md"):
        text = text.replace(f"]({name})", f"]({REPOSITORY}/blob/main/{name})")
    return text


setup(
    name="fal-hf",
    version="0.1.0",
    description="FAL, Framework for Automated Labeling: a convolution-free space-time transformer that labels videos",
    long_description=read_me(),
    long_description_content_type="text/markdown",
    author="SVECTOR and the FAL developers",
    url=REPOSITORY,
    project_urls={
        "Documentation": f"{REPOSITORY}/tree/main/docs",
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
        "Model": "https://huggingface.co/SVECTOR-CORPORATION/FAL",
    },
    keywords=[
        "action recognition",
        "camera motion",
        "deep learning",
        "TimeSformer",
        "transformers",
        "video classification",
        "video labeling",
        "video transformer",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Multimedia :: Video",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={"fal_hf": ["checkpoints/**/*", "py.typed", "reports/templates/*", "training/recipes/*.json"]},
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "transformers>=5.17,<6",
        "safetensors>=0.5",
        "huggingface_hub>=1.0",
        "av>=14,<19",  # 19 has no metadata_errors, and takes the end of an HTTP stream for a failure
        "jinja2>=3.1",
        "numpy>=1.26",
        "pillow>=11",
        "tqdm>=4.66",
        "pyyaml>=6",
        "filelock>=3.15",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["fal=fal_hf.cli:main"]},
)
