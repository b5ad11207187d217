"""Train a small GPT-2 with the Trainer of transformers on the device: `docs/first_trainer.md` says what one sees."""

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import tpu_dynamo

torch.manual_seed(0)


class Counting(Dataset):
    """Rows of 64 tokens that count upwards from a random start."""

    def __init__(self, rows):
        start = torch.randint(0, 256, (rows, 1), generator=torch.Generator().manual_seed(rows))
        self.tokens = (start + torch.arange(64)) % 256

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


model = GPT2LMHeadModel(
    GPT2Config(vocab_size=256, n_positions=64, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
)
arguments = TrainingArguments(
    output_dir="out",
    per_device_train_batch_size=8,
    gradient_accumulation_steps=2,
    max_steps=30,
    learning_rate=1e-3,
    bf16=True,
    torch_compile=True,
    torch_compile_backend="tpu",
    logging_steps=5,
    eval_strategy="steps",
    eval_steps=15,
    save_steps=30,
    report_to=[],
)
trainer = Trainer(model=model, args=arguments, train_dataset=Counting(512), eval_dataset=Counting(64))
trainer.train()
print(trainer.evaluate())
trainer.save_model("final")

prompt = torch.arange(10, 18, device=model.device)[None]
print(model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False))
print(tpu_dynamo.stats())
