"""From pixels to places and square metres."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Proj

from pipeline.mosaic.georeference import Georeference


@dataclass(frozen=True)
class Ground:
    """The ground that a mosaic shows.

    Args:
        place: Where the mosaic lies; it may lie nowhere.
    """

    place: Georeference

    @property
    def degrees(self) -> bool:
        """Whether coordinates are longitudes and latitudes."""
        return self.place.projection is not None and bool(self.place.projection.is_geographic)

    @property
    def unit(self) -> float:
        """Metres of one unit of the CRS, along a meridian where it is a degree; 1 where nobody knows."""
        projection = self.place.projection
        if projection is None or not projection.axis_info:
            return 1.0
        unit = float(projection.axis_info[0].unit_conversion_factor)
        return unit * float(projection.ellipsoid.semi_major_metre) if self.degrees else unit

    def placed(self, outlines: Sequence[Any]) -> NDArray[Any]:
        """Outlines in pixels (n,) in the coordinates of the CRS; as they are where there is no transform."""
        if self.place.transform is None:
            return np.array(outlines, object)
        found: NDArray[Any] = shapely.transform(np.array(outlines, object), self._place)
        return found

    def _place(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Columns and rows (N, 2) made to x and y, in place: there may be many millions."""
        a, b, c, d, e, f = self.place.transform or (1, 0, 0, 0, 1, 0)
        cols, rows = points.T
        points[:, 0], points[:, 1] = a * cols + b * rows + c, d * cols + e * rows + f
        return points

    def areas(self, placed: NDArray[Any], pixels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Square metres (n,), on the ellipsoid where the CRS has degrees; pixels where it is unknown where they lie.

        Args:
            placed: (n,) outlines in the CRS.
            pixels: (n,) how many each has.
        """
        if self.place.transform is None or self.place.projection is None:
            return pixels.astype(np.float64)
        if self.degrees:
            areas: NDArray[np.float64] = shapely.area(shapely.transform(placed, self._equal_area))
            return areas
        a, b, _, d, e, _ = self.place.transform
        return np.asarray(pixels * abs(a * e - b * d) * self.unit**2)

    def _equal_area(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Degrees (N, 2) on a cylinder of equal areas, where parallels and meridians stay straight lines."""
        ellipsoid = self.place.projection.ellipsoid  # type: ignore[union-attr]  # only called where there is one
        west, _, east, _ = self.place.bounds or (0, 0, 0, 0)
        axes = {"a": ellipsoid.semi_major_metre, "b": ellipsoid.semi_minor_metre}
        return np.stack(Proj(proj="cea", lon_0=(west + east) / 2, **axes)(points[:, 0], points[:, 1]), axis=1)

    def simplified(self, placed: NDArray[Any], metres: float) -> NDArray[Any]:
        """Outlines (n,) with fewer points, none further than so many metres from where it was; pixels without a CRS."""
        simpler: NDArray[Any] = shapely.simplify(placed, metres / self.unit, preserve_topology=True)
        kept = np.where(shapely.is_valid(simpler), simpler, placed)
        # GEOS makes a polygon of a multipolygon that has one part.
        lone = shapely.get_type_id(kept) != shapely.get_type_id(placed)
        kept[lone] = shapely.multipolygons(kept[lone][:, None])
        return kept
