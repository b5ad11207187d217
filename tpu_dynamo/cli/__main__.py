"""`python -m tpu_dynamo.cli`: the command line where no script is installed."""

from . import main

main()
