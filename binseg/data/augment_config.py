"""How training images are varied: YAML under `data.augment:`, or `--data.augment.KEY`."""

from dataclasses import dataclass, fields
from pathlib import Path

from binseg.errors import BinsegError

MIN_BLUR = 0.3  # pixels; less changes nothing
MAX_JPEG = 90


@dataclass
class AugmentConfig:
    """How training images are varied.

    Args:
        scale_min: smallest random magnification (factor on height and width).
        scale_max: largest random magnification (factor).
        flip: probability of a left-right flip, 0 to 1.
        flip_vertical: probability of an upside-down flip, 0 to 1.
        rotate90: probability of a turn by 90, 180 or 270 degrees, 0 to 1.
        rotate: largest turn of a crop about its centre to either side, in degrees, 0 to 45; the
            corners that it leaves empty are ignored.
        rare_every: in every n-th crop some pixel of a class that is rare in the training split,
            of those that the image has; 0: never.
        brightness: colour jitter multiplies brightness by 1 ± this, 0 to 1.
        contrast: colour jitter multiplies contrast by 1 ± this, 0 to 1.
        saturation: colour jitter multiplies saturation by 1 ± this, 0 to 1.
        hue: colour jitter turns the hue by up to ± this share of the circle, 0 to 0.5; about
            doubles the time of a sample.
        gamma: gamma correction by a power between 1 / (1 + this) and 1 + this, 0 to 4.
        blur: probability of a Gaussian blur, 0 to 1.
        blur_sigma: its largest deviation, in pixels.
        noise: probability of Gaussian sensor noise, 0 to 1.
        noise_sigma: its largest deviation, in grey levels of 0 to 255.
        jpeg: probability of a JPEG compression, 0 to 1.
        jpeg_quality: its lowest quality, 1 to 90; the highest is 90.
        cutout: probability of a rectangle without image and label, 0 to 1.
        cutout_size: its largest height and width, as shares of the crop's.
        extra: file of a pipeline in albumentations' own serialization (`albumentations.save`),
            which changes the crops after all that is above.
    """

    scale_min: float = 0.5
    scale_max: float = 2.0
    flip: float = 0.5
    flip_vertical: float = 0.0
    rotate90: float = 0.0
    rotate: float = 0.0
    rare_every: int = 0
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    blur_sigma: float = 1.5
    noise: float = 0.0
    noise_sigma: float = 20.0
    jpeg: float = 0.0
    jpeg_quality: int = 20
    cutout: float = 0.0
    cutout_size: float = 0.5
    extra: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.scale_min <= self.scale_max:
            raise BinsegError(
                f"augment: scale_min {self.scale_min} and scale_max {self.scale_max} must be "
                "above 0 and in this order"
            )
        bounds: dict[str, tuple[float, float]] = {
            "rotate": (0, 45),
            "rare_every": (0, 1000),
            "hue": (0, 0.5),
            "gamma": (0, 4),
            "blur_sigma": (MIN_BLUR, 100),
            "noise_sigma": (0, 255),
            "jpeg_quality": (1, MAX_JPEG),
        }
        for field in fields(self)[2:-1]:
            value, (low, high) = getattr(self, field.name), bounds.get(field.name, (0, 1))
            if not low <= value <= high:
                raise BinsegError(f"augment: {field.name} {value} is not in {low} … {high}")
