"""Trees of classes: YAML of one's own, Darknet's files whole, and what is wrong with either."""

from __future__ import annotations

import pytest

from detkit.errors import DetkitError
from detkit.interop.darknet import read_names
from detkit.interop.hierarchy import named_as, places_in, read_classes

YAML = "animal: [cat, dog]\nvehicle: {car: [taxi, bus], cycle: }\n"


def test_yaml_is_read_with_each_class_behind_its_parent(tmp_path):
    (tmp_path / "tree.yaml").write_text(YAML)
    classes = read_classes(tmp_path / "tree.yaml")
    assert classes.names == ("animal", "cat", "dog", "vehicle", "car", "taxi", "bus", "cycle")
    assert classes.parents == (-1, 0, 0, -1, 3, 4, 4, 3)
    assert read_classes({"animal": ["cat", "dog"]}).parents == (-1, 0, 0)


def test_darknets_tree_takes_the_names_beside_it(tmp_path):
    (tmp_path / "a.tree").write_text("n1 -1\nn2 0\nn3 0\n")
    assert read_classes(tmp_path / "a.tree").names == ("n1", "n2", "n3")
    (tmp_path / "a.names").write_text("thing\nturkey\nturkey\n")
    classes = read_classes(tmp_path / "a.tree")
    assert classes.names == ("thing", "turkey (n2)", "turkey (n3)")
    assert classes.parents == (-1, 0, 0)


def test_9k_loads_whole(shared):
    folder = shared / "darknet/cfg"
    classes = read_classes(folder / "9k.tree")
    assert len(set(classes.names)) == 9418
    assert classes.names[4] == "body part"
    assert classes.parents[4] == 0
    coco = read_names(shared / "darknet/coco.names")
    places = places_in(classes, coco, folder / "coco9k.map")
    named = {name: classes.names[place] for name, place in zip(coco, places, strict=True)}
    assert named["dog"] == "dog"
    assert named["zebra"] == "zebra"
    renamed = named_as(classes, coco, places)
    assert len(set(renamed.names)) == 9418
    assert places_in(renamed, coco).tolist() == places.tolist()
    assert len(places_in(classes, [str(i) for i in range(200)], folder / "inet9k.map")) == 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a 1\nb 0\n", "among its own parents"),
        ("a -1\nb 7\n", "line 7 of 2"),
        ("a -1\na 0\n", "a is in the tree twice"),
    ],
)
def test_a_faulty_tree_is_named(tmp_path, text, words):
    (tmp_path / "a.tree").write_text(text)
    with pytest.raises(DetkitError, match=words) as error:
        read_classes(tmp_path / "a.tree")
    assert "a.tree" in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing stands where a class"),
        ("3: [a]\n", "3 stands where a class"),
        ("a: b\n", "'b' stands where a class"),
        ("a: [b]\nb: [c]\n", "b is in the tree twice"),
        ("a: [b\n", "The YAML is broken"),
    ],
)
def test_faulty_yaml_is_named(tmp_path, text, words):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(DetkitError, match=words) as error:
        read_classes(tmp_path / "a.yaml")
    assert "a.yaml" in str(error.value)


def test_names_of_another_number_a_missing_file_and_unknown_classes_are_named(tmp_path):
    (tmp_path / "a.tree").write_text("a -1\nb 0\n")
    (tmp_path / "a.names").write_text("one\n")
    with pytest.raises(DetkitError, match="1 names for a tree of 2"):
        read_classes(tmp_path / "a.tree")
    with pytest.raises(DetkitError, match="cannot be read"):
        read_classes(tmp_path / "none.yaml")
    classes = read_classes({"animal": ["cat", "dog"]})
    with pytest.raises(DetkitError, match=r"class cats is not in the tree\. Did you mean cat"):
        places_in(classes, ["cats"])
    (tmp_path / "a.map").write_text("1\n")
    with pytest.raises(DetkitError, match="1 places for the data's 2 classes"):
        places_in(classes, ["cat", "dog"], tmp_path / "a.map")
    (tmp_path / "a.map").write_text("1\n1\n")
    with pytest.raises(DetkitError, match=r"Two classes lead to the place 1 \(cat\)"):
        places_in(classes, ["cat", "dog"], tmp_path / "a.map")


def test_a_mapped_place_has_the_datas_name_and_no_other_class_has_it():
    tree = read_classes({"device": ["computer mouse"], "animal": ["mouse"]})
    renamed = named_as(tree, ["mouse"], places_in(tree, ["computer mouse"]))
    assert renamed.names == ("device", "mouse", "animal", "mouse (3)")
    assert renamed.parents == tree.parents
