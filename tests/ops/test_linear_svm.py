"""The SVM's objective against scikit-learn's, if it is installed, and a general solver's."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from detkit.backbones.build import build
from detkit.data.formats.shapes import read
from detkit.ops.linear_svm import fit_svm

BIAS = 10.0


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Of 2,000 patches of drawn pictures, through random convolutions; their mean norm is 20."""
    records = read(None, "train", needs=frozenset({"boxes"}), images=True, train_images=80, size=64)
    pictures = torch.stack([torch.from_numpy(records.image(i).copy()) for i in range(80)])
    torch.manual_seed(0)
    backbone, _ = build("resnet18", width=0.25, levels=["4"])
    with torch.no_grad():
        cells = backbone.eval()(pictures.permute(0, 3, 1, 2).float() / 255 - 0.5)["4"]
        cells = torch.nn.functional.interpolate(cells, size=5, mode="bilinear")
    rows = cells.permute(0, 2, 3, 1).reshape(2000, -1).numpy()
    return rows * 20 / np.linalg.norm(rows, axis=1).mean()


@pytest.fixture(scope="module")
def positive(features) -> np.ndarray:
    generator = np.random.default_rng(0)
    told = features @ generator.normal(size=features.shape[1]) + generator.normal(size=2000) * 4
    return told > np.quantile(told, 0.9)


def objective(rows, positive, penalty, weight, bias) -> float:
    margins = np.where(positive, 1, -1) * (rows.astype(np.float64) @ weight + bias)
    regular = (weight.astype(np.float64) @ weight + (bias / BIAS) ** 2) / 2
    return float(regular + penalty @ np.maximum(0, 1 - margins))


@pytest.mark.parametrize("c", [0.001, 0.01])
def test_it_reaches_the_objective_of_scikit_learn(features, positive, c):
    svm = pytest.importorskip("sklearn.svm")
    penalty = np.where(positive, 2 * c, c).astype(np.float32)
    weight, bias, _ = fit_svm(features, positive, penalty, bias_scale=BIAS)
    other = svm.LinearSVC(
        loss="hinge", C=c, class_weight={True: 2, False: 1}, intercept_scaling=BIAS, tol=1e-5,
        max_iter=100_000, random_state=0,
    ).fit(features, positive)  # fmt: skip
    wanted = objective(features, positive, penalty, other.coef_[0], other.intercept_[0])
    assert objective(features, positive, penalty, weight, bias) <= wanted * 1.001


def test_it_reaches_the_minimum_of_a_general_solver(features, positive):
    """The dual as a box-constrained quadratic programme, on fewer rows."""
    rows, is_positive = features[:200, :20].astype(np.float64), positive[:200]
    penalty = np.where(is_positive, 0.02, 0.01).astype(np.float32)
    signed = np.where(is_positive, 1, -1)[:, None] * np.c_[rows, np.full(200, BIAS)]
    square = signed @ signed.T
    found = minimize(
        lambda a: (a @ square @ a / 2 - a.sum(), square @ a - 1),
        np.zeros(200), jac=True, bounds=[(0, p) for p in penalty], method="L-BFGS-B",
        options={"maxiter": 10_000, "ftol": 1e-14, "gtol": 1e-10},
    )  # fmt: skip
    weight, bias, _ = fit_svm(rows.astype(np.float32), is_positive, penalty, bias_scale=BIAS)
    value = objective(rows, is_positive, penalty, weight, bias)
    assert -found.fun <= value * (1 + 1e-6)
    assert value <= -found.fun * 1.001


def test_it_goes_on_from_the_duals_of_most_rows(features, positive):
    penalty = np.where(positive, 0.002, 0.001).astype(np.float32)
    _, _, duals = fit_svm(features[:1500], positive[:1500], penalty[:1500])
    cold = fit_svm(features, positive, penalty)
    warm = fit_svm(features, positive, penalty, start=np.pad(duals, (0, 500)))
    values = [objective(features, positive, penalty, *each[:2]) for each in (cold, warm)]
    assert values[1] == pytest.approx(values[0], rel=2e-4)


def test_the_same_rows_give_the_same_svm(features, positive):
    penalty = np.full(2000, 0.001, np.float32)
    one, other = (fit_svm(features, positive, penalty) for _ in range(2))
    assert np.array_equal(one[0], other[0])
    assert one[1] == other[1]
