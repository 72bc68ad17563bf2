"""What torch computes with, said once for every process: nothing here is left to a build's or a driver's defaults."""

import os

import torch
import torch.utils.deterministic as deterministic_memory

from adapters.portable_arithmetic import PORTABLE, in_effect


def set_arithmetic(deterministic: bool) -> None:
    """Use whole float32 everywhere, and choose kernels without trying them out.

    Parameters
    ----------
    deterministic : bool
        Whether operators must give the same bytes every time. On a GPU some have no such form, or one that is many
        times slower (RoIAlign), so there it is False: the same run gives the same bytes on the CPU only.
    """
    # TensorFloat-32 keeps 10 bits of a factor's mantissa; torch leaves it on for convolutions, and off for products.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # Torch would then also write NaN into memory that it takes, to show who reads it too early: 3% of an image.
    deterministic_memory.fill_uninitialized_memory = False


def cpu_arithmetic() -> dict[str, bool | str | None]:
    """Read back which kernels the CPU computes with: what torch's own use, and what its libraries were told."""
    capability = torch.backends.cpu.get_cpu_capability()
    told = {name.lower(): os.environ.get(name) for name in PORTABLE}
    return {"cpu_capability": capability, "portable": in_effect(capability)} | told


def arithmetic() -> dict[str, bool | str | int | None]:
    """Read back torch's switches, its threads, and the libraries that compute."""
    return {
        "threads": torch.get_num_threads(),
        "threads_between_operators": torch.get_num_interop_threads(),
        "default_dtype": str(torch.get_default_dtype()),
        "float32_products": torch.get_float32_matmul_precision(),
        "onednn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
        "mkl": torch.backends.mkl.is_available(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "cudnn_enabled": torch.backends.cudnn.enabled,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "half_precision_sums": torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "deterministic_warns_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fills_uninitialized_memory": deterministic_memory.fill_uninitialized_memory,
    }
