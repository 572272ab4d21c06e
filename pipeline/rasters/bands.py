"""Which bands of a raster the model sees: by number, by colour, or by description.

A band with a colour table is one band of indexes, not three of colours: its numbers are taken as they are, and
`--bands 1,1,1` gives them to a model of three bands. Alpha says which pixels are there; it is never a band.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import InputError


@dataclass(frozen=True)
class Band:
    """What a file says about one of its bands.

    Args:
        index: 1-based, as in GDAL.
        color: The colour interpretation in lower case: red, gray, alpha, palette, undefined ...
        description: The band's name, or nothing.
    """

    index: int
    color: str
    description: str = ""

    @property
    def is_alpha(self) -> bool:
        """Whether it holds validity rather than colour."""
        return self.color == "alpha"

    def goes_by(self, name: str) -> bool:
        """Whether the name is the band's description or colour; case does not matter."""
        return name.casefold() in (self.description.casefold(), self.color.casefold())


def choose_bands(
    text: str | None,
    found: Sequence[Band],
    needed: int,
    default: Sequence[str | int] | None = None,
    where: str = "raster",
) -> tuple[int, ...]:
    """The 1-based bands to read, in the model's order.

    Args:
        text: `--bands`: a comma list of numbers and names; repeats are allowed.
        found: The bands of the file.
        needed: How many the model takes.
        default: The model card's bands; names that the file does not know give way to the first bands.
        where: The file, for messages.

    Raises:
        InputError: Too few or too many, one that the file does not have, or an alpha band.
    """
    if text is None:
        return _of_card(default, found, needed) or _first(found, needed, where)
    words = [word.strip() for word in text.split(",")]
    if len(words) != needed:
        raise InputError(f"--bands {text}: {len(words)} given, the model takes {needed}{_repeat(needed)}")
    return tuple(_named(word, found, where) for word in words)


def _of_card(default: Sequence[str | int] | None, found: Sequence[Band], needed: int) -> tuple[int, ...] | None:
    """The card's bands, if the file has every one of them."""
    if default is None or len(default) != needed:
        return None
    matches = [_match(str(word), found) for word in default]
    chosen = tuple(band.index for band in matches if band is not None and not band.is_alpha)
    return chosen if len(chosen) == needed else None


def _first(found: Sequence[Band], needed: int, where: str) -> tuple[int, ...]:
    colors = [band for band in found if not band.is_alpha]
    if len(colors) >= needed:
        return tuple(band.index for band in colors[:needed])
    kind = " of palette indexes" if any(band.color == "palette" for band in found) else ""
    alpha = " besides alpha" if len(colors) < len(found) else ""
    raise InputError(
        f"{where}: has {len(colors)} band{'s' * (len(colors) != 1)}{kind}{alpha}, the model takes {needed}"
        f"{_repeat(needed, colors[0].index if colors else 1)}"
    )


def _named(word: str, found: Sequence[Band], where: str) -> int:
    band = _match(word, found)
    if band is None:
        have = ", ".join(f"{band.index} {band.description or band.color}" for band in found[:12])
        raise InputError(f"--bands {word}: {where} has no such band; it has {have}{' …' if len(found) > 12 else ''}")
    if band.is_alpha:
        raise InputError(
            f"--bands {word}: band {band.index} of {where} is alpha, never a band; if it is none, "
            f"copy the raster with gdal_translate -colorinterp_{band.index} undefined"
        )
    return band.index


def _match(word: str, found: Sequence[Band]) -> Band | None:
    """A number means a band's place. A name means its description before its colour."""
    if word.isdecimal():
        return next((band for band in found if band.index == int(word)), None)
    by_name = [band for band in found if word and band.goes_by(word)]
    described = [band for band in by_name if band.description.casefold() == word.casefold()]
    return next(iter(described or by_name), None)


def _repeat(needed: int, index: int = 1) -> str:
    """The remedy for a raster with too few bands."""
    return f"; name {needed}, repeats are allowed: --bands {','.join([str(index)] * needed)}"
