"""What cameras, weather and files do to images: blur, exposure, sensor noise, JPEG.

The functions take and give uint8 (H, W, 3) RGB in [0, 255] and change nothing in place. Training
draws their strengths at random (`binseg.data.augment`), scoring has a fixed set of them
(`binseg.data.corruptions`).
"""

import cv2
import numpy as np


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; `sigma` in pixels, above 0."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101))


def gamma_corrected(image: np.ndarray, exponent: float) -> np.ndarray:
    """255 · (x / 255)^exponent: above 1 darkens the shades, below 1 lightens them."""
    levels = 255 * (np.arange(256) / 255) ** exponent
    return np.asarray(cv2.LUT(image, np.rint(levels).astype(np.uint8)))


def noisy(image: np.ndarray, sigma: float, generator: np.random.Generator) -> np.ndarray:
    """x + n, n normal of deviation `sigma` in grey levels for each pixel and channel alone."""
    noise = generator.standard_normal(image.shape, np.float32)
    return np.asarray(cv2.add(image, noise * np.float32(sigma), dtype=cv2.CV_8U))


def jpeg_compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after a JPEG file of `quality`, 1 to 100 as libjpeg counts."""
    reverse = np.ascontiguousarray(image[..., ::-1])  # OpenCV's order is B, G, R
    written, file = cv2.imencode(".jpg", reverse, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert written
    read = cv2.imdecode(file, cv2.IMREAD_COLOR)
    assert read is not None
    return np.ascontiguousarray(read[..., ::-1])
