"""pfl: its `SimulatedBackend` and `FederatedAveraging` on PyTorch, in one process."""

import itertools
from typing import Any

import numpy as np
import torch
import workload
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByUser
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam import NNTrainHyperParams
from pfl.model.pytorch import PyTorchModel


class Net(torch.nn.Module):
    """784-64-10, with the two methods that pfl asks for."""

    def __init__(self, start: workload.Params) -> None:
        super().__init__()
        for name, value in start.items():
            setattr(self, name, torch.nn.Parameter(torch.from_numpy(value.copy())))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits f32 [B, 10] of pixels f32 [B, 784]."""
        return torch.relu(torch.addmm(self.b1, x, self.w1)) @ self.w2 + self.b2

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean cross entropy of a batch."""
        return torch.nn.functional.cross_entropy(self(x), y)

    def metrics(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
        """None: nothing is evaluated."""
        return {}


def main() -> None:
    """Times the round; `workload.py` says what it is."""
    asked, own = workload.work(__doc__, threads=1)
    torch.set_num_threads(own["threads"])
    images, labels = workload.pool()
    pixels = torch.from_numpy(workload.as_float(images))
    targets = torch.from_numpy(labels.astype(np.int64))
    distinct = workload.POOL // asked.examples
    data = []
    for participant in range(min(asked.participants, distinct)):
        rows = workload.rows(participant, asked.examples)
        data.append(Dataset((pixels[rows], targets[rows])))
    turn = itertools.cycle(range(asked.participants))
    federated = FederatedDataset(lambda i: data[i % distinct], lambda: next(turn))

    net = Net(workload.initial())
    model = PyTorchModel(net, torch.optim.SGD, torch.optim.SGD(net.parameters(), lr=1.0))
    algorithm = FederatedAveraging()
    backend = SimulatedBackend(federated, federated, postprocessors=[WeightByUser()])
    settings = NNAlgorithmParams(
        central_num_iterations=asked.repeats + 2,
        evaluation_frequency=asked.repeats + 2,
        train_cohort_size=asked.participants,
        val_cohort_size=0,
    )
    local = NNTrainHyperParams(
        local_num_epochs=1, local_learning_rate=workload.RATE, local_batch_size=asked.batch_size
    )
    iteration = 1  # pfl evaluates at 0

    def step() -> None:
        nonlocal iteration
        contexts, *_ = algorithm.get_next_central_contexts(model, iteration, settings, local, local)
        context = contexts[0]
        statistics, metrics = backend.gather_results(
            model=model, training_algorithm=algorithm, central_context=context
        )
        algorithm.process_aggregated_statistics(context, metrics, model, statistics)
        iteration += 1

    def read() -> workload.Params:
        return {name: value.detach().numpy().copy() for name, value in net.named_parameters()}

    packages = ["pfl", "torch", "numpy"]
    workload.run(asked, "pfl", packages, step, read, threads=own["threads"])


if __name__ == "__main__":
    main()
