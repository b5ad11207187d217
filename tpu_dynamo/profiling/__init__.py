"""Profiles of runs: where the time goes, by step, graph, operation, module and the user's line."""

# Names the folder into which `tpu-dynamo profile` has a command's processes write their profiles.
PROFILE_VARIABLE = "TPU_DYNAMO_PROFILE"
