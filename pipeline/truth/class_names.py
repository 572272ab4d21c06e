"""Names for classes that have none."""

from pipeline.errors import InputError

MOST_CLASSES = 1000
"""More are not made from values alone: such labels hold instance ids, or heights."""


def numbered(count: int, where: str = "labels") -> tuple[str, ...]:
    """`class_0`, `class_1` ...

    Raises:
        InputError: More classes than anyone tells apart.
    """
    if count > MOST_CLASSES:
        raise InputError(
            f"{where}: has the class {count - 1}; name the classes with --classes, or give --task instance if the "
            "values are ids of instances"
        )
    return tuple(f"class_{index}" for index in range(count))
