"""How often each class was taken for each: a matrix that is added to, and the scores that are made of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.mosaic.codes import codes


class StrayLabel(ValueError):
    """A label that is no class, or no id.

    Attributes:
        kind: What it should be.
        of_prediction: Whether the prediction has it, rather than the truth.
        value: What it is.
        index: Where it is in the array, for the first of them.
    """

    def __init__(
        self, labels: NDArray[np.integer], wrong: NDArray[np.bool_], kind: str, of_prediction: bool = False
    ) -> None:
        self.kind, self.of_prediction = kind, of_prediction
        self.index = tuple(int(part) for part in np.unravel_index(int(wrong.argmax()), wrong.shape))
        self.value = int(labels[self.index])
        super().__init__(f"{'prediction' if of_prediction else 'truth'}: {self.value} at {self.index} is no {kind}")


class ClassScores(NamedTuple):
    """The scores of one class; NaN where there is nothing to divide by.

    Attributes:
        iou: Pixels that truth and prediction share, of those that either has.
        recall: Of the truth's pixels, those that the prediction has too.
        precision: Of the prediction's pixels, those that the truth has too.
        share: The truth's pixels, of all that are compared.
    """

    iou: float
    recall: float
    precision: float
    share: float


@dataclass(eq=False)
class Confusion:
    """Truth against prediction, pixel by pixel, over as many arrays as are added.

    Args:
        num_classes: K.
        ignore: The truth's value for pixels that are left out, or None; it may be a class id, which is then no class.

    Attributes:
        matrix: (K, K + 1) int64: pixels by true class and predicted class, the last column unlabelled.
        ignored: Pixels left out because the truth says so.
        nodata: Pixels that have a true class and are left out because the prediction has nodata there.
    """

    num_classes: int
    ignore: int | None = None
    matrix: NDArray[np.int64] = field(init=False, repr=False)
    ignored: int = field(init=False, default=0)
    nodata: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.matrix = np.zeros((self.num_classes, self.num_classes + 1), np.int64)

    def add(self, truth: ArrayLike, predicted: ArrayLike) -> None:
        """Count pixels.

        Args:
            truth: Integers of any shape: class ids, and the value to ignore.
            predicted: Of the same shape: class ids, and the mosaic's codes for unlabelled and nodata.

        Raises:
            StrayLabel: A value that is none of these; nothing was counted.
        """
        true, found = np.asarray(truth), np.asarray(predicted)
        if true.shape != found.shape:
            raise ValueError(f"truth is {true.shape}, prediction {found.shape}; they must have one shape")
        code, classes = codes(self.num_classes), self.num_classes
        counted = np.ones(true.shape, bool) if self.ignore is None else true != self.ignore
        seen = found != code.nodata
        check_labels(true, counted, classes, "class")
        check_labels(found, seen & (found != code.unlabelled), classes, "class", of_prediction=True)
        self.ignored += int((~counted).sum())
        self.nodata += int((counted & ~seen).sum())
        column = np.where(found == code.unlabelled, classes, found)[counted & seen].astype(np.int64)
        index = true[counted & seen].astype(np.int64) * (classes + 1) + column
        self.matrix += np.bincount(index, minlength=self.matrix.size).reshape(self.matrix.shape)

    def __add__(self, other: "Confusion") -> Self:
        """Both together, as if their pixels were of one image."""
        both = type(self)(self.num_classes, self.ignore)
        both.matrix = self.matrix + other.matrix
        both.ignored, both.nodata = self.ignored + other.ignored, self.nodata + other.nodata
        return both

    @property
    def pixels(self) -> int:
        """Pixels that are compared."""
        return int(self.matrix.sum())

    @property
    def unlabelled(self) -> int:
        """Of these, pixels that the prediction gives no class."""
        return int(self.matrix[:, -1].sum())

    @property
    def truth(self) -> NDArray[np.int64]:
        """Pixels of each true class (K,)."""
        return np.asarray(self.matrix.sum(1))

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Pixels of each predicted class (K,)."""
        return np.asarray(self.matrix[:, :-1].sum(0))

    @property
    def hits(self) -> NDArray[np.int64]:
        """Pixels of each class where both agree (K,)."""
        return np.diagonal(self.matrix)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class (K,); NaN for classes that neither has."""
        return _divided(self.hits, self.truth + self.predicted - self.hits)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Of the truth's pixels, those that are found (K,); an unlabelled pixel is a miss."""
        return _divided(self.hits, self.truth)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Of the pixels found, those that are true (K,); an unlabelled pixel is no class's false find."""
        return _divided(self.hits, self.predicted)

    @property
    def absent(self) -> tuple[int, ...]:
        """Class ids that neither truth nor prediction has; the mean leaves them out."""
        return tuple(np.flatnonzero(np.isnan(self.iou)).tolist())

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that truth or prediction has; NaN where nothing is compared."""
        present = self.iou[~np.isnan(self.iou)]
        return float(present.mean()) if len(present) else float("nan")

    @property
    def accuracy(self) -> float:
        """The share of pixels where both agree; NaN where nothing is compared."""
        return float(_divided(self.hits.sum(), self.matrix.sum()))

    @property
    def per_class(self) -> list[ClassScores]:
        """The scores of each class, by id."""
        share = _divided(self.truth, self.matrix.sum())
        columns = (self.iou, self.recall, self.precision, share)
        return [ClassScores(*row) for row in np.stack(columns, 1).tolist()]

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """The scores in JSON's types, but with NaN.

        Args:
            names: Of the classes, by id.
        """
        named = zip(range(self.num_classes), names, self.per_class, strict=True)
        return {
            "miou": self.miou,
            "accuracy": self.accuracy,
            "classes": [{"id": id, "name": name, **scores._asdict()} for id, name, scores in named],
            "absent": list(self.absent),
            "unlabelled_pixels": self.unlabelled,
            "confusion": self.matrix.tolist(),
        }


def check_labels(
    labels: NDArray[Any], where: NDArray[np.bool_], count: int, kind: str, *, of_prediction: bool = False
) -> None:
    """See that labels are 0 to count - 1 where it matters.

    Raises:
        StrayLabel: One is not.
    """
    wrong = where & ((labels < 0) | (labels >= count))
    if wrong.any():
        raise StrayLabel(labels, wrong, kind, of_prediction)


def _divided(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """The quotient, NaN where the divisor is 0."""
    parts, wholes = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    quotient: NDArray[np.float64] = np.divide(parts, wholes, out=np.full(parts.shape, np.nan), where=wholes != 0)
    return quotient
