from .distance import FeatureDistance
from .frechet import DiagonalFrechet
from .lite0 import Lite0, lite0_distance, load_lite0
from .scores import LITE0_LEAST, Lite0Score, Lite0Scores
from .vgg16 import VGG16_SOURCE, check_vgg16_file, vgg16_distance
from .weights_package import INSTALL_ADVICE, is_lite0_installed, lite0_file, refuse_without_lite0

__all__ = [
    "INSTALL_ADVICE",
    "LITE0_LEAST",
    "VGG16_SOURCE",
    "DiagonalFrechet",
    "FeatureDistance",
    "Lite0",
    "Lite0Score",
    "Lite0Scores",
    "check_vgg16_file",
    "is_lite0_installed",
    "lite0_distance",
    "lite0_file",
    "load_lite0",
    "refuse_without_lite0",
    "vgg16_distance",
]
