"""Packaging of fal_hf; what belongs to the tools (build system, ruff, pytest) is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

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
    "remote": ["fsspec"],
    "ray": ["ray[data]>=2.40"],
    "export": ["torch>=2.12", "onnx>=1.21", "onnxruntime>=1.20", "onnxscript>=0.7", "openvino>=2026.3"],
}
EXTRAS["dev"] = [*(name for extra in EXTRAS.values() for name in extra), "pandas>=2.2", "parameterized>=0.9"]
EXTRAS["dev"] += ["pytest>=8", "ruff>=0.13", "nbclient>=0.10", "ipykernel>=6.29"]  # the last two run the notebook

setup(
    name="fal-hf",
    version="0.1.0.dev0",
    description="FAL, Framework for Automated Labeling: a convolution-free space-time transformer that labels videos",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={"fal_hf": ["checkpoints/**/*", "training/recipes/*.json"]},
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "transformers>=5.17,<6",
        "safetensors>=0.5",
        "huggingface_hub>=1.0",
        "av>=14",
        "numpy>=1.26",
        "pillow>=11",
        "tqdm>=4.66",
        "pyyaml>=6",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["fal=fal_hf.cli:main"]},
)
