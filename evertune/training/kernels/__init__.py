"""What makes a training step fast and changes nothing of what is learned."""

from evertune.training.kernels.acceleration import accelerate_training

__all__ = ["accelerate_training"]
