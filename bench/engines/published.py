"""The published network, with its text tower in every forward pass: what the thesis timed.

Its weights are random, which does not change its speed, so it cannot detect anything. The published post-processing
is not timed: ``--decoder upstream`` of this project gives the same results, but at another speed.

Sources: "the original" is ``stale_model.py`` of the authors' repository (sauradip/STALE). What the thesis timed is
``STALE_cpu/stale_model_single_input.py`` of its repository (yunhanwang1105/Efficient-TAL-vision-language-modeling),
the same network with the length as an argument and without modules that no forward pass used.

Computed in each forward pass, as in ``STALE.forward`` of both: snippet embedding, mask localizer, foreground branch,
representation mask, text tower, cross-adaptation, and both score maps. Each of the following makes this baseline as
fast as the original, or faster:

- *Text tower* (``text_features``): every prompt is ``"a video of action " + name`` (``get_prompt``), padded to the
  longest of the list. The original also runs a tokenizer written in Python in each pass, and passes an attention mask
  that changes nothing, because what follows the end token cannot be seen from it. Here the ids are prepared once.
  CLIP's attention is PyTorch's fused one, the default of ``transformers``, not slower here than the unfused one.
- *Prompts*: the authors' code has those of the unseen classes, the thesis 201: ActivityNet's 200 and "Neutral" (both
  ``config/dataset_class.py`` and ``__init__``). Here they are the classes that the benchmark is given, usually 200.
- *Attention blocks* (``utils/transformer.py``, ``ScaledDotProductAttention``): the original computes a logarithm of
  the softmax too, which nobody reads.
- *Foreground branch* (``transformer_predictor_v2.py``): the original has its attention return weights, which keeps
  PyTorch from the fused attention; here nobody asks for them. Its heads for classes do not exist in either.
- *Representation mask* (``crop_features``): one comparison here; the original loops over the batch and gathers.
- *Mask localizer*: a matrix product here, a convolution of width 1 in the original. The rows of its kernel are
  resampled, also at the length that it was made for. That is the only work that the original does not have; it takes
  less than a hundredth of the time.
- *Modules without a use*: the original holds CLIP's image tower, a classifier and others in memory. They are left out.
- *Gradients*: the thesis timed with gradients enabled (``stale_quantized_inference.py``); here they are off.
"""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig

from stale_bench.engines.engine import Engine, Step
from stale_bench.engines.prompt_tokens import padded_token_ids
from stale_bench.engines.torch_macs import count_torch
from stale_bench.protocol import BackendJob, Facts
from stale_model.checkpoints.clip import TextTower
from stale_model.network.config import StaleConfig
from stale_model.network.stale import Stale, TrainingOutputs
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.inputs.feature_file import read_features
from stale_runtime.inputs.features import resample
from stale_runtime.segments import FloatArray

CLIP_VOCABULARY = 49408


def vit_b_32(channels: int, end_token: int) -> CLIPTextConfig:
    """The text tower of CLIP ViT-B/32, which the original loads as ``openai/clip-vit-base-patch32``.

    Args:
        channels: width of an embedding, 512 outside tests.
        end_token: ends a prompt, and pads short ones.
    """
    return CLIPTextConfig(
        vocab_size=max(CLIP_VOCABULARY, end_token + 1),
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=8,
        max_position_embeddings=77,
        projection_dim=channels,
        bos_token_id=end_token,
        eos_token_id=end_token,
        pad_token_id=end_token,
    )


class PublishedNetwork(nn.Module):
    """Text tower, network and foreground branch: the original runs all of them for each video."""

    def __init__(self, bundle: Bundle, length: int) -> None:
        """Draw random weights.

        Args:
            bundle: gives the width of the features.
            length: T that the network is built for.
        """
        super().__init__()
        C, end = bundle.manifest.channels, bundle.manifest.text_encoder.pad_token
        self.tower = TextTower(vit_b_32(C, end))
        self.network = Stale(StaleConfig(channels=C, temporal_scale=length))

    def forward(self, features: Tensor, token_ids: Tensor) -> TrainingOutputs:
        """Compute all outputs, also those that only the training loss reads.

        Args:
            features: (B, T, C)
            token_ids: (K, L), all prompts padded to the same length.
        """
        outputs: TrainingOutputs = self.network(features, self.network.with_background(self.tower(token_ids)))
        return outputs


class Published(Engine):
    """``upstream-fp32``, and ``upstream-int8``: its linear layers quantized dynamically, as in the thesis.

    The peak memory in int8 includes the float weights, which exist before they are quantized, as after loading a
    checkpoint.

    Source: ``STALE_cpu/stale_quantized_inference.py``. It asks for ``nn.Linear``, ``nn.Conv1d`` and ``nn.Conv2d`` in
        ``torch.qint8``, but PyTorch has no dynamic quantization of convolutions by default, so they stay in float. Both
        use PyTorch's default engine. On CPUs with VNNI or AMX the engine ``onednn`` can be faster.
    """

    loads = False
    device = "cpu"

    def __init__(self, job: BackendJob) -> None:
        super().__init__(job)
        torch.set_num_threads(job.threads)
        torch.set_num_interop_threads(1)
        torch.manual_seed(job.seed)
        network: nn.Module = PublishedNetwork(self.bundle, job.length).eval()
        self.network = (_quantize(network) if job.precision == "int8" else network).to(self.device)
        self._token_ids = torch.from_numpy(padded_token_ids(self.bundle, job.classes)).to(self.device)

    def steps(self, features: FloatArray) -> Mapping[str, Step]:
        """Resampling, and the forward pass."""
        batch = torch.from_numpy(resample(features, self.job.length))[None].to(self.device)
        return {
            "resample": lambda: resample(features, self.job.length),
            "forward": lambda: self._forward(batch),
        }

    def video_steps(self, path: Path) -> Mapping[str, Step]:
        """The forward pass alone, on features that have been read and resampled already."""
        batch = torch.from_numpy(resample(read_features(path, self.bundle.manifest.channels), self.job.length))[None]
        return {"forward": lambda: self._forward(batch)}

    def facts(self, features: FloatArray) -> Facts:
        """Size of the weights as ``torch.save`` writes them, and multiplications, counted without weights."""
        macs = count_torch(
            lambda: PublishedNetwork(self.bundle, self.job.length),
            (1, self.job.length, features.shape[1]),
            ids=tuple(self._token_ids.shape),
        )
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns about saving quantized tensors
            torch.save(self.network.state_dict(), file)
        file_mb = len(file.getbuffer()) / 1e6
        int8_share = macs.int8_share if self.job.precision == "int8" else 0.0
        return Facts(file_mb=file_mb, gmacs=macs.total / 1e9, int8_share=int8_share)

    def _forward(self, batch: Tensor) -> None:
        with torch.inference_mode():
            self.network(batch, self._token_ids)


def _quantize(network: nn.Module) -> nn.Module:
    """Quantize the linear layers of a network dynamically, in place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that this is deprecated
        quantized: nn.Module = torch.ao.quantization.quantize_dynamic(
            network, {nn.Linear}, dtype=torch.qint8, inplace=True
        )
    return quantized
