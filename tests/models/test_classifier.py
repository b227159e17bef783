"""The classifier: torchvision's own networks, published files, its loss, and its place below."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from detkit import checkpoint
from detkit.backbones.build import build as build_backbone
from detkit.errors import DetkitError
from detkit.models.build import build
from detkit.models.classifier import Classifier
from detkit.structures import Classes, Targets

NETWORKS = torchvision.models
PEERS = {
    "resnet18": NETWORKS.resnet18,
    "vgg11": NETWORKS.vgg11,
    "alexnet": NETWORKS.alexnet,
    "mobilenet_v2": NETWORKS.mobilenet_v2,
    "squeezenet1_0": NETWORKS.squeezenet1_0,
    "googlenet": lambda **more: NETWORKS.googlenet(aux_logits=False, init_weights=False, **more),
}


def classifier(backbone: str, classes: int, model: dict | None = None, **settings) -> Classifier:
    torch.manual_seed(0)
    parts = {"name": "classifier", **(model or {})}, {"name": backbone, **settings}
    return build(*parts, Classes.numbered(classes))  # type: ignore[return-value]


def targets_of(labels: list[int]) -> list[Targets]:
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    return [Targets(*none, image_label=torch.tensor(label)) for label in labels]


@pytest.mark.parametrize("name", PEERS)
def test_every_network_answers_as_torchvisions_from_the_same_file(name, tmp_path):
    torch.manual_seed(0)
    peer = PEERS[name](num_classes=7).eval()
    torch.save(peer.state_dict(), tmp_path / "w.pt")
    ours = classifier(name, 7, weights=str(tmp_path / "w.pt")).eval()
    report = ours.backbone.weights_report
    assert report.missing == report.not_used == report.unexpected == ()
    images = torch.rand(2, 3, 224, 224)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    with torch.no_grad():
        expected = peer((images - mean[:, None, None]) / std[:, None, None]).softmax(1)
        found = torch.stack([p.scores for p in ours(images)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


COUNTS = {
    "alexnet_2012": 60_965_224,
    "googlenet_2014": 6_998_552,  # BVLC's file
    "darknet19": 20_842_376,
    "darknet53": 41_609_928,
    **{
        name: NETWORKS.get_model_weights(name).DEFAULT.meta["num_params"]
        for name in (
            *("alexnet", "googlenet", "mobilenet_v2", "squeezenet1_0"),
            *(f"vgg{depth}{bn}" for depth in (11, 13, 16, 19) for bn in ("", "_bn")),
            *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
        )
    },
}


def parameters(name: str, classes: int, model: dict | None = None, **settings) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in classifier(name, classes, model, **settings).parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_many_as_published(name):
    assert parameters(name, 1000, {"auxiliary": 0.0}) == COUNTS[name]


def test_parameters_of_digits_and_of_auxiliary_heads():
    assert parameters("lenet5_modern", 10, in_channels=1) == 1_199_882
    heads = NETWORKS.googlenet(init_weights=False)  # torchvision's has two of them
    assert parameters("googlenet", 1000) == sum(p.numel() for p in heads.parameters())
    assert parameters("googlenet_2014", 1000) == 13_378_280  # BVLC's description


@pytest.mark.parametrize("name", ["googlenet", "googlenet_2014"])
def test_auxiliary_heads_learn_with_three_tenths_and_answer_nothing(name):
    net = classifier(name, 3, width=0.125).eval()
    images, labels = torch.rand(2, 3, 96, 96), [2, -1]
    losses = net(images, targets_of(labels))
    assert list(losses) == ["class", "auxiliary_4a", "auxiliary_4d"]
    with torch.no_grad():
        pixels = (images - net.mean_std[0]) / net.mean_std[1]
        maps = net.backbone(pixels, taps=net.taps)
        for tap, head in net.auxiliary.items():
            logits = head(maps[tap])
            expected = 0.3 * F.cross_entropy(logits[:1], torch.tensor([2])) / 2  # of two images
            torch.testing.assert_close(losses[f"auxiliary_{tap[-2:]}"].detach(), expected)
        before = net(images)[0].scores
        for parameter in net.auxiliary.parameters():
            parameter.fill_(9.0)
        assert torch.equal(net(images)[0].scores, before)
    assert list(
        classifier(name, 3, {"auxiliary": 0.0}, width=0.125)(images, targets_of(labels))
    ) == ["class"]


def test_the_papers_cells_of_an_auxiliary_head_are_means_of_five_by_five():
    head = build_backbone("googlenet_2014", width=0.125)[0].make_auxiliary("inception_4a", 3).eval()
    x = torch.rand(1, head.conv[0].in_channels, 14, 14)
    seen: list[Tensor] = []
    head.conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head(x)
    for row in range(4):
        for column in range(4):
            cell = x[0, :, row * 3 : row * 3 + 5, column * 3 : column * 3 + 5].mean((1, 2))
            torch.testing.assert_close(seen[0][0, :, row, column], cell)


def test_a_checkpoint_from_before_the_auxiliary_heads_is_read(tmp_path):
    from detkit import restore

    net = classifier("googlenet", 3, width=0.125)
    older = {k: v for k, v in net.state_dict().items() if not k.startswith("auxiliary.")}
    names = {"names": list("abc"), "category_ids": [0, 1, 2]}
    parts = {"model": {"name": "classifier"}, "backbone": {"name": "googlenet", "width": 0.125}}
    checkpoint.save(tmp_path / "best", older, {"config": parts, **names})
    found, _ = restore.load_model(tmp_path / "best", "cpu")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found(image)[0].scores, net.eval()(image)[0].scores)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_of_the_images_and_0_of_an_unknown_one(smoothing):
    weights = [0.5, 1.0, 2.0]
    model = {"label_smoothing": smoothing, "class_weights": weights}
    net = classifier("resnet18", 3, model, width=0.125).eval()
    images, labels = torch.rand(5, 3, 64, 64), [2, -1, 0, 1, -1]
    loss = net(images, targets_of(labels))["class"]
    scores = torch.stack([p.scores for p in net(images)]).log().double()
    total = 0.0
    for row, label in zip(scores.tolist(), labels, strict=True):
        if label < 0:
            continue
        smooth = sum(-w * s for w, s in zip(weights, row, strict=True)) / 3
        total += (1 - smoothing) * -weights[label] * row[label] + smoothing * smooth
    assert loss.item() == pytest.approx(total / 5, rel=1e-4)
    assert net(images, targets_of([-1] * 5))["class"].item() == 0


def test_an_image_without_a_class_is_refused():
    net = classifier("resnet18", 3, width=0.125)
    nothing = [Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))]
    with pytest.raises(DetkitError, match="no class of its own"):
        net(torch.rand(1, 3, 64, 64), nothing)


@pytest.mark.parametrize("name", ["mobilenet_v2", "googlenet", "squeezenet1_0"])
def test_dropout_is_in_front_of_the_last_layer_in_training_alone(name):
    net = classifier(name, 3, width=0.125)
    images = torch.rand(4, 3, 64, 64)
    maps = net.eval().backbone(images)[net.level]
    with torch.no_grad():
        still = net.tail.classify(maps)
        assert torch.equal(still, net.tail.classify(maps))
        net.train()
        assert not torch.equal(net.tail.classify(maps), net.tail.classify(maps))


def test_a_last_layer_of_other_classes_is_made_anew(tmp_path):
    torch.manual_seed(0)
    torch.save(NETWORKS.resnet18().state_dict(), tmp_path / "w.pt")
    net = classifier("resnet18", 10, weights=str(tmp_path / "w.pt"))
    report = net.backbone.weights_report
    assert report.missing == ("tail.logits.weight", "tail.logits.bias")
    assert set(report.not_used) == {"fc.weight", "fc.bias"}
    assert report.unexpected == ()


def test_a_pyramids_coarsest_map_is_averaged():
    net = classifier("resnet18_fpn", 3, width=0.125, fpn_channels=8).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = net.backbone((images - net.mean_std[0]) / net.mean_std[1])
        assert list(maps) == ["5"]
        features = maps["5"].mean((2, 3))
        expected = F.linear(features, net.tail.logits.weight, net.tail.logits.bias).softmax(1)
        found = torch.stack([p.scores for p in net(images)])
    torch.testing.assert_close(found, expected)


def test_weights_of_colour_pictures_want_three_channels(tmp_path):
    file = tmp_path / "w.safetensors"
    save_file(build_backbone("resnet18", width=0.125)[0].state_dict(), file)
    with pytest.raises(DetkitError, match=r"set backbone\.in_channels=3"):
        classifier("resnet18", 3, width=0.125, in_channels=1, weights=str(file))


def saved(model, folder: Path, names: list[str], **backbone) -> Path:
    config = {"model": {"name": "x"}, "backbone": backbone}
    meta = {"config": config, "names": names, "category_ids": list(range(len(names)))}
    checkpoint.save(folder / "best", model.state_dict(), meta)
    return folder


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "mobilenet_v2"])
def test_a_run_of_a_classifier_is_any_detectors_backbone(name, tmp_path):
    net = classifier(name, 3, width=0.125)
    net.mean_std.fill_(0.25)
    run = saved(net, tmp_path / "run", list("abc"), name=name)
    own = {key.removeprefix("backbone."): value for key, value in net.state_dict().items()}
    small = {"name": "faster_rcnn", "head_channels": 8}
    for fpn in ("", "_fpn"):
        settings = {"name": name + fpn, "width": 0.125, "weights": str(run), "norm": "train"}
        detector = build(small, settings, Classes.numbered(2))
        trunk = detector.backbone.body if fpn else detector.backbone
        for key, value in trunk.state_dict().items():
            assert torch.equal(value, own[key]), key
        assert detector.mean_std.unique().tolist() == [0.25]
        report = detector.backbone.weights_report
        assert report.missing == report.unexpected == ()
        if not fpn and name != "vgg11":  # layer4 stands in the detector's head, and fc6 beside it
            tail = {k: v for k, v in detector.state_dict().items() if ".tail." in k}
            for key, value in tail.items():
                assert torch.equal(value, own[key.partition(".tail.")[2]]), key


def test_a_run_of_a_detector_is_a_classifiers_backbone(tmp_path):
    small = {"name": "faster_rcnn", "head_channels": 8}
    for name in ("resnet18", "resnet18_fpn"):
        detector = build(small, {"name": name, "width": 0.125}, Classes.numbered(2))
        run = saved(detector, tmp_path / name, ["a", "b"], name=name)
        net = classifier("resnet18", 3, width=0.125, weights=str(run), norm="train")
        report = net.backbone.weights_report
        assert report.missing == ("tail.logits.weight", "tail.logits.bias")
        assert report.unexpected == ()
        layer4 = {k: v for k, v in detector.state_dict().items() if ".layer4." in k}
        assert layer4
        for key, value in layer4.items():
            mine = net.state_dict()["backbone.layer4." + key.partition(".layer4.")[2]]
            assert torch.equal(value, mine), key


def test_a_run_whose_backbone_was_built_otherwise_is_refused(tmp_path):
    net = classifier("mobilenet_v2", 3, width=0.125, tensorflow_padding=True)
    settings = {"name": "mobilenet_v2", "tensorflow_padding": True}
    run = saved(net, tmp_path / "run", list("abc"), **settings)
    with pytest.raises(DetkitError, match=r"set backbone\.tensorflow_padding=true"):
        classifier("mobilenet_v2", 3, width=0.125, weights=str(run))
    classifier("mobilenet_v2", 3, width=0.125, weights=str(run), tensorflow_padding=True)


FILES = {
    "googlenet_2014": ("googlenet_bvlc_caffe", {}),
    "squeezenet1_0": ("squeezenet1_0_caffe", {}),
    "mobilenet_v2": ("mobilenet_v2_coral_tf2_ptq", {"tensorflow_padding": True}),
}


@pytest.mark.parametrize("name", FILES)
def test_published_files_classify_at_once(shared, name):
    """Photos of VOC with one aeroplane: ImageNet's airliner, warplane or wing."""
    from detkit.data import images
    from detkit.data.loading import collate
    from detkit.data.transforms import build as build_transform

    file, settings = FILES[name]
    path = str(shared / "weights" / f"{file}.safetensors")
    net = classifier(name, 1000, weights=path, **settings).eval()
    assert net.backbone.weights_report.missing == ()
    transform = build_transform({"name": "classification"}, train=False)
    photos = [images.read(photo) for photo in aeroplanes(shared, 10)]
    samples = [transform(p).loaded(0, 0, "", p.shape[:2]) for p in photos]
    with torch.no_grad():
        found = [p.label for p in net(collate(samples, transform.multiple).images)]
    assert sum(label in (404, 895, 908) for label in found) >= 6  # by chance it is none


def aeroplanes(shared: Path, count: int) -> list[Path]:
    """VOC photos with no object but one aeroplane, the first ones by name."""
    texts = {f.stem: f.read_text() for f in sorted((shared / "voc2007/Annotations").glob("*.xml"))}
    alone = "<name>aeroplane</name>"
    chosen = [n for n, text in texts.items() if text.count("<object>") == text.count(alone) == 1]
    return [shared / "voc2007/JPEGImages" / f"{name}.jpg" for name in chosen[:count]]


def last_vector(net: Classifier, images: Tensor) -> Tensor:
    return net.tail(net.backbone(images)[net.level])


@pytest.mark.parametrize(("name", "side"), [("lenet5", 28), ("lenet5_modern", 28), ("vgg11", 64)])
def test_other_sizes_of_pictures_are_averaged_to_the_tails_cells(name, side):
    small = {} if "lenet" in name else {"width": 0.125}
    net = classifier(name, 10, in_channels=1, **small).eval()
    with torch.no_grad():
        for size in (side, 2 * side, side + 4):
            vector = last_vector(net, torch.rand(2, 1, size, size))
            assert vector.shape == (2, net.tail.channels)
            assert vector.isfinite().all()
