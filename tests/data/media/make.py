"""Writes the pictures of this folder and the samples that Pillow reads from them (see README.md)."""

import io
import json
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(7)
y, x = np.mgrid[0:12, 0:16]
smooth = np.stack([x * 16, y * 20, 255 - x * 8 - y * 8], -1).astype(np.uint8)
alpha = (x * 17).astype(np.uint8)
rgba = np.dstack([smooth, alpha])
srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
grey_profile = bytearray(srgb)
grey_profile[16:20] = b"GRAY"
exif = Image.Exif()
exif[0x0112] = 6
exif[0x010F] = "Crescendo"
facts = {}


def keep(name, expected, **more):
    """Stores a reader's expected output: `expected` as raw samples in NAME.raw, `more` in facts.json."""
    (here / f"{name}.raw").write_bytes(np.ascontiguousarray(expected).tobytes())
    facts[name] = {"channels": expected.shape[2], "bits": expected.dtype.itemsize * 8, **more}


def save(name, image, mode=None, **options):
    image.save(here / name, **options)
    read = Image.open(here / name)
    wanted = np.array(read.convert(mode or read.mode))
    more = {"icc": (read.info.get("icc_profile") or b"").hex(), "orientation": read.getexif().get(0x0112, 0)}
    keep(name, wanted, **more)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png(name, colour_type, samples, extra=b"", after=b""):
    """Writes a 16-bit PNG; Pillow cannot write 16-bit colour."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    h, w = samples.shape[:2]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, colour_type, 0, 0, 0))
    body = header + extra + chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND", b"")
    (here / name).write_bytes(b"\x89PNG\r\n\x1a\n" + body)


rgb, full = Image.fromarray(smooth), Image.fromarray(rgba)
carry = {"icc_profile": srgb, "exif": exif}
save("rgb.jpg", rgb, quality=90, **carry)
save("progressive.jpg", rgb, quality=90, progressive=True)
save("grey.jpg", rgb.convert("L"), "RGB", quality=90, icc_profile=bytes(grey_profile))
save("cmyk.jpg", rgb.convert("CMYK"), "RGB", quality=90)
save("lossy.webp", full, quality=90, **carry)
save("lossless.webp", rgb, lossless=True, **carry)
text = PngImagePlugin.PngInfo()
text.add_text("parameters", "a lake\nSteps: 50, Seed: 42")
text.add_text("Author", "Zoë", zip=True)
text.add_itxt("Title", "山の湖")
save("rgba.png", full, pnginfo=text, **carry)
save("palette.png", rgb.quantize(16), "RGB", transparency=None)
palette = rgb.quantize(16)
palette.save(here / "clear.png", transparency=3)
keep("clear.png", np.array(Image.open(here / "clear.png").convert("RGBA")))
save("bits.png", Image.fromarray(smooth[..., 0] > 127), "RGB")
save("rgb.tiff", rgb, compression="tiff_lzw")
tags = Image.Exif()
tags[0x0112], tags[0x010F], tags[0x0132] = 6, "Crescendo", "2024:05:06 07:08:09"
pages = {"append_images": [rgb.convert("L"), full], "save_all": True}
rgb.save(here / "pages.tiff", exif=tags, dpi=(300, 300), **pages)
keep("pages.tiff", smooth, orientation=6)
rgb.save(here / "comment.jpg", quality=98, subsampling=0, comment="a café", dpi=(300, 300))
keep("comment.jpg", np.array(Image.open(here / "comment.jpg")))
rgb.quantize(16).save(here / "palette.tif")
save("rgb.bmp", rgb)
save("wrong_name.jpg", rgb, format="PNG")
wide = rng.integers(0, 65536, (12, 16, 3), dtype=np.uint16)
deep_png("rgb16.png", 2, wide, chunk(b"iCCP", b"x\0\0" + zlib.compress(srgb)), chunk(b"eXIf", exif.tobytes()[6:]))
keep("rgb16.png", wide, icc=srgb.hex(), orientation=6)
deep_png("grey_alpha16.png", 4, wide[..., :2])
keep("grey_alpha16.png", wide[..., [0, 0, 0, 1]])
second = Image.fromarray(255 - smooth)
for name in ("moving.gif", "moving.webp", "moving.png"):
    options = {"lossless": True} if name.endswith("webp") else {}
    rgb.save(here / name, save_all=True, append_images=[second], duration=100, **options)
    keep(name, np.array(Image.open(here / name).convert("RGB")))

planes = rng.random((2, 6, 7)).round(5).astype(np.float32)
filters = {"nearest": 0, "bilinear": 2, "bicubic": 3, "lanczos": 1}
cases = []
for name, kind in filters.items():
    for size in ((4, 5), (11, 9), (14, 12)):
        resized = [np.array(Image.fromarray(p).resize(size, kind)) for p in planes]
        cases.append({"filter": name, "width": size[0], "height": size[1], "values": np.stack(resized).ravel().tolist()})
for case in cases:
    case["values"] = [round(v, 4) for v in case["values"]]
flat = [round(float(v), 5) for v in planes.ravel()]
(here / "resize.json").write_text(json.dumps({"shape": list(planes.shape), "planes": flat, "cases": cases}))
(here / "facts.json").write_text(json.dumps(facts, indent=1))
