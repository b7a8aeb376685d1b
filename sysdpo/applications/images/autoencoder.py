"""A linear autoencoder with the interface of a diffusers VAE: principal components of square patches.

This file travels with an exported pipeline, for diffusers to load it where this library is not: it imports none of it.
"""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Images `[batch, 3, H, W]` in [-1, 1] to latents `[batch, components, H/patch, W/patch]` and back.

    Each principal component is divided by its variance to the power 1/4: half-way between raw components, in which a
    denoiser neglects fine detail, and whitened ones, in which noise counts as much as the face.
    """

    @register_to_config
    def __init__(
        self,
        patch: int = 8,
        components: int = 64,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
        block_out_channels: tuple[int, ...] = (1, 1, 1, 1),
    ):
        super().__init__()
        values = 3 * patch**2
        self.mean = torch.nn.Parameter(torch.zeros(values), requires_grad=False)
        self.encoder = torch.nn.Parameter(torch.zeros(components, values), requires_grad=False)
        self.decoder = torch.nn.Parameter(torch.zeros(values, components), requires_grad=False)

    @classmethod
    def fitted(cls, images: Tensor, *, patch: int = 8, components: int = 64) -> "PatchAutoencoder":
        """The autoencoder of the principal components of these images' patches, its latents scaled to unit RMS."""
        patches = pixel_unshuffle(images, patch).permute(0, 2, 3, 1).reshape(-1, 3 * patch**2).double()
        mean = patches.mean(0)
        variance, basis = torch.linalg.eigh(torch.cov(patches.T))
        variance, basis = variance.flip(0)[:components].clamp_min(1e-8), basis.flip(1)[:, :components]
        # An eigenvector's sign is arbitrary; fixing it makes the latents independent of machine and library.
        basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        spread = variance**0.25
        blocks = (1,) * patch.bit_length()  # pipelines read the downsampling factor off this tuple's length
        model = cls(patch, components, float(variance.sqrt().mean().rsqrt()), 0.0, blocks)
        model.mean.copy_(mean)
        model.encoder.copy_((basis / spread).T)
        model.decoder.copy_(basis * spread)
        return model

    def encode(self, images: Tensor, return_dict: bool = True) -> AutoencoderKLOutput:
        """A posterior over latents without variance."""
        patches = pixel_unshuffle(images, self.config.patch) - self.mean[:, None, None]
        latents = torch.einsum("cv,bvhw->bchw", self.encoder, patches)
        statistics = torch.cat([latents, torch.full_like(latents, -30.0)], 1)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(statistics, deterministic=True))

    def decode(self, latents: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """The images of latents."""
        patches = torch.einsum("vc,bchw->bvhw", self.decoder, latents) + self.mean[:, None, None]
        images = pixel_shuffle(patches, self.config.patch)
        return DecoderOutput(sample=images) if return_dict else (images,)
