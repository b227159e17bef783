import pytest
import torch

from detkit.data.loading import Dataset, collate
from detkit.data.open import open_dataset
from detkit.data.transforms import build as build_transform
from detkit.distributed import World
from detkit.models.build import build
from detkit.structures import Classes, Targets
from detkit.training.validation import in_labels_of_the_model, validation_losses


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_validation_losses_are_the_mean_over_the_images(batch_size):
    shapes = {"name": "shapes", "train_images": 1, "val_images": 5, "size": 64}
    records = open_dataset(shapes, "val", needs=frozenset({"pixels"}))
    transform = build_transform({"name": "segmentation"}, train=False)
    dataset = Dataset(records, transform, needs=frozenset({"pixels"}))
    same = torch.arange(len(records.names))
    torch.manual_seed(0)
    backbone = {"name": "resnet18", "width": 0.125}
    model = build(
        {"name": "unet", "decoder_width": 2}, backbone, Classes.numbered(len(records.names))
    ).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}

    found = validation_losses(
        model, dataset, same, dtype=torch.float32, batch_size=batch_size, workers=0, world=World()
    )

    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())  # norms too
    model.eval()
    losses = []
    for i in range(5):
        batch = collate([dataset[0, i]])
        losses.append(sum(model(batch.images, batch.targets, batch.sizes).values()).item())
    assert found["val_loss"] == pytest.approx(sum(losses) / 5, rel=1e-5)
    assert found["val_loss"] == pytest.approx(
        sum(v for k, v in found.items() if k.startswith("val_loss/"))
    )


def test_targets_get_the_labels_of_the_model():
    """The data's classes are dog, cat, cow; the model's cat, dog."""
    label_of = torch.tensor([1, 0, -1])
    boxes = torch.arange(12.0).reshape(3, 4)
    found = in_labels_of_the_model(Targets(boxes, torch.tensor([2, 0, 1])), label_of)
    assert found.labels.tolist() == [1, 0]
    assert torch.equal(found.boxes, boxes[1:])
    pixels = torch.tensor([[0, 1, 255]], dtype=torch.uint8)
    empty = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), pixels=pixels)
    assert in_labels_of_the_model(empty, label_of[:2]).pixels.tolist() == [[1, 0, 255]]
