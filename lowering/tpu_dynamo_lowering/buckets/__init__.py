"""A graph of changing sizes at larger ones: its tensors padded, and the same values where the true tensors are.

`pad_sizes` is the pass. Every tensor of the padded graph holds the true one in a part of it that is known: `extents.py`
says how. What is beside it may be anything, nan too: the rules in `rules/` prove, operator by operator, that it does
not reach the true part, and hide it where it would. An operator without a rule is not proven, and the graph is not
padded.
"""
