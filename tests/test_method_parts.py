"""What moves without a gradient (queues, EMA copies, prototypes, memories), followed by hand."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import SwaVLoss
from torch import nn

import tiny
from slmlp.methods import losses
from slmlp.methods.base import Progress, Queue, ema_copy, ema_update
from slmlp.runtime.distributed import shuffled
from tiny import C, N

FEW = Progress(1, 100, 10)


def sgd(method):
    trained = [p for p in method.parameters() if p.requires_grad]
    return torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=0.1)


def step(method, batch, optimizer, progress=FEW):
    optimizer.zero_grad()
    method(*batch)["loss"].backward()
    optimizer.step()
    method.after_step(progress)


def embed(method, view):
    return losses.unit(method.projector(method.encoder(view)))


# --- Queue ---


@pytest.mark.parametrize("pushes", [[3, 1, 5, 2, 7, 4], [7, 7], [2, 2, 2, 2], [10, 3], [1] * 15, [0, 3]])
def test_a_ring_keeps_the_newest_over_the_oldest(pushes):
    ring, size, ever, place = Queue(7, 2), 7, 0, 0
    slots = [None] * size  # a list written to one row at a time
    for count in pushes:
        rows = torch.arange(ever, ever + count).float().unsqueeze(1).repeat(1, 2)
        at = ring.push(rows)
        kept = rows[-size:]
        expected = [(place + i) % size for i in range(len(kept))]
        for where, row in zip(expected, kept[:, 0].tolist(), strict=True):
            slots[where] = row
        place = (place + len(kept)) % size
        ever += count
        assert at.tolist() == expected
        assert [row for row, held in zip(ring.rows[:, 0].tolist(), slots, strict=True) if held is not None] == [
            held for held in slots if held is not None
        ]
        assert ring.full == (ever >= size)
        held = sorted(s for s in slots if s is not None)
        assert held == [float(i) for i in range(max(0, ever - size), ever)]


def test_a_ring_goes_on_where_its_state_was_saved_and_takes_other_precisions():
    first, second = Queue(5, 1), Queue(5, 1)
    first.push(torch.arange(3.0).unsqueeze(1))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for ring in (first, second):
        at = ring.push(torch.arange(3, 7).unsqueeze(1).bfloat16())
        assert at.tolist() == [3, 4, 0, 1]
        assert ring.rows.dtype == torch.float32
    assert torch.equal(first.rows, second.rows)
    assert first.full


# --- EMA ---


def test_ema_follows_a_sequence_worked_out_by_hand():
    online = [nn.Linear(2, 3), nn.Linear(3, 1)]
    target = ema_copy(*online)
    assert not any(p.requires_grad for p in target.parameters())
    own = [p.detach().tolist() for part in online for p in part.parameters()]

    def moved(held, new, m):
        if isinstance(held, list):
            return [moved(a, b, m) for a, b in zip(held, new, strict=True)]
        return m * held + (1 - m) * new

    for seed, momentum in enumerate([0.9, 0.5, 0.0, 0.99, 1.0]):
        with torch.no_grad():
            for i, p in enumerate(p for part in online for p in part.parameters()):
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(10 * seed + i)))
                own[i] = moved(own[i], p.tolist(), momentum)
        ema_update(target, online, momentum)
        for p, expected in zip(target.parameters(), own, strict=True):
            torch.testing.assert_close(p, torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["byol", "moco-v2", "t-rex"])
def test_statistics_of_the_targets_norms_come_from_its_own_passes(name):
    method = tiny.method(name)
    views, labels = tiny.batch(method.num_views)
    method.train()
    before = method.target[0].backbone.norm.running_mean.clone()
    rows = method(views, labels)
    after = method.target[0].backbone.norm.running_mean.clone()
    assert not torch.equal(before, after)
    rows["loss"].backward()
    with torch.no_grad():
        for norm in (m for m in method.encoder.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.fill_(123.0)
            norm.running_var.fill_(456.0)
        for p in method.encoder.parameters():
            p.add_(1.0)
    weight = method.target[0].backbone.conv.weight.clone()
    method.after_step(FEW)
    assert torch.equal(method.target[0].backbone.norm.running_mean, after)
    assert not torch.equal(method.target[0].backbone.conv.weight, weight)


@pytest.mark.parametrize(("share", "momentum"), [(0.0, 0.9), (0.25, 0.914645), (0.5, 0.95), (1.0, 1.0)])
def test_byols_momentum_rises_along_a_cosine_from_the_setting_to_one(share, momentum):
    method = tiny.method("byol", ema_momentum=0.9)
    with torch.no_grad():
        for p in method.parameters():
            p.fill_(1.0)
        for p in method.target.parameters():
            p.zero_()
    method.after_step(Progress(int(share * 100), 100, 10))
    left = {round(1 - v, 6) for p in method.target.parameters() for v in p.flatten().tolist()}
    assert left == {momentum}  # a quarter of the way: 1 - 0.1 * (cos(pi / 4) + 1) / 2


def test_byols_loss_is_both_directions_against_the_target():
    method = tiny.method("byol").eval()
    with torch.no_grad():
        for p in method.target.parameters():
            p.add_(0.3)
    (x1, x2), labels = tiny.batch(2)
    p1, p2 = (method.predictor(method.projector(method.encoder(x))) for x in (x1, x2))
    t1, t2 = (method.target(x) for x in (x1, x2))
    expected = (2 - 2 * F.cosine_similarity(p1, t2)).mean() + (2 - 2 * F.cosine_similarity(p2, t1)).mean()
    torch.testing.assert_close(method([x1, x2], labels)["loss"], expected)


# --- MoCo ---


@pytest.mark.parametrize("name", ["moco-v1", "moco-v2"])
def test_mocos_keys_enter_the_queue_after_the_step_and_not_before(name):
    method = tiny.method(name, queue_size=3 * N).eval()
    queue = method.queue.rows.clone()
    torch.testing.assert_close(queue.norm(dim=1), torch.ones(3 * N))
    for i in range(5):
        (x1, x2), labels = tiny.batch(2, seed=i)
        before = method.queue.rows.clone()
        loss = method([x1, x2], labels)["loss"]
        keys = losses.unit(method.target(x2))
        assert torch.equal(method.queue.rows, before)
        expected = losses.info_nce(
            method.projector(method.encoder(x1)), keys, before, {"moco-v1": 0.07, "moco-v2": 0.2}[name]
        )
        torch.testing.assert_close(loss, expected)
        method.after_step(FEW)
        place = i % 3 * N
        queue[place : place + N] = keys
        torch.testing.assert_close(method.queue.rows, queue)


def test_shuffling_changes_the_company_and_nothing_else():
    x = torch.randn(11, 4)
    linear = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    for groups in (1, 2, 3):
        torch.testing.assert_close(shuffled(linear, x, groups), linear(x))
    norm = nn.BatchNorm1d(4)
    assert not torch.allclose(shuffled(norm, x, 2), norm(x), atol=1e-2)
    torch.testing.assert_close(shuffled(norm, x, 1), norm(x))
    rows = torch.arange(11.0).repeat(4, 1).T
    companies = set()

    class Recorded(nn.Module):
        def forward(self, part):
            companies.add(tuple(sorted(part[:, 0].int().tolist())))
            return part

    for _ in range(5):
        assert torch.equal(shuffled(Recorded(), rows, 2), rows)
    assert len(companies) > 2  # drawn anew each time


@pytest.mark.parametrize(("images", "groups"), [(7, 3), (12, 5), (6, 3), (13, 6)])
def test_shuffled_parts_never_fall_below_two_images(images, groups):
    sizes = []

    class Recorded(nn.Module):
        def forward(self, part):
            sizes.append(len(part))
            return part

    shuffled(Recorded(), torch.randn(images, 2), groups)
    assert len(sizes) == groups
    assert sum(sizes) == images
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2


# --- SwAV ---


def test_prototypes_stay_to_the_bit_while_frozen_then_move_at_length_one():
    method = tiny.method("swav", prototypes=5, queue_size=0, freeze_epochs=1.5)
    optimizer = sgd(method)
    first, seen = method.prototypes.detach().clone(), []
    torch.testing.assert_close(first.norm(dim=1), torch.ones(5))
    for i in range(1, 9):
        step(method, tiny.batch(2, seed=i), optimizer, Progress(i, 20, 4))  # four steps per epoch
        seen.append(torch.equal(method.prototypes, first))
        torch.testing.assert_close(method.prototypes.norm(dim=1), torch.ones(5))
    assert seen == [True] * 6 + [False] * 2


def test_the_queue_is_used_when_it_is_full_and_its_time_has_come(monkeypatch):
    sizes = []
    monkeypatch.setattr(
        "slmlp.methods.swav.sinkhorn", lambda s, *rest: sizes.append(len(s)) or losses.sinkhorn(s, *rest)
    )

    def used(start, size=2 * N, steps=8):
        sizes.clear()
        method = tiny.method("swav", prototypes=5, queue_size=size, queue_start=start)
        for i in range(1, steps + 1):
            step(method, tiny.batch(2, seed=i), sgd(method), Progress(i, steps, 4))
        return [first - N for first, second in zip(sizes[::2], sizes[1::2], strict=True) if first == second]

    full = 2 * N
    assert used(0.5) == [0] * 4 + [full] * 4  # from the step after half of training
    assert used(0.0) == [0] * 2 + [full] * 6  # from the start: as soon as it is full
    assert used(1.0) == [0] * 8
    assert used(0.0, size=0) == [0] * 8


@pytest.mark.parametrize("local", [0, 3])
def test_codes_come_from_batch_and_queue_and_the_loss_is_lightlys(local):
    method = tiny.method("swav", prototypes=5, queue_size=2 * N, queue_start=0.0, freeze_epochs=0).eval()
    queues = [[], []]
    with torch.no_grad():
        for i in range(5):
            views, labels = tiny.batch(2, local, seed=i)
            z = [embed(method, v) for v in views]
            loss = method(views, labels)["loss"]
            scores = [e @ method.prototypes.T for e in z]
            held = [torch.cat(q[-2:]) @ method.prototypes.T for q in queues] if i >= 2 else None
            theirs = SwaVLoss(temperature=0.1, sinkhorn_iterations=3, sinkhorn_epsilon=0.05)
            torch.testing.assert_close(loss, theirs(scores[:2], scores[2:], held).squeeze(0), atol=1e-5, rtol=1e-5)
            for view in range(2):
                both = torch.cat([scores[view], held[view]]) if held else scores[view]
                codes = method.codes(view, scores[view], method.prototypes)
                torch.testing.assert_close(codes, losses.sinkhorn(both, 0.05, 3)[:N], atol=1e-5, rtol=1e-4)
                assert not held or not torch.allclose(codes, losses.sinkhorn(scores[view], 0.05, 3), atol=1e-3)
            method.after_step(FEW)
            for queue, e in zip(queues, z, strict=False):
                queue.append(e)
    torch.testing.assert_close(method.queues[1].rows.sort(0)[0], torch.cat(queues[1][-2:]).sort(0)[0])


def test_codes_are_exact_under_autocast():
    method = tiny.method("swav", prototypes=5, queue_size=0)
    z, prototypes = losses.unit(torch.randn(N, 128)), method.prototypes.detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes = method.codes(0, losses.products(z, prototypes), prototypes)
    torch.testing.assert_close(codes.sum(1), torch.ones(N), atol=1e-6, rtol=0)


# --- t-ReX ---


def test_prototypes_are_group_sums_of_each_class_and_absent_classes_get_zero_logits():
    method = tiny.method("t-rex", memory_size=9).eval()
    method.labels.copy_(torch.tensor([0, 2, 0, 2, 2, 0, 2, 2, 2]))  # of C = 4: 1 and 3 are absent
    found = method.prototypes()
    for c in range(C):
        total = torch.zeros(found.shape[1])
        for row, label in zip(method.memory.rows, method.labels, strict=True):
            if label == c:
                total = total + row
        torch.testing.assert_close(found[c], total / total.norm() if c in (0, 2) else total)
    assert not found[[1, 3]].any()
    (x,), labels = tiny.batch(1)
    z = embed(method, x)
    logits = torch.stack([z @ found[0], torch.zeros(N), z @ found[2], torch.zeros(N)], dim=1) / 0.1
    rows = method([x], labels)
    torch.testing.assert_close(rows["loss"], F.cross_entropy(logits, labels))
    rows["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_labels_follow_their_rows_round_the_memory_and_the_global_crop_alone_feeds_it():
    method = tiny.method("t-rex", memory_size=2 * N + 3).eval()
    with torch.no_grad():
        for p in method.target[1].parameters():
            p.mul_(10)  # fresh ones are so small that any two embeddings are close
    rows, marks = [], []
    for i in range(6):
        views, _ = tiny.batch(1, local=2, seed=i)
        labels = torch.randint(C, (N,), generator=torch.Generator().manual_seed(i))
        with torch.no_grad():
            rows += list(method.target(views[0]))
            assert (rows[-1] - method.target(views[1])[-1]).abs().max() > 1e-3
        marks += labels.tolist()
        method(views, labels)
        method.after_step(FEW)
        size = 2 * N + 3
        for j in range(max(0, len(rows) - size), len(rows)):
            torch.testing.assert_close(method.memory.rows[j % size], rows[j])
            assert method.labels[j % size] == marks[j]


def test_a_batch_larger_than_the_memory_leaves_its_last_rows():
    method = tiny.method("t-rex", memory_size=4).eval()
    views, _ = tiny.batch(1)
    labels = torch.tensor([3, 3, 0, 1, 2, 0])
    method(views, labels)
    method.after_step(FEW)
    assert method.labels.tolist() == labels[-4:].tolist()


# --- one pass for crops of one size ---


@pytest.mark.parametrize(
    ("name", "views", "local", "passes"),
    [
        ("sl", 1, 3, [N, 3 * N]),
        ("supcon", 2, 2, [2 * N, 2 * N]),
        ("simclr", 2, 0, [2 * N]),
        ("byol", 2, 0, [2 * N]),
        ("moco-v2", 2, 0, [N]),
        ("swav", 2, 6, [2 * N, 6 * N]),
        ("t-rex-star", 1, 8, [N, 8 * N]),
        ("t-rex", 1, 8, [N, 8 * N]),
    ],
)
def test_crops_of_one_size_go_through_the_encoder_together(name, views, local, passes):
    method = tiny.method(name)
    method(*tiny.batch(views, local))
    assert method.encoder.backbone.calls == passes
