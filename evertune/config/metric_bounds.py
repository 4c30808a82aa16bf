"""The best value that each metric can have: a minimum beyond it stops every version."""

import math

from evertune.objectives import Objective

LEAST = {"perplexity": 1.0, "code_perplexity": 1.0}  # of metrics that fall as a model improves; others reach 0
GREATEST = {"spearman": 1.0, "pearson": 1.0}  # of metrics that are no shares of rows; others have no bound


def describe_unreachable(objective: Objective, metric: str, minimum: float) -> str | None:
    """Return why no version can reach a minimum, and what to write; None if one can.

    Args:
        objective: has the metric.
        metric: its name.
        minimum: the least value that a version needs; the greatest, if the metric falls as a model improves.
    """
    if not math.isfinite(minimum):
        return f"write a number, not {minimum}"
    if metric in objective.LOWER_IS_BETTER:
        best = LEAST.get(metric, 0.0)
        if minimum >= best:
            return None
        return f"no version can pass {minimum:g}: {metric} is never below {best:g}, and lower is better"
    is_share = metric not in objective.ABSOLUTE_METRICS
    best = 1.0 if is_share else GREATEST.get(metric, math.inf)
    if minimum <= best:
        return None
    hint = f"; for {minimum:g}% write {minimum / 100:g}" if is_share and minimum <= 100 else ""
    return f"no version can pass {minimum:g}: {metric} is never above {best:g}{hint}"
