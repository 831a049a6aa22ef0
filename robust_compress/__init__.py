"""How far may pictures be compressed before a vision model fails, and how much comes back by finetuning."""

__version__ = "0.1.0"
