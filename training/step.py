"""One optimiser step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from mlip.datasets.frame import RESPONSE
from mlip.derivatives import HessianOperator, evaluate
from mlip.errors import MLIPError
from mlip.potential import Potential
from mlip.response import field_response
from mlip.training.curvature import Question, Wave, answer_with
from mlip.training.data import Batch
from mlip.training.distributed import Group
from mlip.training.hessian import CurvatureLoss
from mlip.training.loss import Loss, Prediction
from mlip.training.optimizers import set_learning_rate
from mlip.training.state import TrainingState


class DivergenceError(MLIPError):
    """A step gave NaN or infinity; the weights before it were kept.

    Args:
        problem: Which step, and what was not finite.
        frames: Indices of the training frames under suspicion.
        names: Where these frames are: file and index.
    """

    def __init__(self, problem: str, frames: Sequence[int] = (), names: Sequence[str] = ()) -> None:
        self.problem, self.frames = problem, list(frames)
        where = f" in training frames {self.frames}" if frames else ""
        files = f" ({'; '.join(names)})" if names else ""
        mend = "the last checkpoint is kept; lower training.learning_rate, or look at these frames"
        super().__init__(f"{problem}{where}{files}; {mend}")


@dataclass(frozen=True)
class Probing:
    """This process's questions to the curvature in one step.

    Attributes:
        mine: The questions.
        count: Values that they average over in all processes.
        of_batch: Whether they are one H·v for every frame of the batch, in its order.
    """

    mine: list[Question]
    count: float
    of_batch: bool = False


@dataclass(frozen=True)
class Share:
    """This process's part of a step, from which the loss follows.

    Attributes:
        batch: Its frames; None when it has none of this batch.
        counts: Labels per term over all processes.
        progress: Share of the run that is over.
        probing: Questions to the curvature; None in a step without.
    """

    batch: Batch | None
    counts: Sequence[float]
    progress: float
    probing: Probing | None


@dataclass(frozen=True)
class Step:
    """A step as a function of state, batch and learning rate.

    Args:
        loss: What is minimised.
        group: The processes that share the batch.
        clip: Largest norm of the gradient.
        seed: Seed of dropout and noise.
        curvature: The loss on the curvature, or None.
    """

    loss: Loss
    group: Group
    clip: float
    seed: int
    curvature: CurvatureLoss | None = None

    def __call__(
        self,
        state: TrainingState,
        batch: Batch | None,
        counts: Sequence[float],
        rate: float,
        progress: float,
        probing: Probing | None = None,
    ) -> tuple[Tensor, Prediction | None]:
        """Forward, backward, all-reduce, clip, update.

        Args:
            state: Changed in place.
            batch: This process's frames; None when it has none of this batch.
            counts: Labels per term over all processes.
            rate: Learning rate.
            progress: Share of the run that is over, on which weights of the loss may depend.
            probing: Questions to the curvature; None in a step without.

        Returns:
            The loss of the whole batch (a float64 scalar), and the predictions.

        Raises:
            DivergenceError: Loss or gradient are not finite.
        """
        state.model.train()
        state.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(step_seed(self.seed, state.position.step, self.group.rank))
        parameters = [p for p in state.parameters() if p.requires_grad]
        share = Share(batch, counts, progress, probing)
        value, prediction = self._differentiate(state, share, parameters)
        value = self.group.sum_gradients(parameters, value)
        norm = clip_gradients(parameters, self.clip)
        if not bool(torch.isfinite(norm) & torch.isfinite(value)):
            problem = f"step {state.position.step + 1} diverged: loss {float(value):.3g}, gradient {float(norm):.3g}"
            problem += _asked(probing)
            raise DivergenceError(problem, _suspects(batch, prediction))
        set_learning_rate(state.optimizer, rate)
        state.optimizer.step()
        state.average.update()
        return value, prediction

    def _differentiate(
        self, state: TrainingState, share: Share, parameters: Sequence[nn.Parameter]
    ) -> tuple[Tensor, Prediction | None]:
        """The loss, and the predictions; leaves the gradients at the parameters."""
        value, prediction = self._terms(state, share)
        if value.requires_grad:  # only by the parameters: the edge vectors are leaves too, and nobody asks for theirs
            value.backward(inputs=list(parameters))
        return value.detach(), prediction

    def _terms(self, state: TrainingState, share: Share) -> tuple[Tensor, Prediction | None]:
        """The loss, to be differentiated once.

        A second backward pass would add in place to gradients of the first, and autograd may have handed one tensor
        to two parameters (`clip_gradients`).
        """
        model, batch, probing = state.model, share.batch, share.probing
        if batch is not None and self.curvature is not None and probing is not None and probing.of_batch:
            return self._together(model, batch, share, self.curvature, probing)
        value = torch.zeros((), dtype=torch.float64, device=model.device)
        prediction = None
        if batch is not None:
            prediction = self._predict(state, batch)
            value = value + self.loss.total(self.loss.sums(prediction, batch), share.counts, share.progress)
        if self.curvature is not None and probing is not None and probing.mine:
            value = value + self.curvature.value(model, probing.mine, probing.count)
        return value, prediction

    def _predict(self, state: TrainingState, batch: Batch) -> Prediction:
        targets = self.loss.targets
        if state.task is not None and batch.labels["noise"]:
            return state.task.predict(state.model, batch, stress="stress" in targets)
        return predict(state.model, batch, targets, create_graph=True)

    def _together(
        self, model: Potential, batch: Batch, share: Share, curvature: CurvatureLoss, probing: Probing
    ) -> tuple[Tensor, Prediction]:
        """Where every frame of the batch is probed, one first derivative serves forces and products."""
        operator = HessianOperator(model, batch.graph, create_graph=True)
        out = operator.evaluation(stress="stress" in self.loss.targets)
        prediction = Prediction(out.energy, out.forces, out.stress, anisotropy=model.theta_sizes())
        waves = [question for question in probing.mine if isinstance(question, Wave)]
        value = self.loss.total(self.loss.sums(prediction, batch), share.counts, share.progress)
        return value + curvature.total(answer_with(operator, waves), probing.count), prediction


def predict(
    model: Potential, batch: Batch, targets: Collection[str] = (), *, create_graph: bool = False
) -> Prediction:
    """Energy, forces and, where a target asks for them, stress and derivatives by an electric field."""
    sizes, stress = model.theta_sizes() if create_graph else None, "stress" in targets
    if not set(RESPONSE) & set(targets):
        out = evaluate(model, batch.graph, stress=stress, create_graph=create_graph)
        return Prediction(out.energy, out.forces, out.stress, anisotropy=sizes)
    second = bool({"born_charges", "polarizability"} & set(targets))
    found = field_response(model, batch.graph, second=second, stress=stress, create_graph=create_graph)
    out = found.evaluation
    derivatives = {"born_charges": found.born_charges, "polarizability": found.polarizability}
    return Prediction(out.energy, out.forces, out.stress, None, sizes, polarization=found.dipole, **derivatives)


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients so that their common norm does not exceed the limit; return the norm before that.

    Not in place, as torch's own is: autograd may hand one tensor to two parameters (whenever a loss depends on
    their sum alone), which would then be scaled twice.
    """
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    if bool(norm > limit):
        factor = limit / norm
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = parameter.grad * factor
    return norm


def step_seed(seed: int, step: int, rank: int) -> int:
    """A seed for each step and process, so that noise is the same in a resumed run."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _asked(probing: Probing | None) -> str:
    """The curvature labels that were probed in the step, for the message."""
    names = [] if probing is None else [question.name for question in probing.mine]
    return f", curvature probed: {'; '.join(names[:3])}{' …' if len(names) > 3 else ''}" if names else ""


def _suspects(batch: Batch | None, prediction: Prediction | None) -> list[int]:
    """The frames whose prediction is not finite; all of the batch when only the gradient is at fault."""
    if batch is None or prediction is None:
        return []
    atoms = ~torch.isfinite(prediction.forces).all(dim=1)
    bad = ~torch.isfinite(prediction.energy)
    bad = bad.index_put((batch.graph.structure[atoms],), torch.tensor(True, device=bad.device))
    chosen = [frame for frame, is_bad in zip(batch.frames, bad.tolist(), strict=True) if is_bad]
    return chosen or list(batch.frames)
