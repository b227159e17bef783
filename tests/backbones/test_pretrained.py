"""Weights from files: what fits is taken and counted, the rest is named, bad files are refused."""

from __future__ import annotations

import hashlib
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from detkit.backbones import pretrained
from detkit.backbones.build import build as build_both
from detkit.errors import DetkitError


def build(name: str, **settings):
    """The backbone alone."""
    return build_both(name, **settings)[0]


def photo(path: Path, side: int = 224) -> Tensor:
    """The middle of a picture, normalised as the weights expect it."""
    image = Image.open(path).convert("RGB")
    scale = (side + 32) / min(image.size)
    image = image.resize([round(n * scale) for n in image.size], Image.Resampling.BILINEAR)
    left, top = ((n - side) // 2 for n in image.size)
    pixels = torch.tensor(np.array(image.crop((left, top, left + side, top + side))))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    return ((pixels / 255 - mean) / std).permute(2, 0, 1)[None]


def aeroplanes(shared: Path, count: int) -> list[Path]:
    """VOC photos with no object but one aeroplane, the first ones by name."""
    found = []
    for file in sorted((shared / "voc2007/Annotations").glob("*.xml")):
        text = file.read_text()
        if text.count("<object>") == text.count("<name>aeroplane</name>") == 1:
            found.append(shared / "voc2007/JPEGImages" / f"{file.stem}.jpg")
    return found[:count]


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    net = build("resnet18", width=0.25)
    return {**net.state_dict(), "fc.weight": torch.randn(10, 128), "fc.bias": torch.randn(10)}


REAL = {  # file → network, its settings, tensors loaded, missing, not used, norms frozen
    "googlenet_bvlc_caffe": ("googlenet_2014", {}, 114, 0, 2, 0),
    "resnet50_c4_caffe_msra": ("resnet50", {"stride_in_1x1": True}, 215, 50, 0, 43),
    "resnet18_c4_torchvision_folded": ("resnet18", {}, 75, 25, 0, 15),
    "squeezenet1_0_caffe": ("squeezenet1_0", {}, 50, 0, 2, 0),
    "mobilenet_v2_coral_tf2_ptq": ("mobilenet_v2", {"tensorflow_padding": True}, 260, 0, 2, 52),
}


@pytest.mark.parametrize("file", sorted(REAL))
def test_the_real_weights_load_with_the_counts_of_their_readme(shared, file):
    name, settings, loaded, missing, not_used, frozen = REAL[file]
    path = shared / "weights" / f"{file}.safetensors"
    backbone = build(name, weights=str(path), **settings)
    report = backbone.weights_report
    assert (report.loaded, len(report.missing), len(report.not_used)) == (loaded, missing, not_used)
    assert (report.norms_frozen, report.unexpected, report.file) == (frozen, (), str(path))
    assert report.metadata["source_repo"].startswith("github.com/")
    own, tensors = backbone.state_dict(), load_file(path)
    assert all(torch.equal(own[k], v.float()) for k, v in tensors.items() if k in own)
    assert all(key.startswith("layer4") for key in report.missing)
    for key, module in backbone.named_modules():
        if hasattr(module, "running_mean"):
            filled = f"{key}.weight" in tensors
            assert isinstance(module, FrozenBatchNorm2d if filled else nn.BatchNorm2d)


@pytest.mark.parametrize("name", ["resnet50", "resnet50_fpn"])
def test_levels_up_to_4_of_resnet50_are_whole(shared, name):
    path = shared / "weights/resnet50_c4_caffe_msra.safetensors"
    backbone = build(name, levels=[3, 4], weights=str(path), stride_in_1x1=True)
    assert backbone.weights_report.missing == ()
    assert backbone.weights_report.loaded == 215
    assert backbone.weights_report.norms_frozen == 43


def test_a_stage_that_is_not_built_is_not_used(shared):
    path = shared / "weights/resnet18_c4_torchvision_folded.safetensors"
    report = build("resnet18", levels=[3], weights=str(path)).weights_report
    assert report.unexpected == ()
    assert len(report.not_used) == 25  # layer3: five convolutions, five norms of four tensors
    assert all(key.startswith("layer3.") for key in report.not_used)


def test_the_tail_is_filled_from_the_same_file(shared):
    path = shared / "weights/googlenet_bvlc_caffe.safetensors"
    backbone, tail = build_both("googlenet_2014", levels=[4], tail=True, weights=str(path))
    assert backbone.weights_report.loaded == 114
    tensors = load_file(path)
    filled = tail.state_dict()["inception_5b.pool_proj.weight"]
    assert torch.equal(filled, tensors["inception_5b.pool_proj.weight"].float())


def test_googlenets_maps_on_a_photo_equal_the_readmes_text(shared):
    path = shared / "weights/googlenet_bvlc_caffe.safetensors"
    w = {key: value.float() for key, value in load_file(path).items()}

    def conv(x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride, padding).relu()

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    def lrn(x: Tensor) -> Tensor:
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)

    def inception(x: Tensor, name: str) -> Tensor:
        p = f"inception_{name}."
        three = conv(conv(x, p + "3x3_reduce"), p + "3x3", padding=1)
        five = conv(conv(x, p + "5x5_reduce"), p + "5x5", padding=2)
        projected = conv(F.max_pool2d(x, 3, 1, padding=1), p + "pool_proj")
        return torch.cat([conv(x, p + "1x1"), three, five, projected], 1)

    image = photo(aeroplanes(shared, 1)[0])[..., :201, :]
    expected = {"1": conv(image, "conv1_7x7_s2", 2, 3)}
    x = lrn(pool(expected["1"]))
    x = expected["2"] = lrn(conv(conv(x, "conv2_3x3_reduce"), "conv2_3x3", padding=1))
    for level, blocks in (("3", "ab"), ("4", "abcde"), ("5", "ab")):
        x = pool(x)
        for block in blocks:
            x = inception(x, level + block)
        expected[level] = x
    with torch.no_grad():
        maps = build("googlenet_2014", weights=str(path))(image)
    for level, value in expected.items():
        scale = value.abs().max()
        torch.testing.assert_close(maps[level] / scale, value / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "file", "classifier"),
    [
        ("googlenet_2014", "googlenet_bvlc_caffe", "loss3_classifier"),
        ("squeezenet1_0", "squeezenet1_0_caffe", "classifier.1"),
        ("mobilenet_v2", "mobilenet_v2_coral_tf2_ptq", "classifier.1"),
    ],
)
def test_the_whole_networks_know_an_aeroplane(shared, name, file, classifier):
    path = shared / "weights" / f"{file}.safetensors"
    tensors = {key: value.float() for key, value in load_file(path).items()}
    tail = name != "squeezenet1_0"
    tensorflow = {"tensorflow_padding": True} if name == "mobilenet_v2" else {}
    net, behind = build_both(name, levels=[4], tail=tail, weights=str(path), **tensorflow)
    net.eval()
    images = torch.cat([photo(file) for file in aeroplanes(shared, 10)])
    weight, bias = tensors[f"{classifier}.weight"], tensors[f"{classifier}.bias"]
    with torch.no_grad():
        maps = net(images)["4"]
        if tail:
            assert maps.shape[2:] == (14, 14)
            logits = F.linear(behind.eval()(maps), weight.flatten(1), bias)
        else:
            logits = F.conv2d(maps, weight, bias).relu().mean((2, 3))
    flying = {404, 895, 908}  # ImageNet's airliner, warplane, wing
    right = sum(int(best) in flying for best in logits.argmax(1))
    assert right >= 5  # of ten; by chance it is none


