"""Put conf/ into the package as rpe.conf, so that an installed package has its configs."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["rpe*"]), "rpe.conf"], package_dir={"rpe": "rpe", "rpe.conf": "conf"})
