"""Hashes of published models that the project itself vouches for, whatever a server announces."""

KNOWN_HASHES = {
    "451f4fe16113bff5a5d2269ed5ad43b0592e9a14": {
        "unet/diffusion_pytorch_model.fp16.safetensors": (
            "c83908253f9a64d08c25fc90874c9c8aef9a329ce1ca5fb909d73b0c83d1ea21"
        ),
        "text_encoder/model.fp16.safetensors": "77795e2023adcf39bc29a884661950380bd093cf0750a966d473d1718dc9ef4e",
        "vae/diffusion_pytorch_model.fp16.safetensors": (
            "4fbcf0ebe55a0984f5a5e00d8c4521d52359af7229bb4d81890039d2aa16dd7c"
        ),
    }
}
"""SHA-256 by commit and file of Stable Diffusion 1.5, as its repository announces them."""