def test_the_stride_has_to_be_where_the_file_says(shared):
    path = str(shared / "weights/resnet50_c4_caffe_msra.safetensors")
    with pytest.raises(DetkitError, match=r"set backbone\.stride_in_1x1=true"):
        build("resnet50", weights=path)


def test_a_file_for_the_other_stride_is_refused_too(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(build("resnet50", width=0.125).state_dict(), path, {"stride_placement": "3x3"})
    build("resnet50", width=0.125, weights=str(path))
    with pytest.raises(DetkitError, match=r"set backbone\.stride_in_1x1=false"):
        build("resnet50", width=0.125, weights=str(path), stride_in_1x1=True)


def test_weights_from_tensorflow_want_its_padding(shared):
    path = str(shared / "weights/mobilenet_v2_coral_tf2_ptq.safetensors")
    with pytest.raises(DetkitError, match=r"set backbone\.tensorflow_padding=true"):
        build("mobilenet_v2", weights=path)


def test_folded_norms_warn_when_they_are_to_be_trained(shared):
    path = str(shared / "weights/resnet18_c4_torchvision_folded.safetensors")
    with pytest.warns(UserWarning, match="backbone.norm=auto"):
        net = build("resnet18", weights=path, norm="train")
    assert net.weights_report.norms_frozen == 0
    assert isinstance(net.bn1, nn.BatchNorm2d)


@pytest.mark.parametrize("kind", ["pth", "safetensors", "wrapped"])
def test_every_kind_of_file_gives_the_same(tmp_path, state, kind):
    path = tmp_path / f"w.{'safetensors' if kind == 'safetensors' else 'pth'}"
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    if kind == "safetensors":
        save_file(half, path)
    else:
        torch.save({"state_dict": half} if kind == "wrapped" else half, path)
    net = build("resnet18", width=0.25, weights=str(path))
    assert all(torch.equal(v, half[k].float()) for k, v in net.state_dict().items())
    assert all(v.dtype == torch.float32 for v in net.state_dict().values())
    assert sorted(net.weights_report.not_used) == ["fc.bias", "fc.weight"]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_what_a_wrapper_puts_before_all_names_comes_off(tmp_path, state, prefix):
    torch.save({f"{prefix}{key}": value for key, value in state.items()}, tmp_path / "w.pth")
    net = build("resnet18", width=0.25, weights=str(tmp_path / "w.pth"))
    assert torch.equal(net.conv1.weight, state["conv1.weight"])
    assert net.weights_report.metadata["stripped"] == prefix


def test_what_is_missing_and_unexpected_is_named(tmp_path, state):
    del state["layer2.0.bn1.running_var"], state["layer4.1.conv2.weight"]
    state["neck.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pth")
    net = build("resnet18", width=0.25, weights=str(tmp_path / "w.pth"))
    report = net.weights_report
    assert set(report.missing) == {"layer2.0.bn1.running_var", "layer4.1.conv2.weight"}
    assert report.unexpected == ("neck.weight",)
    assert isinstance(net.layer2[0].bn1, nn.BatchNorm2d)  # it was filled in part only
    assert isinstance(net.layer2[0].bn2, FrozenBatchNorm2d)
    assert sorted(report.missing) == ["layer2.0.bn1.running_var", "layer4.1.conv2.weight"]
    assert report.unexpected == ("neck.weight",)


def test_what_a_file_lacks_keeps_its_random_start(tmp_path, state):
    torch.save({k: v for k, v in state.items() if not k.startswith("layer4")}, tmp_path / "w.pth")
    torch.manual_seed(7)
    net = build("resnet18", width=0.25, weights=str(tmp_path / "w.pth"))
    torch.manual_seed(7)
    plain = build("resnet18", width=0.25)
    assert torch.equal(net.layer4[0].conv1.weight, plain.layer4[0].conv1.weight)
    assert not torch.equal(net.layer1[0].conv1.weight, plain.layer1[0].conv1.weight)


def bad_files(folder: Path, state: dict[str, Tensor]) -> dict[str, Path]:
    files = {n: folder / n for n in ("text.pth", "text.safetensors", "empty.pth", "cut.pth")}
    files["text.pth"].write_text("hello\n" * 100)
    files["text.safetensors"].write_text("hello\n" * 100)
    files["empty.pth"].touch()
    files["empty.safetensors"] = folder / "empty.safetensors"
    files["empty.safetensors"].touch()
    torch.save(state, folder / "whole.pth")
    files["cut.pth"].write_bytes((folder / "whole.pth").read_bytes()[:5000])
    save_file(state, folder / "whole.safetensors")
    files["cut.safetensors"] = folder / "cut.safetensors"
    files["cut.safetensors"].write_bytes((folder / "whole.safetensors").read_bytes()[:-500])
    for name, content in {
        "list.pth": [1, 2],
        "numbers.pth": {"epoch": 3},
        "nothing.pth": {},
        "tensor.pth": torch.zeros(3),
        "code.pth": {"conv1.weight": Path("x")},  # an object that unpickling would have to make
        "darknet.weights": None,
    }.items():
        files[name] = folder / name
        torch.save(content, files[name])
    files["darknet.weights"].write_bytes(np.arange(100, dtype=np.int32).tobytes())
    return files


def test_what_is_no_weights_file_is_refused(tmp_path, state):
    for file in bad_files(tmp_path, state).values():
        with pytest.raises(DetkitError, match="no weights file") as error:
            build("resnet18", width=0.25, weights=str(file))
        assert str(file) in str(error.value)
        assert error.value.remedy


@pytest.mark.parametrize(
    ("path", "words"),
    [("absent.pth", "No weights file there"), (".", "No checkpoint in this folder")],
)
def test_a_file_that_is_not_there_is_told(tmp_path, path, words):
    with pytest.raises(DetkitError, match=words):
        build("resnet18", width=0.25, weights=str(tmp_path / path))


def test_another_networks_file_is_refused(tmp_path, state):
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(DetkitError, match=r"Nothing in it fits.*bn1\.bias"):
        build("vgg11", width=0.25, weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize(("name", "width"), [("resnet50", 0.25), ("resnet18", 0.5)])
def test_another_shape_is_refused_with_its_name(tmp_path, state, name, width):
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(DetkitError, match=r"Its shape is \(.*w.pth|w\.pth, \w+.*Its shape is") as e:
        build(name, width=width, weights=str(tmp_path / "w.pth"))
    assert e.value.record in state


@pytest.fixture
def offline(tmp_path, monkeypatch) -> Path:
    """An empty current folder and torch cache; a download is a failure."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def refuse(url, *_, **__):
        raise urllib.error.URLError(f"no network for {url}")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path


@pytest.mark.parametrize("folder", ["weights", "hub/checkpoints"])
def test_imagenet_is_the_published_file_of_a_known_folder(offline, folder):
    place = offline / folder
    place.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(build("resnet18").state_dict(), place / "resnet18-f37072fd.pth")
    net = build("resnet18_fpn", weights="imagenet", fpn_channels=8)
    assert net.weights_report.file == str(place / "resnet18-f37072fd.pth")
    assert net.weights_report.norms_frozen == 20


def test_an_absent_imagenet_file_is_told_by_name_folder_and_remedy(offline):
    with pytest.raises(DetkitError) as error:
        build("resnet50", weights="imagenet")
    text = str(error.value)
    assert "resnet50-0676ba61.pth" in text
    assert str(offline / "weights") in text
    assert str(offline / "hub" / "checkpoints") in text
    assert "allow_download=true" in text


def test_only_a_permitted_download_is_tried(offline, monkeypatch):
    with pytest.raises(DetkitError, match=r"(?s)download failed.*no network for https://.*by hand"):
        build("alexnet", weights="imagenet", allow_download=True)

    def fetch(url, file, hash_prefix, **_):
        assert (url.rsplit("/")[-1], hash_prefix) == ("alexnet-owt-7be5be79.pth", "7be5be79")
        torch.save(build("alexnet").state_dict(), file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    report = build("alexnet", weights="imagenet", allow_download=True).weights_report
    assert report.file == str(offline / "hub/checkpoints/alexnet-owt-7be5be79.pth")


@pytest.mark.parametrize("name", ["darknet53", "googlenet_2014", "unet_encoder_fpn"])
def test_networks_that_nobody_published_say_so(offline, name):
    with pytest.raises(DetkitError, match="publishes no ImageNet weights"):
        build(name, weights="imagenet", width=0.125)


def test_the_first_published_edition_comes_first(offline):
    (offline / "weights").mkdir()
    for name in ("resnet50-11ad3fa6.pth", "resnet50-0676ba61.pth"):
        (offline / "weights" / name).touch()
    assert pretrained.find_imagenet("resnet50", False).name == "resnet50-0676ba61.pth"
    (offline / "weights/resnet50-0676ba61.pth").unlink()
    assert pretrained.find_imagenet("resnet50", False).name == "resnet50-11ad3fa6.pth"


def test_torchvisions_googlenet_brings_its_own_normalization(tmp_path, monkeypatch):
    """Its wrapper turns ImageNet's normalisation into (x − 0.5) / 0.5; ours starts from that.

    The file is known by its content, whatever its name; here another one stands for it.
    """
    file = tmp_path / "mine.pth"
    torch.save(build("googlenet").state_dict(), file)
    other = pretrained.OTHER_NORMALIZATION["1378be20"]
    digits = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(pretrained, "OTHER_NORMALIZATION", {digits: other})
    net = build("googlenet_fpn", weights=str(file), fpn_channels=8)
    assert net.normalization.mean == net.normalization.std == (0.5, 0.5, 0.5)
    assert build("googlenet", width=0.25).normalization.mean == (0.485, 0.456, 0.406)
