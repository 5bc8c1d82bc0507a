"""What is stored of a picture beside its bytes."""

from attrs import frozen


@frozen
class Picture:
    """What the content of a picture tells. The sides are in pixels, as they are stored, before a rotation by EXIF; None if unknown."""

    width: int | None = None
    height: int | None = None
    description: str = ""
    location: str = ""
    tags: tuple[str, ...] = ()


NO_PICTURE = Picture()
