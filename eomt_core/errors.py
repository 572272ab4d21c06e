"""What can be wrong with a model, or with the way it is used."""


class ModelError(ValueError):
    """A model that cannot be used as asked; the message is one line: what, where, what to do."""


class DeviceError(RuntimeError):
    """The device has failed, and with it whatever this process would still ask of it."""


class TileSizeError(ModelError):
    """A tile whose rows or columns are no multiple of the model's lattice."""
