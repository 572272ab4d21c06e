"""What the adapters of all families share: normalised pixels, tiles on the lattice, the proof that nothing is lost."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eomt_core.encoders.protocol import Embedded
from eomt_core.errors import ModelError, TileSizeError
from eomt_core.positions import Grid

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SELF_TEST_TOLERANCE = 1e-4
_OTHER = "choose a plain ViT such as vit_small_patch14_reg4_dinov2"


class Adapter(nn.Module, ABC):
    """A backbone that takes pixels in [0, 1].

    Attributes:
        backbone: the model of the library; its parameters keep their names.
        dim: D, the width of a token, or of the finest map.
        num_blocks: blocks, of all stages.
        patch_size: pixels per cell of the finest grid along each axis.
        min_multiple: the lattice; rows and columns of a tile must be multiples of it.
        in_channels: C, the bands of the input.
        training_size: rows and columns of pixels that it was made for.
        pixel_mean: (1, C, 1, 1), with `pixel_std` the normalisation that the backbone was trained with; not saved.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    dim: int
    num_blocks: int
    patch_size: int
    min_multiple: int
    in_channels: int

    @property
    @abstractmethod
    def training_size(self) -> tuple[int, int]:
        """Rows and columns of pixels that it was made for."""

    @abstractmethod
    def block_of(self, name: str) -> int | None:
        """Tell which block a parameter of the backbone belongs to: -1 before the first, None after the last."""

    def normalise(self, pixels: Tensor) -> Tensor:
        """Bring pixels (B, C, H, W) in [0, 1] to the range that the backbone was trained with."""
        return (pixels - self.pixel_mean) / self.pixel_std

    def grid_of(self, pixels: Tensor) -> Grid:
        """Read the grid off the input: a stored grid would accept another shape of equal token count silently.

        Raises:
            TileSizeError: H or W is no multiple of `min_multiple`.
            ModelError: the pixels have other channels, or are no floats.
        """
        if pixels.ndim != 4 or pixels.shape[1] != self.in_channels or not pixels.is_floating_point():
            raise ModelError(
                f"pixels must be floats in [0, 1] of shape (B, {self.in_channels}, H, W), "
                f"got {pixels.dtype} of shape {tuple(pixels.shape)}"
            )
        rows, columns = pixels.shape[-2:]
        lattice = self.min_multiple
        if rows % lattice or columns % lattice or not rows * columns:
            nearest = [max(1, (length + lattice // 2) // lattice) * lattice for length in (rows, columns)]
            raise TileSizeError(
                f"tile size {rows}x{columns}: rows and columns must be multiples of {lattice}; "
                f"the nearest valid size is {nearest[0]}x{nearest[1]}"
            )
        return rows // self.patch_size, columns // self.patch_size

    def _add_statistics(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        """Register the normalisation; not persistent, because weight files of the field do not agree on it."""
        config = getattr(self.backbone, "pretrained_cfg", None) or {}
        for name, given, key, default in (
            ("pixel_mean", mean, "mean", IMAGENET_MEAN),
            ("pixel_std", std, "std", IMAGENET_STD),
        ):
            values = _per_channel(tuple(given or config.get(key) or default), self.in_channels, given is not None)
            self.register_buffer(name, torch.tensor(values).reshape(1, -1, 1, 1), persistent=False)


class TokenAdapter(Adapter):
    """A backbone of the token kind (see `Encoder`), driven block by block.

    Attributes:
        num_prefix: tokens before the patches.
        skip_widths: channels of the maps that `embed` gives besides the tokens, finest first.
    """

    num_prefix: int
    skip_widths: tuple[int, ...] = ()

    @abstractmethod
    def embed(self, pixels: Tensor) -> Embedded:
        """Turn pixels (B, C, H, W) in [0, 1] into tokens (B, num_prefix + h*w, D) on their grid (h, w)."""

    @abstractmethod
    def run_block(
        self, index: int, tokens: Tensor, attn_mask: Tensor | None = None, rotation: Tensor | None = None
    ) -> Tensor:
        """Run one block on tokens (B, N, D); the mask (B, 1, N, N) of 0 and -inf is added to the logits."""

    @abstractmethod
    def final_norm(self, tokens: Tensor) -> Tensor:
        """Apply the backbone's last norm to tokens (B, N, D)."""

    @abstractmethod
    def native_features(self, normalised: Tensor) -> Tensor:
        """Run the library's own forward on normalised pixels (B, C, H, W): (B, num_prefix + h*w, D)."""

    def features(self, pixels: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Run the whole encoder without queries: pixels (B, C, H, W) to normalised tokens (B, num_prefix + h*w, D)."""
        embedded = self.embed(pixels)
        tokens = embedded.tokens
        for index in range(self.num_blocks):
            tokens = self.run_block(index, tokens, attn_mask, embedded.rotation)
        return self.final_norm(tokens)

    def self_test(self) -> None:
        """Check on a small random image that the adapter computes what the backbone computes, with and without a mask.

        The mode of the encoder and torch's random state are left as they were.

        Raises:
            ModelError: the features differ, or a block takes no attention mask.
        """
        training = self.training
        self.eval()
        try:
            self._compare_with_backbone()
        finally:
            self.train(training)

    @torch.no_grad()
    def _compare_with_backbone(self) -> None:
        pixels = self._test_image()
        try:
            wanted = self.native_features(self.normalise(pixels))
            tokens = wanted.shape[1]
            found = (self.features(pixels), self.features(pixels, pixels.new_zeros(1, 1, tokens, tokens)))
        except (RuntimeError, TypeError, AssertionError) as error:
            raise ModelError(
                f"{self._name()} does not run block by block with an attention mask ({error}); {_OTHER}"
            ) from error
        worst = max(float((wanted - features).abs().max()) for features in found)
        if not worst <= SELF_TEST_TOLERANCE:
            raise ModelError(
                f"{self._name()} computes other features block by block than as a whole (off by {worst:.2g}, allowed "
                f"{SELF_TEST_TOLERANCE:g}); {_OTHER}"
            )

    def _test_size(self) -> tuple[int, int]:
        """2 x 3 patches: rows and columns differ, so a transposed grid cannot pass."""
        return 2 * self.patch_size, 3 * self.patch_size

    def _test_image(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand((1, self.in_channels, *self._test_size()), generator=generator).to(self.pixel_mean)

    def _name(self) -> str:
        return type(self.backbone).__name__


def _per_channel(values: tuple[float, ...], channels: int, explicit: bool) -> tuple[float, ...]:
    """Return one value per channel; statistics of three colours say only their average about other bands."""
    if len(values) == channels:
        return values
    if explicit:
        raise ModelError(f"mean and std need one value per channel: {channels}, got {len(values)}")
    return (sum(values) / len(values),) * channels
