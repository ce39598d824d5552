"""Small pictures with one pixel per number. The page enlarges them."""

import base64
import dataclasses
import io
import math

import matplotlib
import numpy as np
from PIL import Image


@dataclasses.dataclass
class Picture:
    uri: str
    width: int  # as shown, in pixels
    height: int
    alternative: str
    caption: str = ""


def png(values, low, high, colours):
    """`values` (rows x columns) as a data URI. NaN is transparent."""
    palette = (matplotlib.colormaps[colours](np.linspace(0, 1, 255))[:, :3] * 255).round().astype(np.uint8)
    span = high - low if high > low else 1
    scaled = np.clip((np.nan_to_num(values, nan=low) - low) / span, 0, 1)
    index = np.where(np.isnan(values), 255, (scaled * 254).round()).astype(np.uint8)
    image = Image.fromarray(index, "P")
    image.putpalette(palette.tobytes() + b"\0\0\0")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, transparency=255)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def picture(values, scale, low, high, colours, alternative, caption=""):
    height, width = values.shape
    return Picture(png(values, low, high, colours), round(width * scale), round(height * scale), alternative, caption)


def tiles(values, columns=None):
    """`values` (count x rows x columns) as tiles of one picture, with gaps between them."""
    count, height, width = values.shape
    columns = columns or math.ceil(math.sqrt(count * height / width))
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for index in range(count):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        sheet[top:top + height, left:left + width] = values[index]
    return sheet


def sheet_of(values, columns=None):
    """Any array as rows x columns: channels become tiles, and a long vector is cut into rows."""
    values = np.asarray(values, np.float64)
    if values.ndim == 2:
        return values
    if values.ndim == 3:
        return tiles(values, columns)
    if values.ndim > 3:
        return sheet_of(values.reshape(-1, *values.shape[-2:]), columns)
    flat = values.ravel()
    if flat.size <= 64:
        return flat[None, :]
    width = math.ceil(math.sqrt(flat.size))
    return np.pad(flat, (0, -flat.size % width), constant_values=np.nan).reshape(-1, width)


def fitting(sheet, size, max_scale=10):
    """The scale at which the longer side of `sheet` has about `size` pixels."""
    return min(max_scale, size / max(sheet.shape))


def sample(values, size, alternative, caption="", limits=None):
    """A sample of the data set, white on black as in MNIST."""
    sheet = sheet_of(values)
    low, high = limits or (min(0, np.nanmin(sheet)), max(1, np.nanmax(sheet)))
    return picture(sheet, fitting(sheet, size), low, high, "gray", alternative, caption)
