"""`python -m tpu_dynamo.cli`: the command line where no script is installed; it imports torch first."""

from . import main

main()
