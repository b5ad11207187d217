"""The entry point of the script `tpu-dynamo`.

A module outside of the package, imported before it, by which the package knows that it need not register
torch.device("tpu"): that takes torch, without which most verbs answer. Verbs that run a user's code register it.
"""


def main() -> None:
    """Run the command line."""
    from tpu_dynamo.cli import main

    main()
