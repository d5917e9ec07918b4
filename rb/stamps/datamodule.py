"""Stamps in batches: whole tensors gathered by index, no per-stamp Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import lightning as L
import numpy as np
import torch
from torch import Tensor

from rb.stamps.inputs import InputSpec
from rb.stamps.splits import Split
from rb.stamps.stampset import StampSet

Gather = Callable[[Tensor], Tensor | tuple[Tensor, ...]]
"""From an int64 index tensor to what a network is called with."""


class Batches:
    """Batches (x, labels) or (x, side, labels), from tensors or from the memory-mapped set.

    Iterating gives the whole epoch; the order depends on `seed` and on the number of the
    epoch alone, so that a run taken up again sees the batches that it would have seen.

    Parameters
    ----------
    gather : callable
        Maps an int64 index tensor to an input tensor, or to a tuple of them.
    labels : Tensor, (n,)
        int64.
    batch_size : int
        The last batch is smaller, as in Keras.
    shuffle : bool
        Draw without replacement, else in order.
    seed : int
        With the epoch, fixes the order.
    epoch : callable, optional
        Gives the number of the current epoch.
    share : (int, int)
        Number of a process, and of all processes, that share each batch among them.
    """

    def __init__(
        self,
        gather: Gather,
        labels: Tensor,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epoch: Callable[[], int] = lambda: 0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.gather = gather
        self.labels = labels
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = epoch
        self.share = share

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        n = len(self.labels)
        if self.shuffle:
            generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch()))
            order = torch.randperm(n, generator=generator)
        else:
            order = torch.arange(n)
        order = order.to(self.labels.device)
        for start in range(0, n, self.batch_size):
            rows = order[start : start + self.batch_size]
            if self.share[1] > 1:  # nobody goes without a stamp, the others would wait
                rows = rows[min(self.share[0], len(rows) - 1) :: self.share[1]]
            inputs = self.gather(rows)
            yield (*(inputs if isinstance(inputs, tuple) else (inputs,)), self.labels[rows])


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """Seed of one epoch, from the seed of the run; another one in each process of several."""
    entropy = [seed, epoch, rank] if rank else [seed, epoch]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


class StampDataModule(L.LightningDataModule):
    """Training, validation and test batches of one stamp set for one kind of network.

    Parameters
    ----------
    stamp_set : StampSet
        Where the stamps come from.
    split : Split
        Which rows are used for what.
    inputs : InputSpec
        What the network wants.
    batch_size : int
        For training; evaluation uses larger ones.
    seed : int
        Of the order of the batches.
    memory : int
        Bytes that prepared tensors may take. A larger training set is read and scaled batch
        by batch from the memory-mapped file instead.
    share : (int, int)
        Number of a process, and of all processes, that share each training batch.

    Raises
    ------
    UserError
        If the set lacks something that the network needs.
    """

    def __init__(
        self,
        stamp_set: StampSet,
        split: Split,
        inputs: InputSpec,
        *,
        batch_size: int = 200,
        seed: int = 1,
        memory: int = 8 * 2**30,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        inputs.check(stamp_set)
        self.stamp_set = stamp_set
        self.split = split
        self.inputs = inputs
        self.batch_size = batch_size
        self.seed = seed
        self.memory = memory
        self.share = share
        self._gathers: dict[str, Gather] = {}

    @property
    def in_memory(self) -> bool:
        """Whether training and validation stamps are held as prepared tensors."""
        rows = len(self.split.train) + len(self.split.val)
        return 4 * rows * (int(np.prod(self.inputs.shape)) + self.inputs.n_side) <= self.memory

    @property
    def device(self) -> torch.device:
        """Where the network is trained; the processor where nothing is."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def gather(self, subset: str) -> Gather:
        """Function from positions in `subset` to prepared inputs, without or with side."""
        if subset not in self._gathers:
            rows = self.split[subset]
            if self.in_memory:
                # What fits lives where the network is: no batch waits for a transfer.
                prepared = tuple(part.to(self.device) for part in self._prepare(rows))
                self._gathers[subset] = lambda index: tuple(
                    part.index_select(0, index) for part in prepared
                )
            else:
                self._gathers[subset] = lambda index: self._prepare(rows[index.cpu().numpy()])
        return self._gathers[subset]

    def labels(self, subset: str) -> Tensor:
        """int64 labels of `subset`."""
        labels = torch.from_numpy(self.stamp_set.labels[self.split[subset]].astype(np.int64))
        return labels.to(self.device) if self.in_memory else labels

    def train_dataloader(self) -> Batches:
        """Shuffled anew each epoch."""
        return Batches(
            self.gather("train"),
            self.labels("train"),
            self.batch_size,
            shuffle=True,
            seed=self.seed,
            epoch=lambda: self.trainer.current_epoch if self.trainer else 0,
            share=self.share,
        )

    def val_dataloader(self) -> Batches:
        """In order, in batches large enough to keep the processor busy."""
        return Batches(self.gather("val"), self.labels("val"), max(self.batch_size, 500))

    def _prepare(self, rows: np.ndarray, chunk: int = 2048) -> tuple[Tensor, ...]:
        # Reading in file order keeps the disk reading ahead; chunks keep raw stamps out of memory.
        order = np.argsort(rows)
        out = [torch.empty((len(rows), *self.inputs.shape))]
        if self.inputs.side:
            out.append(torch.empty((len(rows), self.inputs.n_side)))
        for start in range(0, len(rows), chunk):
            part = order[start : start + chunk]
            stamps = self.stamp_set.read(rows[part], self.inputs)
            for whole, tensor in zip(out, self.inputs.tensors(stamps), strict=True):
                whole[torch.from_numpy(part)] = tensor
        return tuple(out)
