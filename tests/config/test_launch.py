"""Hydra's own ways to run, and that they leave nothing of Hydra's behind."""

import csv
import sys
from pathlib import Path

import pytest
import yaml

from detkit.config import compose, launch
from detkit.errors import DetkitError

SHAPES = ["dataset=shapes", "backbone=resnet18"]


@pytest.fixture
def told(tmp_path, monkeypatch):
    """The settings that each job of a launch was given, started in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["detkit"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # restored afterwards, whatever launch sets
    jobs = []

    def start(verb, *argv):
        launch(verb, argv, jobs.append)
        return jobs

    return start


def test_a_plain_call_runs_once_and_leaves_no_folder(told, tmp_path):
    (job,) = told("train", *SHAPES, "training.epochs=2")
    assert (job.training.epochs, job.run_dir) == (2, None)
    assert list(tmp_path.iterdir()) == []


def test_multirun_runs_every_combination_each_in_a_folder_of_one_sweep(told, tmp_path):
    jobs = told("train", *SHAPES, "-m", "backbone=resnet18,vgg11_fpn", "optimizer.lr=0.1,0.2")
    found = [(job.backbone["name"], job.optimizer["lr"]) for job in jobs]
    assert found == [(b, lr) for b in ("resnet18", "vgg11_fpn") for lr in (0.1, 0.2)]
    (sweep,) = (tmp_path / "runs").iterdir()
    assert [Path(job.run_dir) for job in jobs] == [sweep / str(i) for i in range(4)]
    assert {file.name for file in sweep.iterdir()} == {"0", "1", "2", "3", "multirun.yaml"}
    assert not any(file for i in range(4) for file in (sweep / str(i)).iterdir())
    assert [file.name for file in tmp_path.iterdir()] == ["runs"]


def test_multirun_takes_paths_as_they_are_and_the_chosen_folder(told, tmp_path):
    jobs = told("predict", "--multirun", "checkpoint=a,b", "source=${x}.jpg", "output=o p",
                "score_thresh=0.1,0.2")  # fmt: skip
    assert [(job.checkpoint, job.source) for job in jobs] == [("a,b", "${x}.jpg")] * 2
    assert [Path(job.output) for job in jobs] == [tmp_path / "o p" / "0", tmp_path / "o p" / "1"]


def test_multirun_answers_an_unknown_choice_with_the_nearest(told):
    with pytest.raises(DetkitError, match="Did you mean resnet50"):
        told("train", *SHAPES, "-m", "backbone=resnet18,resnet5O")


def test_a_jobs_mistake_comes_out_as_it_is(told):
    with pytest.raises(DetkitError, match=r"optimizer\.lr cannot be"):
        told("train", *SHAPES, "-m", "optimizer.lr=high,low")


def test_cfg_job_prints_every_setting_and_runs_nothing(told, tmp_path, capsys):
    assert told("train", "--cfg", "job", *SHAPES, "dataset.size=96", "run_dir=it's") == []
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["dataset"]["size"], printed["run_dir"]) == (96, "it's")
    assert printed["training"]["batch_size"] == 2
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_was_stopped_ends_so():
    given = ["checkpoint=x", "source=y"]
    launch("predict", given, lambda settings: {"stopped": False})
    with pytest.raises(SystemExit, match="130"):
        launch("predict", given, lambda settings: {"stopped": True})


def test_a_sweeper_is_told_the_figure_that_chooses_checkpoints(told, tmp_path, monkeypatch, capsys):
    (tmp_path / "watcher_of_test.py").write_text(
        "from hydra.experimental.callback import Callback\n"
        "seen = []\n"
        "class Watch(Callback):\n"
        "    def on_job_end(self, config, job_return, **kwargs):\n"
        "        seen.append(job_return.return_value)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    watch = "+hydra.callbacks.watch._target_=watcher_of_test.Watch"
    figures = {"voc/mAP": 0.5, "coco/AP": 0.25, "run_dir": "x"}
    said = [*SHAPES, watch, "-m", "training.best_by=null,coco/AP"]
    launch("train", said, lambda settings: figures)
    assert sys.modules["watcher_of_test"].seen == [0.5, 0.25]
    heading, first, second, last = capsys.readouterr().out.splitlines()[-4:]
    assert heading.split() == ["job", "figure", "settings"]
    assert first.split()[:3] == ["0", "voc/mAP", "0.500"]
    assert second.split()[3:] == ["training.best_by=coco/AP"]  # what all jobs share is left out
    (sweep,) = (tmp_path / "runs").iterdir()
    assert last.startswith(f"See {sweep.relative_to(tmp_path) / 'sweep.csv'}")
    with (sweep / "sweep.csv").open(newline="") as file:
        rows = [
            [row["figure"], row["value"], row["training.best_by"]] for row in csv.DictReader(file)
        ]
    assert rows == [["voc/mAP", "0.5", "null"], ["coco/AP", "0.25", "coco/AP"]]
    assert (sweep / "sweep.png").is_file()


def test_a_sweeps_jobs_keep_no_last_unless_told(told, capsys):
    several = [*SHAPES, "-m", "seed=0,1"]
    assert [job.training.keep_last for job in told("train", *several)] == [False] * 2
    assert capsys.readouterr().out.count("training.keep_last=true keeps last/") == 1
    kept = told("train", *several, "training.keep_last=true")[2:]
    assert [job.training.keep_last for job in kept] == [True] * 2
    assert told("train", *SHAPES)[-1].training.keep_last


def test_threads_are_those_that_are_asked_for(told, monkeypatch):
    asked = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    monkeypatch.setattr("cv2.setNumThreads", asked.append)
    told("predict", "checkpoint=x", "source=y")
    assert asked == []
    told("predict", "checkpoint=x", "source=y", "threads=3")
    assert asked == [3, 3]


def test_what_nobody_chose_fits_the_run():
    def chosen(*argv):
        settings = compose("train", argv)
        return settings.optimizer["name"], settings.schedule["name"]

    assert chosen("dataset.root=x") == ("auto", "auto")
    assert chosen("dataset.root=x", "optimizer.lr=0.1") == ("sgd", "multistep")
    assert chosen("dataset.root=x", "schedule=cosine") == ("sgd", "cosine")
    assert chosen("dataset.root=x", "experiment=blood_cells_vgg16")[0] != "auto"
    assert "auto" not in chosen("model=yolo_v3")  # its experiment on shapes


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (["--epochs", "3"], r"Did you mean training\.epochs\?"),
        (["--learning-rate=3"], r"Here it is optimizer\.lr\."),
        (["--seed", "3"], r"No flag --seed\.\n.*seed=VALUE"),
    ],
)
def test_a_flag_of_another_toolkit_is_answered_with_the_setting(told, flag, words):
    with pytest.raises(DetkitError, match=words):
        told("train", *SHAPES, *flag)


def test_a_users_folder_of_experiments_may_hold_the_sweep(told, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "seeds.yaml").write_text(
        "# @package _global_\nhydra: {sweeper: {params: {seed: '1,2,3'}}}\n"
    )
    jobs = told("train", "--config-dir", "mine", "-m", *SHAPES, "experiment=seeds")
    assert [job.seed for job in jobs] == [1, 2, 3]
    (tmp_path / "mine" / "experiment" / "long one.yaml").write_text(
        "# @package _global_\ntraining: {epochs: 77}\n"
    )
    told("train", "--config-dir=mine", *SHAPES, "experiment='long one'")
    assert jobs[-1].training.epochs == 77
    for more in ([], ["-m"]):
        with pytest.raises(DetkitError, match=r"Did you mean optimizer\.lr\?"):
            told("train", "-cd", "mine", *SHAPES, "experiment=seeds", "optimizer.lrr=3", *more)
    with pytest.raises(DetkitError, match="no such folder"):
        told("train", "--config-dir", "your", *SHAPES)
