"""A small decoder of transformers, and its prompt."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

config = GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=64, bos_token_id=0, eos_token_id=63, pad_token_id=0)
model = GPT2LMHeadModel(config).eval()
input_ids = torch.randint(1, 60, (1, 5))
token, place = torch.tensor([[7]]), torch.tensor([[5]])
torch.set_grad_enabled(False)
