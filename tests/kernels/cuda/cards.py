"""Cards to plan for where there is none; figures of the vendor's architecture papers."""

from __future__ import annotations

from dynadiag.kernels.cuda.device import Device

KIB = 1024
H200 = Device("NVIDIA H200", "sm_90", 132, 227 * KIB, 228 * KIB, 65536, 2048)
A100 = Device("NVIDIA A100", "sm_80", 108, 163 * KIB, 164 * KIB, 65536, 2048)
RTX_4090 = Device("NVIDIA GeForce RTX 4090", "sm_89", 128, 99 * KIB, 100 * KIB, 65536, 1536)
KNOWN = (H200, A100, RTX_4090)
