"""PyTorch, timm and albumentations: one fold of one configuration."""
