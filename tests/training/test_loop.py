import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_run import Steps, run, tiny

from detkit import checkpoint
from detkit.errors import DetkitError
from detkit.training import replay
from detkit.training.journal import Journal
from detkit.training.loop import Plan
from detkit.training.signals import Interrupted

RUNNER = Path(__file__).with_name("tiny_run.py")


def contents(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a run's last state, raw and averaged weights, optimiser, random states."""
    last = folder / "last"
    return {
        f"{name}/{key}": value
        for name in ("model", "resume")
        for key, value in checkpoint.read_tensors(last / f"{name}.safetensors").items()
    }


def lines(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


def assert_same(one: Path, other: Path) -> None:
    a, b = contents(one), contents(other)
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []
    assert lines(one) == lines(other)
    plain = [json.loads((f / "last" / "resume.json").read_text()) for f in (one, other)]
    assert {**plain[0], "journal": 0} == {**plain[1], "journal": 0}


def interrupt_at(step: int):
    sent = []

    def at_step(now: int) -> None:
        if now == step and not sent:
            sent.append(now)
            os.kill(os.getpid(), signal.SIGINT)

    return at_step


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"workers": 2},
        {"ema": None, "optimizer": "adamw"},
        {"accumulate": 2, "optimizer": "adamw", "dtype": torch.bfloat16},
        {"dtype": torch.float16},
    ],
    ids=str,
)
@pytest.mark.parametrize("step", [3, 4, 5])  # before a checkpoint, at one, where it is evaluated
def test_an_interrupted_run_ends_where_the_uninterrupted_one_does(tmp_path, settings, step):
    run(tmp_path / "whole", **settings)
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", at_step=interrupt_at(step), **settings)
    saved = json.loads((tmp_path / "parts" / "last" / "resume.json").read_text())
    assert saved["step"] == step + 1  # the step was finished
    run(tmp_path / "parts", **settings)
    assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    "lost",
    [
        "random/0/torch",
        "optimizer/classes.weight/momentum_buffer",
        "model/backbone.norm.running_mean",
        "shown/classes.weight",
    ],
)
def test_the_comparison_notices_a_state_that_is_lost(tmp_path, lost):
    run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", at_step=interrupt_at(3))
    last = tmp_path / "parts" / "last"
    tensors, plain = checkpoint.read_resume(last)
    shown = checkpoint.read_tensors(last / "model.safetensors")
    if lost.startswith("random"):
        torch.manual_seed(1234)
        tensors[lost] = torch.get_rng_state()
    else:
        (shown if lost.startswith("shown/") else tensors)[lost.removeprefix("shown/")].zero_()
    checkpoint.save(last, shown, checkpoint.read_json(last / "meta.json"), (tensors, plain))
    run(tmp_path / "parts")
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_killed_run_ends_where_the_uninterrupted_one_does(tmp_path):
    settings = {"workers": 2, "checkpoint_every": 2}
    run(tmp_path / "whole", **settings)
    slow = json.dumps({**settings, "pause": 0.2})
    process = subprocess.Popen([sys.executable, RUNNER, tmp_path / "killed", slow])
    marker = tmp_path / "killed" / "last" / "resume.json"
    deadline = time.monotonic() + 60
    while not (marker.exists() and json.loads(marker.read_text())["step"] >= 6):
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    run(tmp_path / "killed", **settings)
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_a_kill_between_saves_leaves_no_double_lines(tmp_path):
    run(tmp_path / "whole", checkpoint_every=100)

    class Killed(Exception):
        pass

    def die(step: int) -> None:
        if step == 9:  # the last save was at 5, lines were written at 5 (validation) and 6
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "parts", checkpoint_every=100, at_step=die)
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')  # cut short
    run(tmp_path / "parts", checkpoint_every=100)
    assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_accumulated_small_batches_equal_one_large_batch(tmp_path, optimizer):
    # without batch norm, whose statistics are each batch's own, and without chance
    settings = {"dropout": 0.0, "norm": False, "ema": None, "optimizer": optimizer}
    parts = run(tmp_path / "parts", size=2, accumulate=3, **settings)
    whole = run(tmp_path / "whole", size=6, accumulate=1, **settings)
    other = run(tmp_path / "other", size=2, accumulate=1, **settings)
    for a, b in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    for a, b in zip(lines(tmp_path / "parts"), lines(tmp_path / "whole"), strict=True):
        assert a == pytest.approx(b, rel=1e-3)
    first = next(iter(other.model.parameters())), next(iter(whole.model.parameters()))
    assert not torch.allclose(*first, atol=1e-3)


def test_a_loss_that_is_not_finite_stops_with_the_batch(tmp_path):
    def spoil(step, losses):
        return losses if step != 6 else {**losses, "box": losses["box"] * float("inf")}

    with pytest.raises(DetkitError) as error:
        run(tmp_path / "run", losses=spoil)
    text = str(error.value)
    assert "step 6" in text
    assert "12.png, 13.png" in text
    assert "box inf" in text
    assert "class 0." in text or "class 1." in text
    batch, step = replay.read(tmp_path / "run/replay.safetensors")
    wanted = Steps(6, 7, 2)[0]
    assert step == 6
    assert torch.equal(batch.images, wanted.images)
    assert batch.frames == wanted.frames
    assert all(
        torch.equal(a.boxes, b.boxes) for a, b in zip(batch.targets, wanted.targets, strict=True)
    )
    state = checkpoint.read_tensors(tmp_path / "run" / "last" / "model.safetensors")
    assert all(t.isfinite().all() for t in state.values())  # what was saved is as it was


