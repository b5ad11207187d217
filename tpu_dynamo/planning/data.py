"""A plan as plain data: what the command line prints, and JSON."""

from __future__ import annotations

from typing import Any

from ..formatting import format_bytes, format_count
from .code import code_of
from .planning import Candidate, Plan


def plan_data(plan: Plan, model: str) -> dict[str, Any]:
    """Return a plan as plain data; seconds and bytes are those of one chip. model: what it is called."""
    best = next((each for each in plan.candidates if each.fits and not each.problem), None)
    return {
        "model": model,
        "target": plan.topology.name,
        "batch": plan.batch,
        "available": plan.topology.chip.usable_hbm,
        "blocks": len(plan.facts.blocks),
        "parameter_bytes": sum(plan.facts.parameters.values()),
        "flops": round(plan.facts.flops * plan.batch / plan.facts.rows),
        "tensor_parallel": plan.tensor.missing or plan.tensor.patterns,
        "summary": _summary(plan),
        "order_agrees": plan.order_agrees,
        "layouts": [_layout(each) for each in plan.candidates],
        "code": "" if best is None else code_of(best.layout, plan.tensor, plan.facts.blocks, training=plan.training),
    }


def _summary(plan: Plan) -> str:
    fitting = sum(each.fits for each in plan.candidates)
    parts = [
        f"{format_bytes(sum(plan.facts.parameters.values()))} of parameters in "
        f"{format_count(len(plan.facts.blocks), 'block')}; "
        f"{format_count(len(plan.candidates), 'layout')}, of which {fitting} fit"
    ]
    if plan.tensor.missing:
        parts.append(f"no tensor parallelism: {plan.tensor.missing}")
    known = [each.errors for each in plan.candidates if each.errors is not None]
    if known:
        memory, step = ([abs(pair[i]) for pair in known] for i in (0, 1))
        parts.append(
            f"the cheap model is off libtpu's figures by {max(memory):.0%} of memory and {max(step):.0%} of a step at "
            f"most, over {len(known)} compiled layouts"
        )
    if plan.order_agrees is not None:
        parts.append(
            "its order is libtpu's" if plan.order_agrees else "its order is not libtpu's, which is the one here"
        )
    return "; ".join(parts)


def _layout(candidate: Candidate) -> dict[str, Any]:
    layout, estimate, compiled = candidate.layout, candidate.estimate, candidate.compiled
    found: dict[str, Any] = {
        "name": layout.name,
        "mesh": layout.mesh,
        "recompute": layout.recompute,
        "micro_batches": layout.micro,
        "fits": candidate.fits,
        "by": "libtpu" if compiled is not None else "estimate",
        "memory": candidate.memory,
        "step_seconds": candidate.step,
        "compute_seconds": _compute(candidate),
        "why": candidate.problem.splitlines()[0] if candidate.problem else _why(candidate),
        "estimate": {
            "memory": dict(estimate.memory),
            "compute_seconds": estimate.compute,
            "communication_seconds": dict(estimate.communication),
        },
        "errors": candidate.errors,
    }
    if compiled is not None and compiled.memory.fits is not False and compiled.communication is not None:
        axes = compiled.communication.by_axis()
        found["communication"] = {
            axis: {"bytes": each.nbytes, "seconds": each.seconds, "collectives": each.count}
            for axis, each in axes.items()
        }
    return found


def _compute(candidate: Candidate) -> float:
    compiled = candidate.compiled
    if compiled is None or compiled.memory.fits is False:
        return candidate.estimate.compute
    return (compiled.cost.cycles or 0) / candidate.clock


def _why(candidate: Candidate) -> str:
    """Say in a few words what a step's time or memory goes to."""
    memory = candidate.estimate.memory
    if not candidate.fits:
        what, nbytes = max(memory.items(), key=lambda item: item[1])
        return f"{format_bytes(nbytes)} of {what}"
    exchanged = candidate.estimate.communication
    total = sum(exchanged.values())
    if not exchanged or candidate.estimate.compute > 4 * total:
        return "computes most of the time"
    what, seconds = max(exchanged.items(), key=lambda item: item[1])
    return f"{seconds * 1e3:,.1f} ms of {what}"
