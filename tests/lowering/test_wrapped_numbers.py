"""Numbers that stand where operators take tensors, as vmap leaves them there, are what they are in eager."""

from __future__ import annotations

import pytest
import torch
from torch.func import grad, jacfwd, jacrev, vmap
from torch.nn import functional as F

pytestmark = pytest.mark.sampled(3)

X = torch.tensor([1.0, 0.5, 3.0])

BINARY = [
    torch.add, torch.sub, torch.mul, torch.div, torch.floor_divide, torch.remainder, torch.fmod, torch.pow, torch.eq,
    torch.lt, torch.ge, torch.xlogy, torch.float_power, torch.rsub, torch.copysign,
]  # fmt: skip

FUNCTIONS = {
    "where": lambda a: torch.where(a > 1, a, 0.0) + torch.where(a > 1, 1, 2),
    "clamp": lambda a: a.clamp(0.7, 2) + torch.clamp(torch.tensor(0.7), a, torch.tensor(2.0)),
    "lerp": lambda a: torch.lerp(a, a * 2, 0.3),
    "addcmul": lambda a: torch.addcmul(torch.tensor(1.0), a, torch.tensor(2.0), value=3),
    "masked_fill": lambda a: a.masked_fill(a > 1, 2.0) * a.clone().fill_(3.0),
    "in place": lambda a: a.clone().add_(2).mul_(1.5).sub_(1).div_(2).pow_(2),
    "alpha": lambda a: torch.add(a, 2, alpha=3) - torch.sub(a, a, alpha=2),
    "stack": lambda a: torch.stack([a, a * 2, torch.tensor(2.0)]).sum(),
    "loss": lambda a: F.huber_loss(a, a * 2) + F.softplus(a) / 3,
    "rounding": lambda a: torch.div(a * 7, 2, rounding_mode="floor") + torch.round(a * 2.5, decimals=1),
    "dtypes": lambda a: (a.half() * 2).float() + (a.double() * 0.1).float() + a.int() / 2,
    "reversed": lambda a: 1 - a + 1 / a + 2**a,
    "a complex number": lambda a: (a * (1 + 2j)).abs(),
}


@pytest.mark.parametrize("function", BINARY, ids=lambda function: function.__name__)
def test_under_vmap_a_scalar_meets_a_number(function, matches_eager):
    def both_sides(x):
        right = vmap(lambda a: function(a, 2))(x), vmap(lambda a: function(a, torch.tensor(1.5)))(x)
        return *right, vmap(lambda a: function(torch.tensor(2), a))(x)

    matches_eager(both_sides, X)
    matches_eager(lambda x: vmap(lambda a: function(a, 3))(x), torch.tensor([1, 2, 5]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_scalars_under_vmap(name, matches_eager):
    function = FUNCTIONS[name]

    def nested(x):
        pairs = vmap(lambda a: vmap(lambda b: function(a - b * 0.5 + 2))(x))(x)
        return vmap(function)(x), pairs

    matches_eager(nested, X)


def test_their_derivatives(matches_eager):
    def function(a):
        return torch.where(a > 1, a * 3, (a * 0.5).sin()) + torch.lerp(a, a**3, 0.3) / 2

    def derivatives(x):
        curved = vmap(grad(grad(function)))(x), vmap(jacrev(jacrev(function)))(x)
        return *curved, jacrev(vmap(function))(x), jacfwd(function)(x)

    matches_eager(derivatives, X)