@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_a_gradient_that_is_not_finite_reaches_no_weight(tmp_path, clip_norm):
    def spoil(step, losses):  # 0 · √0 is 0, and its gradient is not a number
        zero = (losses["box"] * 0).sqrt() * 0
        return losses if step != 4 else {**losses, "box": losses["box"] + zero}

    with pytest.raises(DetkitError, match="step 4") as error:
        run(tmp_path / "run", losses=spoil, clip_norm=clip_norm)
    assert "norm nan" in str(error.value)
    assert "8.png, 9.png" in str(error.value)
    state = checkpoint.read_tensors(tmp_path / "run" / "last" / "model.safetensors")
    assert all(t.isfinite().all() for t in state.values())


def test_fp16_scales_the_loss_and_recovers_from_overflow(tmp_path):
    state = run(tmp_path / "run", dtype=torch.float16, steps=20)
    assert state.scaler.get_scale() < 2.0**20  # the first scale was too large on purpose
    assert all(p.isfinite().all() for p in state.model.parameters())


def test_clipping_bounds_the_step(tmp_path):
    start = tiny(seed=0).state_dict()
    state = run(tmp_path / "run", steps=1, clip_norm=1e-6, ema=None)
    kept = {  # what weight decay, which clipping does not touch, leaves of each
        id(p): 1 - group["lr"] * group["weight_decay"]
        for group in state.optimizer.param_groups
        for p in group["params"]
    }
    moved = [(p - kept[id(p)] * start[n]).abs().max() for n, p in state.model.named_parameters()]
    assert 0 < max(moved) < 1e-6


def test_the_loop_learns(tmp_path):
    run(tmp_path / "run", steps=150, optimizer="sgd", dropout=0.0)
    rows = [row for row in lines(tmp_path / "run") if "loss" in row]
    assert rows[-1]["loss"] < 0.85 * rows[0]["loss"]
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["loss/class"] + rows[-1]["loss/box"])


def test_a_run_without_a_better_figure_ends_and_goes_on_exactly(tmp_path):
    def falling(step: int) -> float:
        return -float(step)

    whole = run(tmp_path / "whole", steps=20, figure=falling)
    for _ in range(2):  # a run that has ended so ends so again
        state = run(tmp_path / "run", steps=20, figure=falling, patience=2)
        assert (state.step, state.best, state.since_best) == (15, -5.0, 2)
        assert [row["val"] for row in lines(tmp_path / "run") if "val" in row] == [-5, -10, -15]
    state = run(tmp_path / "run", steps=20, figure=falling)
    assert (state.step, state.since_best) == (20, 3)
    for one, other in zip(whole.model.parameters(), state.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert run(tmp_path / "better", steps=20, figure=float, patience=1).step == 20


@pytest.mark.parametrize(("apart", "ending"), [(5.0, KeyboardInterrupt), (0.1, Interrupted)])
def test_a_later_signal_ends_at_once_but_not_a_double_one(tmp_path, monkeypatch, apart, ending):
    def twice(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            now = time.monotonic()
            monkeypatch.setattr("detkit.training.signals.time.monotonic", lambda: now + apart)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(ending):
        run(tmp_path / "run", at_step=twice)


def test_a_closed_terminal_saves_the_run_unless_nohup_keeps_it(tmp_path):
    def hang_up(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    try:
        with pytest.raises(Interrupted):
            run(tmp_path / "run", at_step=hang_up)
        saved = json.loads((tmp_path / "run" / "last" / "resume.json").read_text())
        assert saved["step"] == 4
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert run(tmp_path / "kept", at_step=hang_up).step == 12
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_pipe_ends_no_run(tmp_path, monkeypatch):
    def gone(*_, **__):
        raise BrokenPipeError

    journal = Journal(tmp_path)
    monkeypatch.setattr("builtins.print", gone)
    journal.say("still here")
    assert (tmp_path / "log.txt").read_text() == "still here\n"


@pytest.mark.parametrize(
    ("images", "update", "epochs", "steps", "ends"),
    [
        (10, 5, 2, 4, [2, 4]),
        (9, 8, 12, 14, [2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14]),  # ⌈9 · n / 8⌉
        (9, 4, 3, 7, [3, 5, 7]),
        (3, 8, 5, 2, [1, 2]),  # an update is more than a pass
    ],
)
def test_epochs_are_passes_over_the_images_whatever_an_update_holds(
    images, update, epochs, steps, ends
):
    options = SimpleNamespace(
        epochs=epochs,
        max_steps=None,
        accumulate=1,
        clip_norm=None,
        log_every=1,
        evaluate_every=1,
        checkpoint_every=None,
    )
    plan = Plan.of(options, images, update, torch.float32)
    assert plan.steps == steps
    assert [step for step in range(1, steps + 1) if plan.completes(step)] == ends
    assert plan.epochs(plan.steps) >= epochs > plan.epochs(plan.steps - 1)
    every = [step for step in range(1, 200) if plan.completes(step, 3)]
    assert every == sorted({-(-3 * n * images // update) for n in range(1, 600)} & set(range(200)))
